"""What a rounding did to the range of its inputs: underflow, subnormals, overflow, saturation.

Elements are compared as integers, since XLA flushes float32 subnormals in floating-point
comparisons.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from precsim._arrays import Array, ArrayLike, bitcast, count_true
from precsim._loops import traced_once
from precsim.formats.carrier import Carrier, as_carrier, select
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.rounding.kernel.limits import first_of_chop, is_coarse, limits
from precsim.rounding.kernel.outward import is_outward
from precsim.rounding.modes import EvenRule, OverflowMode, RoundingMode, SubnormalMode
from precsim.rounding.spec import RoundingSpec, SpecLike


class Events(NamedTuple):
    """One entry per kind of event, in the order of the vector that `count_events` returns.

    Examples
    --------
    >>> import precsim as ps
    >>> counts = ps.errors.count_events([1e-9, 2.0], ps.round_to([1e-9, 2.0], "e4m3"), "e4m3")
    >>> ps.errors.Events(*counts.tolist()).underflowed
    1
    """

    elements: Any
    """All elements."""
    nonzero: Any
    """Inputs other than +0, -0 and NaN."""
    underflowed: Any
    """Nonzero inputs that became +0 or -0."""
    subnormal: Any
    """Results between zero and the smallest normal value; none in fixed point."""
    overflowed: Any
    """Finite inputs that became infinity or NaN, or wrapped around."""
    saturated: Any
    """Inputs beyond the range, infinities included, that became a finite value (wrapping apart)."""
    nan: Any
    """Inputs that were NaN; they count as elements only."""


def count_events(before: ArrayLike, after: ArrayLike, spec: SpecLike) -> Array:
    """Count what a rounding did to the range of its inputs.

    Parameters
    ----------
    before : array_like of float, shape (...)
        Inputs of the rounding, float32 or float64.
    after : array_like of float, shape (...)
        ``round_to(before, spec)``, same dtype.
    spec : str, Format or RoundingSpec
        Format and rule of the rounding; static under jit.

    Returns
    -------
    ndarray or jax.Array of int32, shape (7,)
        Counts in the order of `Events`: elements, nonzero, underflowed, subnormal, overflowed,
        saturated, nan.

    Raises
    ------
    ValueError
        If the carrier cannot hold the format, or the shapes differ, or `spec` is of a block or
        affine format (`precsim.errors.range_rates` takes those).
    TypeError
        If `before` or `after` is not float32 or float64, or the dtypes differ.

    Notes
    -----
    Special values: -0 is a zero, before and after. A number is beyond the range if it rounds to
    more than the largest value in the mode of `spec` with an unlimited exponent range. So 448.5 is
    not beyond e4m3's: it rounds to 448. In mode "sr" a number is beyond the range from the next
    value of the unlimited range on. Negative numbers are beyond the range of an unsigned format,
    unless they round to zero. A zero that a format without zero turns into NaN counts as
    overflowed.

    Error: none, up to 2**31 - 1 elements; the same under jit. About 20 integer operations per
    element.

    Source: IEEE 754-2019, 7.4 and 7.5 (overflow and underflow, tininess after rounding).

    Examples
    --------
    >>> import numpy as np
    >>> import precsim as ps
    >>> before = np.float32([1e-3, 1e-9, -0.0, 500.0, 2.0, np.nan])
    >>> count_events(before, ps.round_to(before, "e4m3:saturate"), "e4m3:saturate").tolist()
    [6, 4, 1, 1, 0, 1, 1]
    """
    spec = RoundingSpec.parse(spec)
    before, after = checked_pair(before, after)
    return count(before, after, spec)


@traced_once("spec")
def count(before: Array, after: Array, spec: RoundingSpec) -> Array:
    """Count as `count_events` does, what has been checked."""
    return count_true(*classify(before, after, spec))


def checked_pair(before: ArrayLike, after: ArrayLike) -> tuple[Array, Array]:
    """Return both as arrays of one dtype and one shape; refuse any others."""
    before, after = as_carrier(before, "before")[0], as_carrier(after, "after")[0]
    if after.dtype != before.dtype:
        raise TypeError(f"after has dtype {after.dtype}; allowed is that of before, {before.dtype}")
    if after.shape != before.shape:
        raise ValueError(
            f"after has shape {after.shape}; allowed is that of before, {before.shape}"
        )
    return before, after


def classify(before: Array, after: Array, spec: SpecLike) -> Events:
    """Return, for each kind of event, a flat boolean array: which elements it happened to.

    `before` and `after` are carrier values of one shape. `elements` is True, for all of them.
    """
    spec, carrier = RoundingSpec.parse(spec), as_carrier(before)[1]
    bits = bitcast(before, carrier.uint_dtype).reshape(-1)
    result = bitcast(after, carrier.uint_dtype).reshape(-1)
    smallest = carrier.uint(limits(spec, carrier).min_normal)
    return from_patterns(bits, result, is_beyond(bits, spec, carrier), smallest, spec, carrier)


def is_beyond(bits: Array, spec: RoundingSpec, carrier: Carrier) -> Array:
    """Return which patterns are of numbers beyond the range of a format, infinities included."""
    u = carrier.uint
    magnitude = bits & u(carrier.sign_bit - 1)
    positive_end, negative_end = first_beyond(spec, carrier)
    if positive_end == negative_end:
        return magnitude >= u(positive_end)
    return magnitude >= select(bits >= u(carrier.sign_bit), u(negative_end), u(positive_end))


def from_patterns(
    bits: Array,
    result: Array,
    beyond: Array,
    smallest: Array,
    spec: RoundingSpec,
    carrier: Carrier,
) -> Events:
    """Return the events from patterns before and after a rounding.

    `beyond` tells which inputs are outside the range; nonzero results below `smallest` are
    subnormal.
    """
    u = carrier.uint
    zero, infinity = u(0), u(carrier.infinity)
    magnitude, result = bits & u(carrier.sign_bit - 1), result & u(carrier.sign_bit - 1)
    is_nan, is_finite = magnitude > infinity, magnitude < infinity
    nonzero = magnitude - u(1) < infinity  # less than 0 is more than all
    beyond = beyond & ~is_nan
    overflowed = is_finite & (result >= infinity)
    saturated = beyond & (result < infinity)
    if spec.overflow is OverflowMode.WRAP:
        overflowed = overflowed | (beyond & is_finite)
        saturated = saturated & ~is_finite
    return Events(
        elements=True,
        nonzero=nonzero,
        underflowed=nonzero & (result == zero) & ~beyond,
        subnormal=(result != zero) & (result < smallest) & ~is_nan,
        overflowed=overflowed,
        saturated=saturated,
        nan=is_nan,
    )


@lru_cache(maxsize=1024)
def first_beyond(spec: RoundingSpec, carrier: Carrier) -> tuple[int, int]:
    """Smallest magnitudes (patterns) of positive and of negative numbers beyond the range."""
    limits(spec, carrier)  # refuses if the carrier cannot hold the format
    fmt = spec.format
    if isinstance(fmt, FixedPointFormat):
        steps = 1 << (fmt.integer_bits + fmt.fraction_bits)
        positive = (steps - 1, -fmt.fraction_bits)
        is_symmetric = spec.overflow is OverflowMode.SATURATE_SYMMETRIC
        negative = (steps - is_symmetric if fmt.is_signed else 0, -fmt.fraction_bits)
    elif fmt.exponent_bits is None:
        return carrier.infinity, carrier.infinity
    else:
        positive = negative = fmt.magnitude(fmt._max_code)
        if not fmt.is_signed:
            if not fmt.has_zero:
                return _first_above(positive, spec, carrier, is_negative=False), 1
            negative = _last_to_zero(spec, fmt)
            if spec.subnormals is SubnormalMode.FLUSH_BEFORE_ROUNDING:
                end = _first_above(positive, spec, carrier, is_negative=False)
                return end, carrier.pattern(1, fmt.emin)
    return (
        _first_above(positive, spec, carrier, is_negative=False),
        _first_above(negative, spec, carrier, is_negative=True),
    )


def _last_to_zero(spec: RoundingSpec, fmt: FloatFormat) -> tuple[int, int]:
    """Largest value of the grid that becomes 0, as (significand, exponent)."""
    quantum = fmt.emin - fmt.precision + 1
    if spec.subnormals is SubnormalMode.FLUSH_TINY:
        return (1 << fmt.precision) - 1, quantum - 1
    if is_coarse(spec):
        return 0, fmt.emin
    match spec.subnormals:
        case SubnormalMode.FLUSH_AFTER_ROUNDING:
            return (1 << (fmt.precision - 1)) - 1, quantum
        case SubnormalMode.FLUSH_AS_CHOP:
            return (1 << (first_of_chop(spec, negative=True)[1] - quantum)) - 1, quantum
        case _:
            return 0, quantum


def _first_above(
    number: tuple[int, int], spec: RoundingSpec, carrier: Carrier, *, is_negative: bool
) -> int:
    """Pattern of the smallest carrier number that rounds to more than significand * 2**exponent."""
    significand, exponent = number
    is_odd = significand % 2 == 1
    if spec.even is EvenRule.CODE and isinstance(spec.format, FloatFormat):
        # The significand of precision 1 is always odd, its code not.
        fmt = spec.format
        is_odd = is_odd and (fmt.precision > 1 or (exponent + fmt.bias) % 2 == 1)
    end = carrier.pattern(significand, exponent)
    goes_out = False
    if spec.mode is not RoundingMode.STOCHASTIC:
        goes_out = is_outward(spec.mode.direction, np.bool_(is_negative), lambda: np.bool_(is_odd))
    if spec.mode.is_nearest:
        middle = (2 * significand + 1, exponent - 1)
        return _pattern_or(end + 1, *middle, carrier, add=not goes_out)
    if goes_out:
        return end + 1
    return _pattern_or(carrier.infinity, significand + 1, exponent, carrier, add=False)


def _pattern_or(
    otherwise: int, significand: int, exponent: int, carrier: Carrier, *, add: bool
) -> int:
    """Pattern of a number, plus one on request; `otherwise` if the carrier has no such number."""
    try:
        return carrier.pattern(significand, exponent) + add
    except ValueError:
        return otherwise
