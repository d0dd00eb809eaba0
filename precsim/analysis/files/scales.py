"""What the extent of a tensor tells: its best scale for a format, and what can happen there."""

import math

from precsim.analysis.files.extent import Extent
from precsim.analysis.files.rounded import EVENTS
from precsim.formats.carrier import FLOAT64, Carrier
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.scaled import scaled_format
from precsim.rounding.events import first_beyond
from precsim.rounding.spec import RoundingSpec


def best_exponent(extent: Extent, spec: RoundingSpec, carrier: Carrier) -> int | None:
    """Return k of the scale ``2**k`` that loses least to the range; None where there is no choice.

    It is 0 if nothing is lost without a scale. Else it is the k next to 0 for which no number
    overflows and none is subnormal; if there is none, the largest for which no number overflows.
    More does not help: a power of two changes an error only where a number is subnormal, vanishes
    or leaves the range.
    """
    fmt = spec.format
    if scaled_format(fmt) is not None or not extent.amax:
        return None
    assert isinstance(fmt, (FloatFormat, FixedPointFormat))
    if isinstance(fmt, FloatFormat) and fmt.exponent_bits is None:
        return None
    if not fmt.is_signed and extent.lowest < 0:
        return None
    highest = _largest_exponent(extent, spec, carrier)
    if isinstance(fmt, FixedPointFormat):
        return highest
    least = math.frexp(float(fmt.min_normal))[1] - math.frexp(extent.smallest)[1]
    if least <= highest:
        return min(max(0, least), highest)
    return highest


def possible_events(extent: Extent, spec: RoundingSpec, carrier: Carrier) -> tuple[str, ...]:
    """Return which range events the numbers of an extent can have in a format of numbers."""
    fmt = spec.format
    assert isinstance(fmt, (FloatFormat, FixedPointFormat))
    events: tuple[str, ...] = EVENTS
    has_zero = isinstance(fmt, FixedPointFormat) or fmt.has_zero
    if extent.has_specials or not extent.amax or not has_zero:
        return events
    if _largest_exponent(extent, spec, carrier) >= 0:
        events = tuple(e for e in events if e not in ("overflowed", "saturated"))
    if extent.smallest >= threshold(spec):
        events = tuple(e for e in events if e not in ("underflowed", "subnormal"))
    return events


def threshold(spec: RoundingSpec) -> float:
    """Return the smallest normal magnitude; where there is none, infinity or 0."""
    fmt = spec.format
    if isinstance(fmt, FloatFormat):
        return 0.0 if fmt.exponent_bits is None else float(fmt.min_normal)
    return math.inf


def _largest_exponent(extent: Extent, spec: RoundingSpec, carrier: Carrier) -> int:
    """Return the largest k for which no number times ``2**k`` is beyond the range."""
    positive, negative = first_beyond(spec, carrier)
    return min(
        _largest_below(end, magnitude, carrier)
        for end, magnitude in ((positive, extent.highest), (negative, -extent.lowest))
        if magnitude
    )


def _largest_below(end: int, magnitude: float, carrier: Carrier) -> int:
    """Return the largest k with ``magnitude * 2**k`` below the pattern `end`."""
    border = _number(end, carrier)
    (m, exponent), (b, border_exponent) = math.frexp(magnitude), border
    return border_exponent - exponent - (m >= b)


def _number(pattern: int, carrier: Carrier) -> tuple[float, int]:
    """Return a positive pattern as (fraction from 1/2 on, exponent); infinity as the next power."""
    if pattern >= carrier.infinity:
        return 0.5, carrier.bias + 2
    value = float(carrier.uint(pattern).view(carrier.float_dtype))
    return math.frexp(value)


def carrier_for(spec: RoundingSpec, carrier: Carrier) -> Carrier | None:
    """Return the carrier in which numbers of another one are rounded: itself, or float64; or None.

    None says that the numbers cannot be rounded to the format without another rounding.
    """
    fmt = spec.format
    return next((c for c in (carrier, FLOAT64) if fmt.fits(c)), None)
