"""Correctly rounded elementary functions."""

from precsim._arrays import Array, ArrayLike, namespace
from precsim.arithmetic.elementary import bits as elementary_bits
from precsim.arithmetic.operation import apply
from precsim.arithmetic.signatures import unary
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.scaled import refuse_scaled
from precsim.rounding.modes import OverflowMode
from precsim.rounding.spec import RoundingSpec, SpecLike

MAX_PRECISION = 24
"""Significant bits of the formats for which correct rounding is proved."""


@unary
def exp(x: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None) -> Array:
    """Return e**x, rounded once.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64, in the format or not.
    spec : str, Format or RoundingSpec
        Format and rule of the result; at most 24 significant bits.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        The rounded result, in the dtype and library of `x`.

    Raises
    ------
    ValueError
        If the format has more than 24 significant bits (correct rounding is proved to there), if
        the carrier cannot hold it, or if `random_bits` are missing in mode sr.
    TypeError
        If `x` is not float32 or float64, or `random_bits` are not integers.

    Notes
    -----
    Special values (IEEE 754-2019, 9.2): 1 for both zeros, 0 for -infinity; then `round_to`'s rules.

    Error: that of one rounding of the exact result, in every mode, for every float32 number, in
    both carriers. (Proved by computation: for all 2**32 of them, the exact result is farther from
    the nearest rounding boundary than the error of the integer arithmetic, 2**-59 relative and
    2**-123 in float64.) For other float64 numbers the same is true unless the exact result is
    closer than 2**-123 to a boundary; at random that happens to one number in 2**97. With fixed
    point that wraps, the low bits of all results would have to lie within the 24 bits, so `exp`
    refuses it.

    Mode sr with N random bits: as above if the precision plus N is at most 24. With more, the
    fraction that is compared with the random bits may be off by one in the last of its N bits,
    where the exact result is closer than 2**-59 (2**-123) to a change of that bit.

    Gradient: that of the unrounded function, computed in the carrier (straight-through).

    Cost: about 950 integer operations per element and 18 gathers from a small table (`log` 1,200,
    `tanh`, `erf` and `rsqrt` 1,000, `sigmoid` 1,600); under jit, in float32 on a CPU, 15 to 45
    times the time of JAX's own function. The first call computes the table, in at most 0.4 s.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.exp([0.0, 1.0, -1.0], "bf16").tolist()
    [1.0, 2.71875, 0.3671875]
    >>> ps.exp(2.0**-30, "fp16:rtp").item(), ps.exp(-1e9, "fp16:rtp").item()
    (1.0009765625, 5.9604644775390625e-08)
    """
    spec = _provable("exp", spec, 1024)
    return apply(elementary_bits.exp_bits, _unrounded_exp, (x,), spec, random_bits)


@unary
def log(x: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None) -> Array:
    """Return the natural logarithm of x, rounded once.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64.
    spec : str, Format or RoundingSpec
        Format and rule of the result; at most 24 significant bits.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        The rounded logarithm; error, gradient, cost and exceptions as in `exp`.

    Notes
    -----
    Special values (IEEE 754-2019, 9.2): +0 for 1, -infinity for both zeros, NaN below zero.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.log([1.0, 10.0, 0.0, -1.0], "bf16").tolist()
    [0.0, 2.296875, -inf, nan]
    """
    spec = _provable("log", spec, 10)
    return apply(elementary_bits.log_bits, _unrounded_log, (x,), spec, random_bits)


@unary
def tanh(x: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None) -> Array:
    """Return the hyperbolic tangent of x, rounded once.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64.
    spec : str, Format or RoundingSpec
        Format and rule of the result; at most 24 significant bits.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        The rounded result; error, gradient, cost and exceptions as in `exp`.

    Notes
    -----
    Special values (IEEE 754-2019, 9.2): zeros keep their sign; 1 with the sign of x for infinities.
    Any other result lies strictly between 0 and x, and within 1, and is rounded as such.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.tanh([0.5, -3.0, 100.0], "bf16").tolist()
    [0.462890625, -0.99609375, 1.0]
    >>> ps.tanh(100.0, "bf16:rtz").item()
    0.99609375
    """
    spec = _provable("tanh", spec, 0)
    return apply(elementary_bits.tanh_bits, _unrounded_tanh, (x,), spec, random_bits)


