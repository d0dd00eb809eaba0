"""The definition of rounding, one number at a time, in exact rational arithmetic.

This is the text to read first: it says what every array kernel of precsim must return.
"""

import enum
import math
from fractions import Fraction
from typing import NamedTuple

from precsim.formats.arguments import integer, not_allowed
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.layout import BINARY32, BINARY64, Layout, as_float
from precsim.formats.notebook import facts
from precsim.formats.numbers import Format
from precsim.formats.reals import RealLike, floor_log2, is_infinite, is_nan, is_negative, real
from precsim.formats.registry import get_format
from precsim.formats.scaled import refuse_scaled
from precsim.formats.written import exact_decimal, hex_float
from precsim.rounding.modes import (
    EvenRule,
    InfinityMode,
    NanMode,
    OverflowMode,
    RoundingMode,
    StochasticVariant,
    SubnormalMode,
)
from precsim.rounding.spec import RoundingSpec, SpecLike


class Flags(enum.Flag):
    """Exceptions of IEEE 754-2019, clause 7.

    Tininess is detected after rounding; under "flush_before_rounding", before it.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.oracle.Flags.OVERFLOW in ps.oracle.round_exact(1e6, "fp16").flags
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

    def _repr_html_(self) -> str:
        """Return the value, in decimal and hexadecimal, and the flags for a notebook."""
        flags = str(self.flags.name).lower().replace("_", " ").replace("|", ", ")
        return facts(exact_decimal(self.value), [("hex", hex_float(self.value)), ("flags", flags)])


def round_exact(
    x: RealLike, spec: SpecLike, *, random_bits: int = 0, carrier: str = "fp64"
) -> Rounded:
    """Round one number, exactly as the standards define it.

    Parameters
    ----------
    x : float, int, Fraction or Decimal
        Any real number, -0, infinity or NaN; scalars of NumPy and JAX too.
    spec : str, Format or RoundingSpec
        Format and rule.
    random_bits : int
        R of mode "sr"; only its low `num_random_bits` bits are used.
    carrier : {"fp64", "fp32"}
        Where an unlimited exponent range ends: numbers beyond it overflow, those too small are
        rounded to the carrier's smallest subnormal. Formats with bounds ignore it.

    Returns
    -------
    Rounded
        Pair (value, flags).

    Raises
    ------
    ValueError
        If the spec is not understood, or is of a block or affine format.
    TypeError
        If `x` is no number.

    Examples
    --------
    >>> from fractions import Fraction
    >>> round_exact(Fraction(1, 3), "e4m3")
    Rounded(value=0.34375, flags=<Flags.INEXACT: 1>)
    >>> round_exact(500.0, "e4m3").value, round_exact(500.0, "e4m3:saturate").value
    (nan, 448.0)
    """
    fmt = (spec := RoundingSpec.parse(spec)).format
    refuse_scaled(fmt, "spec")
    random_bits = integer(random_bits, "random_bits")
    negative = is_negative(number := real(x, "x"))
    if is_nan(number):
        return Rounded(_nan(negative, spec), Flags.NONE)
    if is_infinite(number):
        return _infinity(not negative, spec)
    exact = abs(Fraction(number))
    last_place = _quantum_exponent(exact, spec, _carrier(carrier))
    magnitude = _on_grid(exact, last_place, negative, spec, random_bits)
    flags = Flags.NONE if magnitude == exact else Flags.INEXACT
    if isinstance(fmt, FixedPointFormat):
        return _finish_fixed(-magnitude if negative else magnitude, spec, flags)
    smallest, largest = _ends(fmt, _carrier(carrier))
    if not fmt.has_zero:
        if exact == 0:
            keeps = spec.overflow is OverflowMode.SATURATE or not fmt.has_nan
            return Rounded(fmt.min_normal if keeps else math.nan, Flags.INVALID)
        magnitude = max(magnitude, smallest)
    # Tiny: below the smallest normal as though the exponent range were unlimited (7.5).
    unlimited = exact
    if exact and spec.subnormals is not SubnormalMode.FLUSH_BEFORE_ROUNDING:
        last = floor_log2(exact) - fmt.precision + 1
        unlimited = _on_grid(exact, last, negative, spec, random_bits)
    if fmt.has_zero and fmt.exponent_bits is not None:
        magnitude = _flushed(magnitude, unlimited < smallest, smallest, negative, spec)
    if magnitude != exact:
        flags |= Flags.INEXACT | (Flags.UNDERFLOW if unlimited < smallest else Flags.NONE)
    if negative and magnitude and not fmt.is_signed:
        value = _lowest(fmt) if _clamps_negative(spec) else math.nan
        return Rounded(value, flags | Flags.INVALID)
    if magnitude > largest:
        flags |= Flags.OVERFLOW | Flags.INEXACT
        return Rounded(_overflowed(negative, spec, float(largest)), flags)
    return Rounded(_signed(magnitude, negative, fmt), flags)


def ulp_exact(x: RealLike, fmt: str | Format) -> float:
    """Return the distance between the neighbours of a format around a number.

    Parameters
    ----------
    x : float, int, Fraction or Decimal
        Any real number, in the format or not.
    fmt : str, FloatFormat or FixedPointFormat
        The format.

    Returns
    -------
    float
        As `ulp` defines it: at zero and below the smallest normal value the smallest subnormal,
        beyond the largest value the ulp of that value, NaN for infinity and NaN.

    Raises
    ------
    ValueError
        If float64 does not have the result.
    TypeError
        If `x` is no number.

    Examples
    --------
    >>> import precsim as ps
    >>> [ps.oracle.ulp_exact(x, "e4m3") for x in (1.0, 1.99, 2.0, 0.0)]
    [0.125, 0.125, 0.25, 0.001953125]
    """
    found: Format = get_format(fmt)
    refuse_scaled(found, "fmt")
    number = real(x, "x")
    if is_nan(number) or is_infinite(number):
        return math.nan
    exact = abs(Fraction(number))
    exponent = _quantum_exponent(exact, RoundingSpec(format=found), BINARY64)
    if isinstance(found, FloatFormat) and found.exponent_bits is not None:
        exponent = min(exponent, max(found.emin, found.emax) - found.precision + 1)
    return as_float(1, exponent, found.name)


def _carrier(name: str) -> Layout:
    carriers = {"fp64": BINARY64, "fp32": BINARY32}
    if name not in carriers:
        raise not_allowed("carrier", name, carriers)
    return carriers[name]


def _ends(fmt: FloatFormat, carrier: Layout) -> tuple[Fraction, Fraction]:
    """Smallest normal and largest value, of an unlimited range those that the carrier has."""
    if fmt.exponent_bits is not None:
        return Fraction(2) ** fmt.emin, Fraction(fmt.max_finite)
    largest = (2**fmt.precision - 1) * Fraction(2) ** (carrier.bias - fmt.precision + 1)
    return Fraction(2) ** carrier.emin, largest


def _flushed(
    magnitude: Fraction, is_tiny: bool, smallest: Fraction, negative: bool, spec: RoundingSpec
) -> Fraction:
    """Return what a rounded magnitude becomes where subnormals are flushed."""
    match spec.subnormals:
        case SubnormalMode.FLUSH_BEFORE_ROUNDING | SubnormalMode.FLUSH_TINY:
            return Fraction(0) if is_tiny else magnitude
        case SubnormalMode.FLUSH_AFTER_ROUNDING:
            return Fraction(0) if magnitude < smallest else magnitude
        case SubnormalMode.FLUSH_AS_CHOP if magnitude < smallest:
            is_raised = {
                RoundingMode.TIES_TO_EVEN: 2 * magnitude >= smallest,
                RoundingMode.TOWARD_POSITIVE: magnitude > 0 and not negative,
                RoundingMode.TOWARD_NEGATIVE: magnitude > 0 and negative,
            }
            return smallest if is_raised.get(spec.mode, False) else Fraction(0)
        case _:
            return magnitude


def _on_grid(
    exact: Fraction, exponent: int, negative: bool, spec: RoundingSpec, random_bits: int
) -> Fraction:
    """Round a magnitude to an integer times 2**exponent."""
    quantum = Fraction(2) ** exponent
    steps = exact // quantum
    is_odd = steps % 2 == 1
    if spec.even is EvenRule.CODE and isinstance(spec.format, FloatFormat):
        fmt = spec.format
        # With one significand bit the code is the exponent field; a code of 0 is even.
        if fmt.precision == 1:
            is_odd = steps != 0 and (exponent + fmt.bias) % 2 == 1
    steps += _goes_up(exact / quantum - steps, is_odd, negative, spec, random_bits)
    return steps * quantum


def _quantum_exponent(exact: Fraction, spec: RoundingSpec, carrier: Layout) -> int:
    """Exponent of the distance between the two neighbours of a positive number."""
    fmt = spec.format
    if isinstance(fmt, FixedPointFormat):
        return -fmt.fraction_bits
    exponent = floor_log2(exact) if exact else carrier.lsb_min
    if fmt.exponent_bits is None:
        return max(exponent - fmt.precision + 1, carrier.lsb_min)
    if exact == 0 or exponent < fmt.emin:
        coarse = spec.subnormals is SubnormalMode.NEAREST_OF_ZERO_AND_MIN or not fmt.has_subnormals
        return fmt.emin if coarse else fmt.emin - fmt.precision + 1
    return exponent - fmt.precision + 1


def _goes_up(
    fraction: Fraction, is_odd: bool, negative: bool, spec: RoundingSpec, random_bits: int
) -> bool:
    """Decide whether the magnitude goes to the upper neighbour; `fraction` is in [0, 1)."""
    half = Fraction(1, 2)
    match RoundingMode(spec.mode):
        case RoundingMode.TIES_TO_EVEN:
            return fraction > half or (fraction == half and is_odd)
        case RoundingMode.TIES_TO_AWAY:
            return fraction >= half
        case RoundingMode.TIES_TO_ZERO:
            return fraction > half
        case RoundingMode.TIES_TO_ODD:
            return fraction > half or (fraction == half and not is_odd)
        case RoundingMode.TIES_TO_POSITIVE:
            return fraction > half or (fraction == half and not negative)
        case RoundingMode.TIES_TO_NEGATIVE:
            return fraction > half or (fraction == half and negative)
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


def _overflowed(negative: bool, spec: RoundingSpec, largest: float) -> float:
    """Return what a finite number beyond the largest value becomes."""
    fmt = spec.format
    assert isinstance(fmt, FloatFormat)
    match spec.mode:
        case RoundingMode.TOWARD_ZERO:
            clamps = True
        case RoundingMode.TOWARD_POSITIVE:
            clamps = negative
        case RoundingMode.TOWARD_NEGATIVE:
            clamps = not negative
        case RoundingMode.TO_ODD:
            clamps = not _infinity_is_odd(fmt)
        case _:
            clamps = False
    if fmt.exponent_bits is not None:  # else there is no largest value to saturate at
        clamps = clamps or spec.overflow is OverflowMode.SATURATE
    if not fmt.has_infinity and spec.overflow is OverflowMode.INFINITY_OR_MAX:
        clamps = True
    return math.copysign(largest if clamps else _beyond(fmt), -negative or 1)


def _infinity_is_odd(fmt: FloatFormat) -> bool:
    """Return whether infinity has the odd code, so that an overflow rounded to odd goes there."""
    # Without bounds, the carrier's largest value of that precision is odd.
    return fmt.exponent_bits is not None and fmt.has_infinity and fmt._max_code % 2 == 0


def _beyond(fmt: FloatFormat) -> float:
    """Return what stands for infinity in the format."""
    return math.inf if fmt.has_infinity else math.nan if fmt.has_nan else fmt.max_finite


def _lowest(fmt: FloatFormat) -> float:
    """Return the smallest value of an unsigned format."""
    return 0.0 if fmt.has_zero else fmt.min_normal


def _clamps_negative(spec: RoundingSpec) -> bool:
    """Return whether an unsigned format takes a negative number to its smallest value."""
    fmt = spec.format
    assert isinstance(fmt, FloatFormat)
    goes_up = spec.mode in (RoundingMode.TOWARD_ZERO, RoundingMode.TOWARD_POSITIVE) and fmt.has_zero
    return goes_up or spec.overflow is OverflowMode.SATURATE or not fmt.has_nan


def _nan(negative: bool, spec: RoundingSpec) -> float:
    """Return what NaN of that sign becomes."""
    match NanMode(spec.nans):
        case NanMode.STAYS:
            return math.nan
        case NanMode.ZERO:
            return 0.0
        case NanMode.NEGATIVE_ZERO:
            return 0.0 if negative else -0.0
        case NanMode.MAX:
            fmt = spec.format
            return fmt.max_value if isinstance(fmt, FixedPointFormat) else fmt.max_finite


def _infinity(positive: bool, spec: RoundingSpec) -> Rounded:
    """Return what an infinite input becomes: NaN is invalid, a finite value an overflow."""
    fmt = spec.format
    sign = 1 if positive else -1
    if isinstance(fmt, FixedPointFormat):
        if spec.overflow is OverflowMode.WRAP and spec.infinities is InfinityMode.PROPAGATE:
            return Rounded(_nan(not positive, spec), Flags.INVALID)
        value = _saturated(positive, fmt, spec.overflow)
    elif positive or fmt.is_signed:
        saturates = spec.infinities is InfinityMode.SATURATE or (
            spec.infinities is InfinityMode.PROPAGATE_OR_SATURATE and not fmt.has_infinity
        )
        value = math.copysign(fmt.max_finite if saturates else _beyond(fmt), sign)
    else:
        saturates = spec.infinities is InfinityMode.SATURATE or (
            spec.infinities is InfinityMode.PROPAGATE_OR_SATURATE
            and spec.overflow is OverflowMode.SATURATE
        )
        value = _lowest(fmt) if saturates or not fmt.has_nan else math.nan
    if math.isnan(value):
        return Rounded(value, Flags.INVALID)
    return Rounded(value, Flags.NONE if math.isinf(value) else Flags.OVERFLOW | Flags.INEXACT)


def _saturated(positive: bool, fmt: FixedPointFormat, overflow: OverflowMode) -> float:
    """Return the value that stands for everything beyond one end of the range."""
    if overflow is OverflowMode.SATURATE_ZERO:
        return 0.0
    if overflow is OverflowMode.SATURATE_SYMMETRIC and not positive:
        return -fmt.max_value if fmt.is_signed else 0.0
    return fmt.max_value if positive else fmt.min_value


def _finish_fixed(value: Fraction, spec: RoundingSpec, flags: Flags) -> Rounded:
    fmt = spec.format
    assert isinstance(fmt, FixedPointFormat)
    lowest = fmt.min_value
    if spec.overflow is OverflowMode.SATURATE_SYMMETRIC and fmt.is_signed:
        lowest = -fmt.max_value
    if Fraction(lowest) <= value <= Fraction(fmt.max_value):
        return Rounded(float(value), flags)
    flags |= Flags.OVERFLOW | Flags.INEXACT
    if spec.overflow is not OverflowMode.WRAP:
        return Rounded(_saturated(value > 0, fmt, spec.overflow), flags)
    size = 1 << fmt.width
    code = int(value * Fraction(2) ** fmt.fraction_bits) % size
    if fmt.is_signed and code >= size // 2:
        code -= size
    return Rounded(float(code * Fraction(2) ** -fmt.fraction_bits), flags)


def _signed(magnitude: Fraction, negative: bool, fmt: FloatFormat) -> float:
    value = float(magnitude)
    return -value if negative and (value or fmt.has_negative_zero) else value
