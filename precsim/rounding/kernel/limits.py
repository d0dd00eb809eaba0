"""Where a format ends in a carrier, as bit patterns of magnitudes."""

from functools import lru_cache
from typing import NamedTuple

from precsim.formats.carrier import Carrier
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.scaled import refuse_scaled
from precsim.rounding.modes import OverflowMode, RoundingMode, SubnormalMode
from precsim.rounding.spec import RoundingSpec


class Limits(NamedTuple):
    """Bit patterns (of magnitudes) that bound a format in a carrier."""

    max_positive: int
    max_negative: int
    min_normal: int
    quantum_min: int


@lru_cache(maxsize=1024)
def limits(spec: RoundingSpec, carrier: Carrier) -> Limits:
    """Return the limits, after checking that the carrier has every value of the format."""
    fmt = spec.format
    refuse_scaled(fmt, "format")
    if not fmt.fits(carrier):
        raise ValueError(
            f"a {carrier.name} carrier cannot hold {fmt.name}: it has precision {carrier.precision} and "
            f"exponents {carrier.emin} to {carrier.bias}"
            + (" (use float64)" if carrier.width == 32 else "")
        )
    if isinstance(fmt, FixedPointFormat):
        steps = 1 << (fmt.integer_bits + fmt.fraction_bits)
        step = carrier.pattern(1, -fmt.fraction_bits)
        last = steps - (spec.overflow is OverflowMode.SATURATE_SYMMETRIC)
        lowest = carrier.pattern(last, -fmt.fraction_bits) if fmt.is_signed else 0
        return Limits(carrier.pattern(steps - 1, -fmt.fraction_bits), lowest, 0, step)
    if fmt.exponent_bits is None:
        return Limits(carrier.infinity, carrier.infinity, 0, 1)
    largest = carrier.pattern(*fmt.magnitude(fmt._max_code))
    smallest = carrier.pattern(1, fmt.emin)
    quantum = smallest if is_coarse(spec) else carrier.pattern(1, fmt.emin - fmt.precision + 1)
    return Limits(largest, largest if fmt.is_signed else 0, smallest, quantum)


def first_of_chop(spec: RoundingSpec, *, negative: bool) -> tuple[int, int]:
    """Return the smallest rounded number that "flush_as_chop" does not take to 0.

    As (significand, exponent): in rne half the smallest normal value, in the directed mode that
    points away from 0 the smallest subnormal, else the smallest normal.
    """
    fmt = spec.format
    assert isinstance(fmt, FloatFormat)
    if spec.mode.is_nearest:
        return 1, fmt.emin - 1
    outward = RoundingMode.TOWARD_NEGATIVE if negative else RoundingMode.TOWARD_POSITIVE
    return 1, fmt.emin - fmt.precision + 1 if spec.mode is outward else fmt.emin


def is_coarse(spec: RoundingSpec) -> bool:
    """Return whether there is nothing between zero and the smallest normal value."""
    has_subnormals = not isinstance(spec.format, FixedPointFormat) and spec.format.has_subnormals
    return spec.subnormals is SubnormalMode.NEAREST_OF_ZERO_AND_MIN or not has_subnormals
