"""What theory predicts: deterministic and probabilistic bounds on rounding errors."""

import math
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from precsim._arrays import ArrayLike
from precsim.formats.arguments import integer
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.reals import real
from precsim.formats.scaled import refuse_scaled
from precsim.rounding.spec import RoundingSpec, SpecLike

UnitRoundoff: TypeAlias = float | SpecLike
"""A number u, or the floating-point format or spec whose u is meant."""


def gamma(n: int, unit_roundoff: UnitRoundoff) -> float:
    """Return ``n u / (1 - n u)``, the bound on the relative error that n roundings build up.

    Parameters
    ----------
    n : int
        Number of roundings, at least 0.
    unit_roundoff : float, str, FloatFormat or RoundingSpec
        Number u between 0 and 1, or a format or spec: u = 2**-p for its rounding to nearest,
        2**(1 - p) for its other modes ("fp16:rtz", "bf16:sr8").

    Returns
    -------
    float
        The smallest float64 that is not below the exact value.

    Raises
    ------
    ValueError
        If ``n u >= 1``, where the bound does not hold, or `n` or `unit_roundoff` is out of range.

    Notes
    -----
    If each ``|delta_i| <= u``, then a product of n factors ``(1 + delta_i)**(+1 or -1)`` is
    ``1 + theta`` with ``|theta| <= gamma(n, u)``. Underflow and overflow are not covered. Error:
    the exact quotient is rounded once, upward.

    Source: Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd edition, lemma 3.1.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.gamma(1000, 2**-24), ps.gamma(100, "bf16")
    (5.960819e-05, 0.6410256410256411)
    >>> ps.gamma(4096, "fp16")
    Traceback (most recent call last):
    ...
    ValueError: n * unit_roundoff is 4096 * 0.000488 = 2; allowed is less than 1
    """
    u = unit_roundoff_of(unit_roundoff)
    nu = integer(n, "n", 0) * Fraction(u)
    if nu >= 1:
        raise ValueError(
            f"n * unit_roundoff is {n} * {u:.3g} = {float(nu):.3g}; allowed is less than 1"
        )
    exact = nu / (1 - nu)
    nearest = float(exact)
    return nearest if Fraction(nearest) >= exact else math.nextafter(nearest, math.inf)


def probabilistic_gamma(
    n: int,
    unit_roundoff: UnitRoundoff,
    *,
    confidence: float | None = None,
    lambda_: float | None = None,
    num_results: int = 1,
) -> float:
    """Return ``exp(lambda sqrt(n) u + n u**2 / (1 - u)) - 1``, a bound for random rounding errors.

    Parameters
    ----------
    n : int
        Length of the inner product (or number of roundings), at least 1.
    unit_roundoff : float, str, FloatFormat or RoundingSpec
        As in `gamma`.
    confidence : float, optional
        Least probability with which the bound shall hold, between 0 and 1; it fixes lambda.
    lambda_ : float, optional
        The lambda of the formula, positive. Exactly one of `confidence` and `lambda_` must be
        given.
    num_results : int
        Number of inner products for which the bound shall hold at once: m n for a product of shape
        (m, n). Used with `confidence`.

    Returns
    -------
    float
        The bound, about ``lambda sqrt(n) u``.

    Raises
    ------
    ValueError
        If an argument is out of range, or not exactly one of `confidence`, `lambda_` is given.

    Notes
    -----
    The bound holds with probability at least ``1 - 2 num_results n exp(-lambda**2 (1 - u)**2 / 2)``
    for an inner product of length n, if the rounding errors are independent random variables of
    mean zero with ``|delta_i| <= u``. Rounding to nearest is deterministic: for it this is a model,
    which fails on purpose-made data. Stochastic rounding obeys it (with u = 2**(1 - p)), since mean
    independence suffices (Connolly, Higham and Mary 2021). Error: relative error about 1e-15.

    Source: Higham and Mary, A new approach to probabilistic rounding error analysis, SIAM J. Sci.
    Comput. 41 (2019), A2815-A2835, theorem 2.4 and section 3 (by Hoeffding's inequality).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.probabilistic_gamma(10_000, "fp32", confidence=0.99)
    3.210822e-05
    >>> ps.gamma(10_000, "fp32")
    0.0005964019
    """
    u = unit_roundoff_of(unit_roundoff)
    n, num_results = integer(n, "n", 1), integer(num_results, "num_results", 1)
    if (confidence is None) == (lambda_ is None):
        raise ValueError(
            f"confidence is {confidence} and lambda_ is {lambda_}; exactly one must be given"
        )
    if confidence is not None:
        lambda_ = deviations(n, confidence, num_results) / (1 - u)
    assert lambda_ is not None
    if not 0 < real(lambda_, "lambda_") < math.inf:
        raise ValueError(f"lambda_ is {lambda_}; allowed are positive numbers")
    exponent = lambda_ * math.sqrt(n) * u + n * u * u / (1 - u)
    return math.expm1(exponent) if exponent < 709 else math.inf