@unary
def erf(x: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None) -> Array:
    """Return the error function of x, rounded once.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64.
    spec : str, Format or RoundingSpec
        Format and rule of the result; at most 24 significant bits.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        The rounded result; error, gradient, cost and exceptions as in `exp`.

    Notes
    -----
    ``erf(x) = 2 / sqrt(pi)`` times the integral of exp(-t**2) from 0 to x. Special values (C23,
    F.10.5.1): zeros keep their sign; 1 with the sign of x for infinities.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.erf([0.5, -1.0, 10.0], "bf16").tolist()
    [0.51953125, -0.84375, 1.0]
    """
    spec = _provable("erf", spec, 0)
    return apply(elementary_bits.erf_bits, _unrounded_erf, (x,), spec, random_bits)


@unary
def sigmoid(x: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None) -> Array:
    """Return 1 / (1 + e**-x), rounded once.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64.
    spec : str, Format or RoundingSpec
        Format and rule of the result; at most 24 significant bits.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        The rounded result; error, gradient, cost and exceptions as in `exp`.

    Notes
    -----
    Special values: 1/2 for both zeros, 0 for -infinity, 1 for infinity.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.sigmoid([0.0, 1.0, -20.0], "bf16").tolist()
    [0.5, 0.73046875, 2.066371962428093e-09]
    """
    spec = _provable("sigmoid", spec, 0)
    return apply(elementary_bits.sigmoid_bits, _unrounded_sigmoid, (x,), spec, random_bits)


@unary
def rsqrt(x: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None) -> Array:
    """Return 1 / sqrt(x), rounded once.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64.
    spec : str, Format or RoundingSpec
        Format and rule of the result; at most 24 significant bits.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        The rounded result; error, gradient, cost and exceptions as in `exp`. In a float64 carrier
        the rounding is proved for all float64 numbers.

    Notes
    -----
    Special values (IEEE 754-2019, 9.2): infinity with the sign of x for zeros, 0 for infinity, NaN
    below zero.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.rsqrt([4.0, 2.0, -0.0], "bf16").tolist()
    [0.5, 0.70703125, -inf]
    """
    spec = _provable("rsqrt", spec, 538)
    return apply(elementary_bits.rsqrt_bits, _unrounded_rsqrt, (x,), spec, random_bits)


def _provable(name: str, spec: SpecLike, integer_bits: int) -> RoundingSpec:
    """Return the spec if every rounding boundary that results can meet has at most 25 bits.

    The function's results are at most ``2**integer_bits`` in size.
    """
    spec = RoundingSpec.parse(spec)
    fmt = spec.format
    refuse_scaled(fmt, "spec")
    if isinstance(fmt, FixedPointFormat):
        wraps = spec.overflow is OverflowMode.WRAP
        needed = (
            integer_bits if wraps else min(integer_bits, fmt.integer_bits)
        ) + fmt.fraction_bits
    else:
        needed = fmt.precision
    if needed > MAX_PRECISION:
        raise ValueError(
            f"spec is {spec}, for which results of {name} have up to {needed} significant bits; allowed are "
            f"{MAX_PRECISION}, the most for which correct rounding is proved"
        )
    return spec


def _unrounded_exp(x: Array) -> Array:
    return namespace(x).exp(x)


def _unrounded_log(x: Array) -> Array:
    return namespace(x).log(x)


def _unrounded_tanh(x: Array) -> Array:
    return namespace(x).tanh(x)


def _unrounded_erf(x: Array) -> Array:
    from jax.scipy.special import erf

    return erf(x)


def _unrounded_sigmoid(x: Array) -> Array:
    from jax.nn import sigmoid

    return sigmoid(x)


def _unrounded_rsqrt(x: Array) -> Array:
    from jax.lax import rsqrt

    return rsqrt(x)
