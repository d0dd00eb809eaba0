"""`Unit`: the error of one rounding, or of a sum: a part of a magnitude, and an absolute part."""

import math
from typing import NamedTuple

from precsim.analysis.bounds.gamma import gamma
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.scaled import scaled_format
from precsim.rounding.modes import SubnormalMode
from precsim.rounding.spec import RoundingSpec


class Unit(NamedTuple):
    """The largest error of one rounding: ``relative`` times the result, plus ``absolute``."""

    relative: float
    absolute: float

    def plus(self, other: "Unit") -> "Unit":
        """Return the error of two roundings, one after the other."""
        both = self.relative + other.relative + self.relative * other.relative
        return Unit(both, self.absolute * (1 + other.relative) + other.absolute)


EXACT = Unit(0.0, 0.0)


def unit_of(spec: RoundingSpec | None) -> Unit:
    """Return the largest error of one rounding within the range of the format."""
    if spec is None or scaled_format(spec.format) is not None:
        return EXACT
    steps = 1.0 if spec.mode.is_nearest else 2.0
    fmt = spec.format
    if isinstance(fmt, FixedPointFormat):
        return Unit(0.0, steps * 2.0 ** -(fmt.fraction_bits + 1))
    u = steps * fmt.unit_roundoff
    least = 0.0
    if fmt.exponent_bits is not None:
        is_gradual = fmt.has_subnormals and spec.subnormals is SubnormalMode.GRADUAL
        least = 2.0 ** (fmt.emin - fmt.precision) * steps if is_gradual else 2.0**fmt.emin
    return Unit(u / (1 - u) if steps > 1 else u, least)  # of the computed result


def bound_of_sum(n: int, u: float) -> float:
    """Return gamma(n, u), infinity where n u is too large for any bound."""
    return gamma(n, u) if n * u < 1 else math.inf
