"""Error bounds of the orders of summation, for sums of products in a rounded accumulator."""

import math

from precsim.analysis.bounds.gamma import (
    UnitRoundoff,
    deviations,
    gamma,
    probabilistic_gamma,
    unit_roundoff_of,
)
from precsim.arithmetic.sums.order import (
    Blocked,
    Exact,
    Kahan,
    Order,
    Pairwise,
    TwoSum,
    parse_order,
)
from precsim.formats.arguments import integer, shown
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec, SpecLike


def order_bound(
    order: str | Order,
    n: int,
    unit_roundoff: UnitRoundoff,
    *,
    confidence: float | None = None,
    num_results: int = 1,
) -> float:
    """Return a bound on the error of n added products, over the sum of their magnitudes.

    Parameters
    ----------
    order : str or Order
        "sequential", "pairwise", "blockedN", "kahan", "two_sum" or "exact", as in `MatmulSpec`.
        Products of machines are bounded by `precsim.running_bound`.
    n : int
        Number of products, K of a matrix product, at least 1.
    unit_roundoff : float, str, FloatFormat or RoundingSpec
        As in `gamma`: u of the accumulator. A number u counts as one of rounding to nearest.
    confidence : float, optional
        Least probability, between 0 and 1, with which the bound shall hold for random rounding
        errors; None asks for the bound that always holds.
    num_results : int
        Number of sums for which it shall hold at once. Used with `confidence`.

    Returns
    -------
    float
        B with ``|computed - exact| <= B * sum_k |a[k] b[k]|``.

    Raises
    ------
    ValueError
        If `order`, `n` or `unit_roundoff` is out of range, or rounding is not to nearest and the
        order's bound needs that (kahan, two_sum), or ``n u >= 1``, or for kahan
        ``u + n u**2 >= 1``; with `confidence`, if the mode is directed.

    Notes
    -----
    The bounds hold without overflow and underflow, for products that are exact or rounded to the
    accumulator, as the order says. To nearest they are, with ``r(n) = min(n u, 1)``:

    * sequential: r(n). Each rounding errs by at most u times its result, and by at most the term
      that is added, since the total before it is a value of the format; the first part for any n is
      due to Jeannerod and Rump.
    * blockedN: ``r(N) + r(ceil(n / N)) (1 + r(N))``: the blocks' errors and those of adding the
      blocks.
    * pairwise: ``gamma(ceil(log2 n) + 2, u)``, which counts the products and a last addition to the
      first value.
    * kahan: ``u + (1 + u) (a + b) / (1 - b)`` with ``b = u + n u**2``, ``a = 2 u + O(u**2)``: the
      products, then the sum; about ``4 u + n u**2``. Derived, with every constant, in
      :doc:`/explanation/orders`.
    * two_sum: ``u + (1 + u) (u + r(n)**2 (1 + u))``: products, then Sum2, whose errors are a
      sequential sum themselves.
    * exact: u.

    In other modes the bound is `gamma` of the number of roundings of a term, with u = 2**(1 - p).

    With `confidence`, h roundings of a term give ``exp(lambda sqrt(h) u + h u**2 / (1 - u)) - 1``
    where ``2 num_results n exp(-lambda**2 (1 - u)**2 / 2) = 1 - confidence``; h is n (sequential),
    ``ceil(log2 n) + 2`` (pairwise), ``N + ceil(n / N)`` (blockedN). The bound above counts where it
    is smaller, and for kahan, two_sum and exact, whose part in n is of order u**2. The errors have
    to be independent in the mean and of mean 0: stochastic rounding has such (u = 2**(1 - p)), for
    rounding to nearest it is a model. Errors of directed modes are not.

    Source: Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd edition, 4.2 and 4.3;
    Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019; Connolly, Higham and Mary, SIAM J. Sci.
    Comput. 43(1), 2021; Jeannerod and Rump, SIAM J. Matrix Anal. Appl. 34(2), 2013; Ogita, Rump
    and Oishi, SIAM J. Sci. Comput. 26(6), 2005.

    Examples
    --------
    >>> import precsim as ps
    >>> [f"{ps.errors.order_bound(order, 10_000, 'fp32'):.1e}"
    ...  for order in ("sequential", "blocked100", "pairwise", "exact")]
    ['6.0e-04', '1.2e-05', '9.5e-07', '6.0e-08']
    >>> f"{ps.errors.order_bound('sequential', 10_000, 'fp32', confidence=0.99):.1e}"
    '3.2e-05'
    """
    order, n = _order(order), integer(n, "n", 1)
    if confidence is None:
        return _always(order, n, unit_roundoff)
    height = _height(order, n)
    u, lambda_ = unit_roundoff_of(unit_roundoff), deviations(n, confidence, num_results)
    _check_random(unit_roundoff)
    if height is None:
        return _always(order, n, unit_roundoff)
    likely = probabilistic_gamma(height, u, lambda_=lambda_ / (1 - u))
    try:
        return min(likely, _always(order, n, unit_roundoff))
    except ValueError:  # n u is 1 or more, which ends the other bound only
        return likely


