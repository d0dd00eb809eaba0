"""The definition of rounding, one number at a time, in exact rational arithmetic.

This is the text to read first: it says in a few lines what every array kernel of precsim must return.
"""

import enum
import math
import sys
from fractions import Fraction
from typing import NamedTuple

from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.rounding.spec import (
    InfinityMode,
    OverflowMode,
    RoundingMode,
    RoundingSpec,
    SpecLike,
    StochasticVariant,
    SubnormalMode,
)


class Flags(enum.Flag):
    """Exceptions of IEEE 754-2019, clause 7. Tininess is detected after rounding.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.Flags.OVERFLOW in ps.round_exact(1e6, "fp16").flags
    True
    """

    NONE = 0
    INEXACT = enum.auto()
    UNDERFLOW = enum.auto()
    OVERFLOW = enum.auto()
    DIVIDE_BY_ZERO = enum.auto()
    INVALID = enum.auto()


class Rounded(NamedTuple):
    """A value of the format, and the exceptions that its rounding signals."""

    value: float
    flags: Flags


def round_exact(x: float | Fraction, spec: SpecLike, *, random_bits: int = 0) -> Rounded:
    """Round one number, exactly as the standards define it.

    Parameters
    ----------
    x : float or Fraction
        Any real number, -0, infinity or NaN.
    spec : str, Format or RoundingSpec
        Format and rule.
    random_bits : int
        R of mode "sr"; only its low `num_random_bits` bits are used.

    Returns
    -------
    Rounded
        Pair (value, flags).

    Examples
    --------
    >>> from fractions import Fraction
    >>> round_exact(Fraction(1, 3), "e4m3")
    Rounded(value=0.34375, flags=<Flags.INEXACT: 1>)
    >>> round_exact(500.0, "e4m3").value, round_exact(500.0, "e4m3:saturate").value
    (nan, 448.0)
    """
    spec = RoundingSpec.parse(spec)
    fmt = spec.format
    if isinstance(x, float) and math.isnan(x):
        return Rounded(math.nan, Flags.NONE)
    if isinstance(x, float) and math.isinf(x):
        return Rounded(_infinity(x > 0, spec), Flags.NONE)
    negative = math.copysign(1, x) < 0 if isinstance(x, float) else x < 0
    exact = abs(Fraction(x))
    magnitude = _on_grid(exact, _quantum_exponent(exact, spec), negative, spec, random_bits)
    flags = Flags.NONE if magnitude == exact else Flags.INEXACT
    if isinstance(fmt, FixedPointFormat):
        return _finish_fixed(-magnitude if negative else magnitude, spec, flags)
    if fmt.exponent_bits is None:
        return Rounded(_signed(magnitude, negative, fmt), flags)
    smallest = Fraction(2) ** fmt.emin
    if not fmt.has_zero:
        if exact == 0:
            value = fmt.min_normal if spec.overflow is OverflowMode.SATURATE else math.nan
            return Rounded(value, Flags.INVALID)
        magnitude = max(magnitude, smallest)
    if spec.subnormals is SubnormalMode.FLUSH_AFTER_ROUNDING and magnitude < smallest:
        magnitude = Fraction(0)
    if magnitude != exact:
        flags |= Flags.INEXACT
        # Tiny: below the smallest normal as though the exponent range were unlimited (7.5).
        last = _floor_log2(exact) - fmt.precision + 1
        if _on_grid(exact, last, negative, spec, random_bits) < smallest:
            flags |= Flags.UNDERFLOW
    if negative and magnitude and not fmt.is_signed:
        bound = 0.0 if fmt.has_zero else fmt.min_normal
        keeps = spec.overflow is OverflowMode.SATURATE or not fmt.has_nan
        return Rounded(bound if keeps else math.nan, flags | Flags.INVALID)
    if magnitude > Fraction(fmt.max_finite):
        to_infinity = spec.overflow is OverflowMode.INFINITY and _overflows_to_infinity(
            negative, spec.mode
        )
        value = (
            _beyond(fmt, not negative)
            if to_infinity
            else math.copysign(fmt.max_finite, -negative or 1)
        )
        return Rounded(value, flags | Flags.OVERFLOW | Flags.INEXACT)
    return Rounded(_signed(magnitude, negative, fmt), flags)


def _on_grid(
    exact: Fraction, exponent: int, negative: bool, spec: RoundingSpec, random_bits: int
) -> Fraction:
    """Round a magnitude to an integer times 2**exponent."""
    quantum = Fraction(2) ** exponent
    steps = exact // quantum
    steps += _goes_up(exact / quantum - steps, steps % 2 == 1, negative, spec, random_bits)
    return steps * quantum


