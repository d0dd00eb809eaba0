"""The values of a format on both sides of a number, in exact arithmetic."""

import math
from fractions import Fraction

from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.numbers import Format
from precsim.rounding.modes import RoundingMode, SubnormalMode
from precsim.rounding.oracle import round_exact
from precsim.rounding.spec import RoundingSpec


def neighbours_exact(
    exact: Fraction | float, spec: RoundingSpec
) -> tuple[float | None, float | None]:
    """Return the nearest other values of the format on both sides; None where there is none.

    Examples
    --------
    >>> neighbours_exact(Fraction(1, 3), RoundingSpec.parse("e4m3"))
    (0.3125, 0.34375)
    """
    fmt = spec.format
    if isinstance(exact, float) and not math.isfinite(exact):
        return None, None
    exact = Fraction(exact)
    # Less than any gap beside the number, so that a value of the format is not its own neighbour.
    nudge = abs(exact) / 2**60
    if not exact:
        if not isinstance(fmt, FixedPointFormat) and fmt.exponent_bits is None:
            return None, None
        least = fmt.resolution if isinstance(fmt, FixedPointFormat) else fmt.min_subnormal
        nudge = Fraction(least) / 2
    subnormals = SubnormalMode.GRADUAL
    if spec.subnormals is not SubnormalMode.GRADUAL:
        subnormals = SubnormalMode.NEAREST_OF_ZERO_AND_MIN
    is_value = round_exact(exact, RoundingSpec(format=fmt, subnormals=subnormals)).value == exact
    found = []
    for side, mode in ((-1, RoundingMode.TOWARD_NEGATIVE), (1, RoundingMode.TOWARD_POSITIVE)):
        start = exact + side * nudge if is_value else exact
        directed = RoundingSpec(format=fmt, mode=mode, subnormals=subnormals)
        value = round_exact(start, directed).value  # NaN beyond the largest value before NaN
        if not fmt.is_signed:
            lowest = _lowest_unsigned(fmt)
            value = lowest if math.isnan(value) else max(value, lowest)
        is_beside = value >= start if side == 1 else value <= start
        found.append(value if is_beside else None)
    return found[0], found[1]


def _lowest_unsigned(fmt: Format) -> float:
    """Return the least value of an unsigned format."""
    return 0.0 if isinstance(fmt, FixedPointFormat) or fmt.has_zero else fmt.min_normal