def _order(given: str | Order) -> Order:
    try:
        return parse_order(given)
    except ValueError as error:
        if ":" not in str(given):
            raise
        hint = f"for products see precsim.running_bound(..., policy='fwd={shown(given)[1:-1]}')"
        raise ValueError(f"{error}; {hint}") from None


def _height(order: Order, n: int) -> int | None:
    """Return how many roundings a term passes through; None where they are compensated."""
    match order:
        case Exact() | Kahan() | TwoSum():
            return None
        case Pairwise():
            return math.ceil(math.log2(n)) + 2
        case Blocked(size=size):
            return min(size, n) - (-n // size)
        case _:
            return n


def _check_random(given: UnitRoundoff) -> None:
    """Refuse modes whose errors have one direction."""
    if isinstance(given, SpecLike):
        mode = RoundingSpec.parse(given).mode
        if not mode.is_nearest and mode is not RoundingMode.STOCHASTIC:
            raise ValueError(
                f"unit_roundoff is '{given}'; allowed with a confidence are formats rounded to "
                "nearest or stochastically"
            )


def _always(order: Order, n: int, unit_roundoff: UnitRoundoff) -> float:
    """Return the bound that holds for all data."""
    u = unit_roundoff_of(unit_roundoff)
    if isinstance(order, Exact):
        return u
    if isinstance(order, Pairwise):
        return gamma(math.ceil(math.log2(n)) + 2, u)
    blocks = -(-n // order.size) if isinstance(order, Blocked) else 0
    if not _is_to_nearest(unit_roundoff):
        if isinstance(order, (Kahan, TwoSum)):
            raise ValueError(
                f"unit_roundoff is '{unit_roundoff}'; allowed for order '{order}' are formats rounded to nearest"
            )
        return gamma(order.size + blocks if isinstance(order, Blocked) else n, u)
    match order:
        case Blocked(size=size):
            inside = min(min(size, n) * u, 1.0)
            return inside + min(blocks * u, 1.0) * (1 + inside)
        case Kahan():
            return u + (1 + u) * _kahan_sum(n, u)
        case TwoSum():
            return u + (1 + u) * (u + min(n * u, 1.0) ** 2 * (1 + u))
        case _:
            return min(n * u, 1.0)


def _kahan_sum(n: int, u: float) -> float:
    """Return the bound for n terms that need no rounding, in the letters of the derivation."""
    step = 1 - 2 * u * (1 + u) ** 2
    b = u + n * u * u
    if step <= 0 or b >= 1:
        raise ValueError(
            f"n is {n} and u is {u}; allowed for order 'kahan' are u up to 1/4 and u + n u**2 below 1"
        )
    a = u * (1 + (1 + u) / step * (1 + 10 * u + 4 * u * u))
    return (a + b) / (1 - b)


def _is_to_nearest(given: UnitRoundoff) -> bool:
    if not isinstance(given, SpecLike):
        return True
    return RoundingSpec.parse(given).mode.is_nearest
