"""The exponents of a tensor's numbers, the ranges of formats over them, and loss scales."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from precsim.explorer import asked as read
from precsim.explorer.asked import Asked
from precsim.explorer.data import Tensor, tensor
from precsim.explorer.said import percent
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.numbers import Format
from precsim.formats.written import approximate
from precsim.rounding.modes import OverflowMode, RoundingMode
from precsim.rounding.oracle import Flags, round_exact
from precsim.rounding.spec import RoundingSpec

MOST_FORMATS = 8
SCALES = range(-16, 33)
"""Powers of two that a loss scale may be."""
_TICKS = 8
"""Labels of an axis of exponents, at most."""
_LAST_TICK = 94
"""Percent of an axis beyond which a label would leave it."""
_WIDEST = 400
"""Exponents that a drawing has, at most."""


@dataclass(frozen=True, slots=True)
class Edges:
    """Where the magnitudes of one sign begin to be more than zero, and to be beyond a format."""

    zero: Fraction
    zero_is_kept: bool
    """Whether the magnitude at that edge is not made zero."""
    beyond: Fraction
    is_beyond: bool
    """Whether the magnitude at that edge is beyond the format."""
    saturates: bool
    """Whether what is beyond becomes a number of the format; if not, it overflows."""
    infinity_saturates: bool


class Losses(NamedTuple):
    """What became of numbers, as `precsim.errors.range_rates` counts it."""

    underflowed: int
    overflowed: int
    saturated: int


_BEYOND = Flags.OVERFLOW | Flags.INVALID
"""What the definition signals for a number beyond a format, a negative one of unsigned ones too."""


def edges(spec: RoundingSpec, sign: int = 1) -> Edges:
    """Return where numbers stop being zero, and begin to be beyond, as the definition rounds them.

    A rule changes its mind at values and half way between them only; so integers of a quarter of
    the gap decide, and a bisection finds the first.

    Examples
    --------
    >>> found = edges(RoundingSpec.parse("fp16"))
    >>> found.zero == Fraction(2) ** -25, found.zero_is_kept, found.beyond, found.is_beyond
    (True, False, Fraction(65520, 1), True)
    >>> edges(RoundingSpec.parse("fp16:rtn"), -1).zero
    Fraction(0, 1)
    """
    fmt: Format = spec.format
    if isinstance(fmt, FixedPointFormat):
        least = normal = last = Fraction(fmt.resolution)
        largest = Fraction(fmt.max_value)
    else:
        least, normal = Fraction(fmt.min_subnormal), Fraction(fmt.min_normal)
        largest, last = Fraction(fmt.max_finite), Fraction(2) ** (fmt.emax - fmt.precision + 1)

    def is_beyond(size: Fraction) -> bool:
        return bool(round_exact(sign * size, spec).flags & _BEYOND)

    def is_kept(size: Fraction) -> bool:
        return round_exact(sign * size, spec).value != 0 or is_beyond(size)

    zero = _edge(_first(least / 4, 4 * int(normal / least), is_kept), least / 4)
    if sign < 0 and not fmt.is_signed:
        beyond = zero
    else:
        first = _first(last / 4, 8, lambda x: is_beyond(largest + x))
        beyond = _edge(first, last / 4, largest)
    far = round_exact(sign * (beyond[0] + last), spec).value
    saturates = math.isfinite(far) and spec.overflow is not OverflowMode.WRAP
    infinity = round_exact(sign * math.inf, spec).value
    return Edges(*zero, *beyond, saturates, math.isfinite(infinity))


def _first(unit: Fraction, most: int, is_beyond: Any) -> int:
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        if is_beyond(middle * unit):
            high = middle
        else:
            low = middle
    return high


def _edge(first: int, unit: Fraction, start: Fraction = Fraction(0)) -> tuple[Fraction, bool]:
    """Return the edge before the first quarter beyond it, and whether it is beyond itself."""
    return start + (first - first % 2) * unit, first % 2 == 0


def losses(numbers: Tensor, known: tuple[Edges, Edges], scale: Fraction = Fraction(1)) -> Losses:
    """Return what becomes of numbers after they are scaled; `known` are the edges of both signs."""
    zero = over = saturated = 0
    for side, of in zip(numbers.sides, known, strict=True):
        zero += side.up_to(of.zero / scale, with_it=not of.zero_is_kept)
        beyond = side.finite - side.up_to(of.beyond / scale, with_it=not of.is_beyond)
        saturated += beyond * of.saturates + side.infinities * of.infinity_saturates
        over += beyond * (not of.saturates)
    return Losses(zero, over, saturated)


def both_edges(spec: RoundingSpec) -> tuple[Edges, Edges]:
    """Return the edges of positive and of negative numbers."""
    return edges(spec), edges(spec, -1)


def histogram(asked: Asked) -> dict[str, Any]:
    """Describe the exponents of a tensor, and the range of each format over them."""
    names = asked.get("formats")
    if not isinstance(names, list) or len(names) > MOST_FORMATS:
        raise ValueError(f"formats is no list of at most {MOST_FORMATS} formats")
    specs = [_nearest({"format": name}) for name in names]
    numbers = tensor(asked)
    spans = [_span(spec.format) for spec in specs]
    frame = _frame(numbers, spans)
    return {
        **_counts(numbers),
        "bins": _bins(numbers, frame),
        "ticks": _ticks(frame),
        "formats": [
            _range(spec, span, numbers, frame) for spec, span in zip(specs, spans, strict=True)
        ],
    }


def _nearest(asked: Asked) -> RoundingSpec:
    read.number_format(asked)
    spec = read.spec(asked)
    if spec.mode is RoundingMode.STOCHASTIC:
        raise ValueError("mode is 'sr'; allowed here are the modes without chance")
    return spec


def _counts(numbers: Tensor) -> dict[str, Any]:
    ends = [approximate(Fraction(end)) for end in numbers.ends] or ["none", "none"]
    return {
        "said": numbers.said,
        "count": numbers.count,
        "zeros": numbers.zeros,
        "infinities": numbers.infinities,
        "nans": numbers.nans,
        "smallest": ends[0],
        "largest": ends[1],
    }


def _span(fmt: Format) -> tuple[int, int, int]:
    """Return the exponents of the smallest value, the smallest normal one, the largest one."""
    if isinstance(fmt, FixedPointFormat):
        return -fmt.fraction_bits, -fmt.fraction_bits, fmt.integer_bits - 1
    return math.frexp(fmt.min_subnormal)[1] - 1, fmt.emin, fmt.emax


def _frame(numbers: Tensor, spans: list[tuple[int, int, int]]) -> tuple[int, int]:
    """Return the exponents at both ends of the drawing: all numbers, and what fits of ranges."""
    found = numbers.exponents() or {0: 1}
    low, high = min(found) - 2, max(found) + 3
    if high - low > _WIDEST:
        return low, high
    for first, _, last in spans:
        low = max(min(low, first - 2), min(low, high - _WIDEST // 4))
        high = min(max(high, last + 3), max(high, low + _WIDEST // 4))
    return low, high


def _place(exponent: int, frame: tuple[int, int]) -> float:
    low, high = frame
    return round(100 * (min(max(exponent, low), high) - low) / (high - low), 3)


def _bins(numbers: Tensor, frame: tuple[int, int]) -> list[dict[str, Any]]:
    found = numbers.exponents()
    most = max(found.values(), default=1)
    width = round(100 / (frame[1] - frame[0]), 3)
    return [
        {
            "exponent": f"2^{e}",
            "count": found[e],
            "at": _place(e, frame),
            "width": width,
            "height": round(100 * found[e] / most, 2),
        }
        for e in sorted(found)
    ]


def _ticks(frame: tuple[int, int]) -> list[dict[str, Any]]:
    low, high = frame
    step = 1 << ((high - low - 1) // _TICKS).bit_length()
    return [
        {"label": f"2^{e}", "at": _place(e, frame)}
        for e in range(low - low % -step, high, step)
        if _place(e, frame) <= _LAST_TICK
    ]


def _range(
    spec: RoundingSpec, span: tuple[int, int, int], numbers: Tensor, frame: tuple[int, int]
) -> dict[str, Any]:
    first, normal, last = span
    starts = _place(first, frame), _place(normal, frame), _place(last + 1, frame)
    return {
        "name": str(spec),
        "at": starts[0],
        "normal_at": starts[1],
        "subnormal": round(starts[1] - starts[0], 3),
        "normal": round(starts[2] - starts[1], 3),
        **_shares(numbers, losses(numbers, both_edges(spec))),
    }


def _shares(numbers: Tensor, lost: Losses) -> dict[str, str]:
    names = "underflow", "overflow", "saturated"
    shares = (percent(count, numbers.nonzero) for count in lost)
    return dict(zip(names, shares, strict=True))


def loss_scales(asked: Asked) -> dict[str, Any]:
    """Describe what powers of two do to a tensor of gradients that a format is to hold."""
    spec = _nearest(asked)
    numbers = tensor(asked)
    span = _span(spec.format)
    found = numbers.exponents() or {0: 1}
    low = min(min(found) - 2, span[0] - 2)
    high = max(max(found) + 3, span[2] + 3)
    frame = low, high
    known = both_edges(spec)
    rows: list[dict[str, Any]] = []
    lost = []
    for power in SCALES:
        here = losses(numbers, known, Fraction(2) ** power)
        lost.append(sum(here))
        rows.append(
            {
                "index": power - SCALES[0],
                "label": f"2^{power}" if power else "1",
                "shift": round(100 * power / (high - low), 3),
                "zero": here.underflowed,
                "over": here.overflowed,
                "clipped": here.saturated,
                **_shares(numbers, here),
            }
        )
    best = min(range(len(rows)), key=lambda k: (lost[k], abs(SCALES[k])))
    return {
        **_counts(numbers),
        "spec": str(spec),
        "bins": _bins(numbers, frame),
        "ticks": _ticks(frame),
        "range": _range(spec, span, numbers, frame),
        "scales": rows,
        "one": SCALES.index(0),
        "best": best,
    }
