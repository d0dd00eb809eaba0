"""Sums in a stated order, every partial sum rounded."""

from typing import Any, overload

import numpy as np

from precsim._arrays import (
    Array,
    ArrayLike,
    JaxArray,
    NumPyLike,
    as_integers,
    bitcast,
    entry,
    is_jax,
    namespace,
)
from precsim._calls import call
from precsim._loops import repeat
from precsim.arithmetic.elementwise import add, subtract
from precsim.arithmetic.sums.exact import Summands, exact_sum
from precsim.arithmetic.sums.order import Exact, Order, Pairwise, Sequential, parse_order
from precsim.arithmetic.sums.ordered import Place, Terms, ordered_sum
from precsim.arithmetic.sums.superaccumulator import Integers, range_of, significands
from precsim.formats.arguments import axis_of
from precsim.formats.carrier import as_carrier
from precsim.rounding.modes import RoundingMode
from precsim.rounding.random_bits import as_random_bits
from precsim.rounding.spec import RoundingSpec, SpecLike


@overload
def accumulate(
    x: JaxArray,
    spec: SpecLike,
    *,
    axis: int | None = None,
    order: str | Order = "sequential",
    random_bits: ArrayLike | None = None,
) -> JaxArray: ...
@overload
def accumulate(
    x: NumPyLike,
    spec: SpecLike,
    *,
    axis: int | None = None,
    order: str | Order = "sequential",
    random_bits: NumPyLike | None = None,
) -> np.ndarray: ...
@overload
def accumulate(
    x: ArrayLike,
    spec: SpecLike,
    *,
    axis: int | None = None,
    order: str | Order = "sequential",
    random_bits: ArrayLike | None = None,
) -> Array: ...
def accumulate(
    x: ArrayLike,
    spec: SpecLike,
    *,
    axis: int | None = None,
    order: str | Order = "sequential",
    random_bits: ArrayLike | None = None,
) -> Array:
    """Sum along an axis in a stated order, rounding every partial sum.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64; taken as they are, never rounded themselves.
    spec : str, Format or RoundingSpec
        Format and rule of every partial sum.
    axis : int, optional
        The axis to sum along; by default all elements, in row-major order.
    order : str or Order
        "sequential": start from +0, then ``s = fl(s + x[k])`` for ascending k. "pairwise": level by
        level ``fl(x[0] + x[1]), fl(x[2] + x[3]), ...``; an odd last element goes up as it is.
        "blockedN": blocks of N are summed sequentially from +0 and added to the total in order.
        "kahan": compensated (algorithm 4.2 of Higham). "two_sum": Sum2 of Ogita, Rump and Oishi.
        "exact": the exact sum, rounded once (a sum of zero is +0, in mode rtn -0).
    random_bits : array_like of int, shape (...) of `x`, optional
        For mode sr. "sequential": element k serves the k-th addition. "pairwise": the additions are
        numbered level by level, each level from left to right. "exact": the bits of the first
        element serve.

    Returns
    -------
    ndarray or jax.Array, shape of `x` without `axis`
        The sum; same library and dtype as `x`. An empty sum is +0; a sum of one element is that
        element, rounded (0 + -0 is +0).

    Raises
    ------
    ValueError
        If `order` or `axis` is unknown, the carrier cannot hold the format, `random_bits` are
        missing in mode sr, or an exact sum has 2**31 terms or more.

    Notes
    -----
    Without overflow, and to nearest with unit roundoff u, the error is at most (Higham, *Accuracy
    and Stability*, 2nd edition, 4.2 and 4.3):

    * sequential: ``gamma(n - 1, u) * sum|x|``;
    * pairwise: ``gamma(ceil(log2 n), u) * sum|x|``;
    * blocks of N: ``gamma(N + ceil(n / N), u) * sum|x|``;
    * kahan: ``(2 u + O(n u**2)) * sum|x|``;
    * two_sum: ``u |s| + gamma(n - 1, u)**2 * sum|x|``;
    * exact: one rounding of the exact sum.

    The first three add one rounding of inputs that are not in the format. Each addition is one
    rounding of the exact sum of two carrier values, so compilers cannot change it.

    Cost: n additions of about 150 integer operations (exact: 400 in float32, 1,300 in float64); one
    compiled loop under JAX.

    Examples
    --------
    Ones stop counting at 2**11 in binary16, in this order:

    >>> import numpy as np, precsim as ps
    >>> ones = np.ones(5000, np.float32)
    >>> float(ps.accumulate(ones, "fp16")), float(ps.accumulate(ones, "fp16", order="pairwise"))
    (2048.0, 5000.0)
    """
    spec = RoundingSpec.parse(spec)
    order = parse_order(order)
    x, carrier = as_carrier(x)
    is_stochastic = spec.mode is RoundingMode.STOCHASTIC
    if random_bits is not None:
        random_bits = as_integers(random_bits, "random_bits")
        if random_bits.shape != x.shape:
            raise ValueError(
                f"random_bits has shape {random_bits.shape}; allowed is the shape of x, {x.shape}"
            )
    bits = as_random_bits(random_bits, (x,), carrier, spec, "element of x")
    if axis is not None:
        axis = axis_of(axis, x.shape)
    if is_stochastic and not isinstance(order, (Exact, Pairwise, Sequential)):
        raise ValueError(
            f"order is '{order}'; allowed in mode 'sr' are 'sequential', 'pairwise' and 'exact', which need one "
            "random integer per element at most"
        )
    option = spec, order, axis
    if isinstance(order, Pairwise) and not (is_jax(x) or is_jax(bits)):
        return _sum(option, x, bits)  # few steps, which `add` runs compiled where that is worth it
    # A step of an exact sum is short in NumPy, and its compilation long.
    steps = x.size if axis is None else x.shape[axis]
    return call(_sum, option, x, bits, steps=steps, patience=32 if isinstance(order, Exact) else 1)