def _quantum_exponent(exact: Fraction, spec: RoundingSpec) -> int:
    """Exponent of the distance between the two neighbours of a positive number."""
    fmt = spec.format
    if isinstance(fmt, FixedPointFormat):
        return -fmt.fraction_bits
    exponent = _floor_log2(exact) if exact else 0
    if fmt.exponent_bits is None:
        return exponent - fmt.precision + 1
    if exact == 0 or exponent < fmt.emin:
        coarse = spec.subnormals is SubnormalMode.NEAREST_OF_ZERO_AND_MIN or not fmt.has_subnormals
        return fmt.emin if coarse else fmt.emin - fmt.precision + 1
    return exponent - fmt.precision + 1


def _floor_log2(x: Fraction) -> int:
    """Largest e with 2**e <= x."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def _goes_up(
    fraction: Fraction, is_odd: bool, negative: bool, spec: RoundingSpec, random_bits: int
) -> bool:
    """Decide whether the magnitude goes to the upper neighbour; `fraction` in [0, 1) is between them."""
    half = Fraction(1, 2)
    match spec.mode:
        case RoundingMode.TIES_TO_EVEN:
            return fraction > half or (fraction == half and is_odd)
        case RoundingMode.TIES_TO_AWAY:
            return fraction >= half
        case RoundingMode.TIES_TO_ZERO:
            return fraction > half
        case RoundingMode.TOWARD_ZERO:
            return False
        case RoundingMode.AWAY_FROM_ZERO:
            return fraction > 0
        case RoundingMode.TOWARD_POSITIVE:
            return fraction > 0 and not negative
        case RoundingMode.TOWARD_NEGATIVE:
            return fraction > 0 and negative
        case RoundingMode.TO_ODD:
            return fraction > 0 and not is_odd
        case RoundingMode.STOCHASTIC:
            scale = 1 << spec.num_random_bits
            scaled = fraction * scale
            match spec.stochastic_variant:
                case StochasticVariant.A:
                    threshold = math.floor(scaled)
                case StochasticVariant.B:
                    threshold = math.floor(scaled + half)
                case StochasticVariant.C:
                    threshold = round(scaled)
            return threshold + random_bits % scale >= scale


def _overflows_to_infinity(negative: bool, mode: RoundingMode) -> bool:
    """IEEE 754-2019, 7.4: directed modes that point inward stop at the largest finite value."""
    match mode:
        case RoundingMode.TOWARD_ZERO | RoundingMode.TO_ODD:
            return False
        case RoundingMode.TOWARD_POSITIVE:
            return not negative
        case RoundingMode.TOWARD_NEGATIVE:
            return negative
        case _:
            return True


def _beyond(fmt: FloatFormat, positive: bool) -> float:
    """Return what stands for infinity in the format."""
    if fmt.has_infinity:
        return math.inf if positive else -math.inf
    return math.nan if fmt.has_nan else math.copysign(fmt.max_finite, 1 if positive else -1)


def _infinity(positive: bool, spec: RoundingSpec) -> float:
    """Return what an infinite input becomes."""
    fmt = spec.format
    if isinstance(fmt, FixedPointFormat):
        if spec.overflow is OverflowMode.WRAP and spec.infinities is InfinityMode.PROPAGATE:
            return math.nan
        return fmt.max_value if positive else fmt.min_value
    if spec.infinities is InfinityMode.SATURATE:
        if not positive and not fmt.is_signed:
            return 0.0 if fmt.has_zero else fmt.min_normal
        return math.copysign(fmt.max_finite, 1 if positive else -1)
    if not positive and not fmt.is_signed:
        return math.nan if fmt.has_nan else 0.0
    return _beyond(fmt, positive)


def _finish_fixed(value: Fraction, spec: RoundingSpec, flags: Flags) -> Rounded:
    fmt = spec.format
    assert isinstance(fmt, FixedPointFormat)
    if Fraction(fmt.min_value) <= value <= Fraction(fmt.max_value):
        return Rounded(float(value), flags)
    flags |= Flags.OVERFLOW | Flags.INEXACT
    if spec.overflow is OverflowMode.SATURATE:
        return Rounded(fmt.max_value if value > 0 else fmt.min_value, flags)
    size = 1 << fmt.width
    code = int(value * Fraction(2) ** fmt.fraction_bits) % size
    if fmt.is_signed and code >= size // 2:
        code -= size
    return Rounded(float(code * Fraction(2) ** -fmt.fraction_bits), flags)


def _signed(magnitude: Fraction, negative: bool, fmt: FloatFormat) -> float:
    # Only a format of unlimited range can leave float64, its carrier.
    value = float(magnitude) if magnitude <= Fraction(sys.float_info.max) else math.inf
    return -value if negative and (value or fmt.has_negative_zero) else value