def deviations(n: int, confidence: float, num_results: int) -> float:
    """Return ``lambda (1 - u)``: the deviations that sums of n terms keep within at once."""
    if not 0 < real(confidence, "confidence") < 1:
        raise ValueError(f"confidence is {confidence}; allowed is between 0 and 1")
    num_results = integer(num_results, "num_results", 1)
    return math.sqrt(2 * math.log(2 * num_results * n / (1 - confidence)))


def matmul_bound(
    a: ArrayLike, b: ArrayLike, unit_roundoff: UnitRoundoff, *, n: int | None = None
) -> np.ndarray:
    """Return ``gamma(n, u) |a| |b|``, the bound on each component's error of a matrix product.

    Parameters
    ----------
    a : array_like of float, shape (..., m, k)
        Left operand, as the product sees it (already rounded, if it rounds its operands).
    b : array_like of float, shape (..., k, n)
        Right operand; shapes as in `numpy.matmul`.
    unit_roundoff : float, str, FloatFormat or RoundingSpec
        As in `gamma`: of the format that products and sums are rounded to.
    n : int, optional
        Roundings that a product passes through at most; k by default, right for every order of the
        sum. Exact products need k - 1; a rounding of the output adds 1.

    Returns
    -------
    ndarray of float64, shape (..., m, n)
        Bounds on ``|computed - a b|``, in the unit of the product.

    Raises
    ------
    ValueError
        If ``n u >= 1``, or the shapes do not fit.

    Notes
    -----
    Special values: infinity or NaN in the operands gives infinity or NaN. Underflow and overflow
    are not covered. Error: never below the exact bound, and above it by at most
    ``gamma(4 * k + 4, "fp64")`` relatively: ``|a| |b|`` is computed in float64 and then enlarged.

    Source: Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd edition, (3.13).

    Examples
    --------
    >>> matmul_bound([[1.0, -2.0]], [[3.0], [4.0]], "fp16")
    array([[0.0107526]])
    """
    left, right = np.abs(np.asarray(a, np.float64)), np.abs(np.asarray(b, np.float64))
    scale = np.asarray(left @ right)
    k = left.shape[-1]
    # k roundings in |a| |b|, then three more: this product's two and that of 1 + gamma.
    enlarged = 1 + gamma(k + 3, "fp64")
    return np.asarray(scale * (gamma(k if n is None else n, unit_roundoff) * enlarged))


def unit_roundoff_of(given: UnitRoundoff) -> float:
    """Return u of a number, a format or a spec."""
    if not isinstance(given, SpecLike):
        u = float(real(given, "unit_roundoff"))
        if not 0 < u < 1:
            raise ValueError(f"unit_roundoff is {given}; allowed is between 0 and 1, or a format")
        return u
    spec = RoundingSpec.parse(given)
    fmt = spec.format
    refuse_scaled(fmt, "unit_roundoff")
    nearest = None if isinstance(fmt, FixedPointFormat) else fmt.unit_roundoff
    if nearest is None:
        raise ValueError(f"unit_roundoff is {fmt}; fixed point has none, its errors are absolute")
    return nearest if spec.mode.is_nearest else 2 * nearest