def _sum(
    option: tuple[RoundingSpec, Order, int | None], x: Array, random_bits: Array | None
) -> Array:
    spec, order, axis = option
    bits = random_bits if spec.mode is RoundingMode.STOCHASTIC else None
    if axis is None:
        return _sum_rows(spec, order, x.reshape(-1), None if bits is None else bits.reshape(-1))
    xp = namespace(x)
    bits = None if bits is None else xp.moveaxis(bits, axis, 0)
    return _sum_rows(spec, order, xp.moveaxis(x, axis, 0), bits)


def _sum_rows(spec: RoundingSpec, order: Order, rows: Array, bits: Array | None) -> Array:
    """Sum over the first axis."""
    match order:
        case Exact():
            return _exact(rows, bits, spec)
        case Pairwise():
            return _pairwise(rows, bits, spec)
        case Sequential():
            return _sequential(rows, bits, spec)

    # No rounding is stochastic here, so that no place matters.
    def plus(x: Array, y: Array, at: Place) -> Array:
        return add(x, y, spec)

    def minus(x: Array, y: Array, at: Place) -> Array:
        return subtract(x, y, spec)

    def term(k: Any) -> Array:
        return rows[k]

    def step(total: Array, k: Any) -> Array:
        return plus(total, rows[k], (k, 0))

    zero = namespace(rows).zeros(rows.shape[1:], rows.dtype)
    return ordered_sum(Terms(rows.shape[0], term, step, plus, minus), zero, order)


def _sequential(rows: Array, bits: Array | None, spec: RoundingSpec) -> Array:
    def body(k: Array, total: Array) -> Array:
        return add(total, rows[k], spec, random_bits=None if bits is None else bits[k])

    zero = namespace(rows).zeros(rows.shape[1:], rows.dtype)
    return repeat(rows.shape[0], body, zero) if rows.shape[0] else zero


def _pairwise(rows: Array, bits: Array | None, spec: RoundingSpec) -> Array:
    xp = namespace(rows)
    if rows.shape[0] < 2:
        return _sequential(rows, bits, spec)
    used = 0
    while rows.shape[0] > 1:
        pairs = rows.shape[0] // 2
        noise = None if bits is None else bits[used : used + pairs]
        sums = add(rows[0 : 2 * pairs : 2], rows[1 : 2 * pairs : 2], spec, random_bits=noise)
        rows = xp.concatenate([sums, rows[2 * pairs :]])
        used += pairs
    return rows.reshape(rows.shape[1:])


def _exact(rows: Array, bits: Array | None, spec: RoundingSpec) -> Array:
    carrier = as_carrier(rows)[1]
    patterns = bitcast(rows, carrier.uint_dtype)
    integers = significands(patterns, None, carrier)
    summands = Summands(
        rows.shape[0],
        lambda k: Integers(*(entry(part, k) for part in integers)),
        lambda k: entry(patterns, k),
        True,
        range_of(None, carrier),
    )
    start = namespace(rows).zeros(rows.shape[1:], carrier.uint_dtype)
    noise = None
    if bits is not None:
        # An empty sum is exact; no bit decides.
        noise = bits[0] if len(bits) else start
    result = exact_sum(summands, start, spec, carrier, starts_from_zero=True, random_bits=noise)
    return bitcast(result, carrier.float_dtype)
