"""The power of two by which a tensor is best multiplied before it is rounded to a format."""

import math

from precsim.analysis.files.extent import Extent
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
    positive, negative = first_beyond(spec, carrier)
    highest = min(
        _largest_below(end, magnitude, carrier)
        for end, magnitude in ((positive, extent.highest), (negative, -extent.lowest))
        if magnitude
    )
    if isinstance(fmt, FixedPointFormat):
        return highest
    least = math.frexp(float(fmt.min_normal))[1] - math.frexp(extent.smallest)[1]
    if least <= highest:
        return min(max(0, least), highest)
    return highest


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
