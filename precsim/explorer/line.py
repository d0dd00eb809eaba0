"""The number line: values of a format, what goes to each of them, and where one number goes."""

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

from precsim.explorer import asked as read
from precsim.explorer.asked import Asked
from precsim.explorer.bits import outcomes
from precsim.explorer.said import Axis, Number, is_finite, labels, rounded, same, short
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.numbers import Format
from precsim.formats.oracle import decode_exact
from precsim.formats.reals import is_nan
from precsim.formats.written import exact_text
from precsim.rounding.modes import RoundingMode
from precsim.rounding.neighbours import neighbours_exact
from precsim.rounding.oracle import round_exact
from precsim.rounding.spec import RoundingSpec

VIEWS = ("number", "zero", "whole")
SCALES = ("linear", "log")
_BESIDE = {"number": 4, "zero": 8}
"""Values on each side of the middle of a view."""
_ALL = 8
"""Bits of a format whose values are all drawn; of a wider one powers of two are."""
_POWERS = 64
"""Powers of two that are drawn, at most, on each side."""
_CELLS = 40
"""Values beyond which the intervals that go to them are too narrow to be seen."""


def line(asked: Asked) -> dict[str, Any]:
    """Describe the number line of a format, and the way of a number under every rule."""
    read.number_format(asked)
    spec, exact = read.spec(asked), read.number(asked)
    view, scale = read.choice(asked, "view", VIEWS), read.choice(asked, "scale", SCALES)
    values = _values(exact, spec, view)
    axis = _axis(values, scale)
    places = [axis.place(value) for value in values]
    texts = [short(float(value)) for value in values]
    points = [
        {"short": text, "at": at, "kind": _kind(value, spec), **label}
        for value, text, at, label in zip(values, texts, places, labels(texts, places), strict=True)
    ]
    is_stochastic = spec.mode is RoundingMode.STOCHASTIC
    intervals = [] if is_stochastic or len(values) > _CELLS else cells(values, spec)
    return {
        "given": exact_text(exact),
        "at": None if is_nan(exact) else axis.place(exact),
        "is_beyond": not is_nan(exact) and not values[0] <= exact <= values[-1],
        "points": points,
        "are_powers": view == "whole" and (spec.format.width or 0) > _ALL,
        "cells": [_placed(cell, axis) for cell in intervals],
        "lanes": [_lane(row, exact, axis) for row in outcomes(exact, spec)],
        "spec": str(spec),
    }


def _kind(value: Fraction, spec: RoundingSpec) -> str:
    kind: str = rounded(value, RoundingSpec(format=spec.format))["kind"]
    return kind


def _values(exact: Number, spec: RoundingSpec, view: str) -> list[Fraction]:
    """Return the values that are drawn, in order."""
    fmt: Format = spec.format
    if view == "whole":
        return _whole(fmt)
    gradual = RoundingSpec(format=fmt)
    middle: Number = Fraction(0)
    if view == "number" and is_finite(exact):
        middle = Fraction(exact)
    ends = _ends(fmt)
    middle = min(max(Fraction(middle), ends[0]), ends[1])
    found = [middle] if round_exact(middle, gradual).value == middle else []
    for side in (0, 1):
        beside: float | None = None
        for _ in range(_BESIDE[view]):
            start = middle if beside is None else Fraction(beside)
            beside = neighbours_exact(start, gradual)[side]
            if beside is None or not math.isfinite(beside):
                break
            found.append(Fraction(beside))
    return sorted(set(found))


def _ends(fmt: Format) -> tuple[Fraction, Fraction]:
    """Return the smallest and the largest value."""
    if isinstance(fmt, FixedPointFormat):
        return Fraction(fmt.min_value), Fraction(fmt.max_value)
    largest = Fraction(fmt.max_finite)
    lowest = -largest if fmt.is_signed else Fraction(0 if fmt.has_zero else fmt.min_normal)
    return lowest, largest


def _whole(fmt: Format) -> list[Fraction]:
    """Return all values of a small format, or powers of two of a larger one, and its ends."""
    assert fmt.width is not None
    low, high = _ends(fmt)
    if fmt.width <= _ALL:
        codes = (decode_exact(code, fmt) for code in range(1 << fmt.width))
        return sorted({Fraction(value) for value in codes if math.isfinite(value)})
    if isinstance(fmt, FixedPointFormat):
        least, most = -fmt.fraction_bits, fmt.integer_bits - 1
    else:
        least, most = math.frexp(fmt.min_subnormal)[1] - 1, fmt.emax
    step = -(-(most - least + 1) // _POWERS)
    sizes = [Fraction(2) ** e for e in range(most, least - 1, -step)]
    powers = [sign * size for size in sizes for sign in (-1, 1)]
    return sorted({low, high, *(p for p in [*powers, Fraction(0)] if low <= p <= high)})


def _axis(values: list[Fraction], scale: str) -> Axis:
    """Return an axis with half a gap beyond each end."""
    least = min((abs(value) for value in values if value), default=None)
    if scale == "log" and least is not None:
        return Axis(values[0] - abs(values[0]) / 8, values[-1] + abs(values[-1]) / 8, least)
    first = values[1] - values[0] if len(values) > 1 else Fraction(1)
    last = values[-1] - values[-2] if len(values) > 1 else Fraction(1)
    gap = max(min(first, last), (values[-1] - values[0]) / 40)
    return Axis(values[0] - gap, values[-1] + gap)


def cells(values: list[Fraction], spec: RoundingSpec) -> list[dict[str, Any]]:
    """Return the intervals that go to one value each, between neighbours of a format.

    A rule changes its mind at values and half way between them only; so one number of every such
    point and every stretch between two of them decides.

    Examples
    --------
    >>> found = cells([Fraction(1), Fraction(2)], RoundingSpec.parse("q7.0"))
    >>> [(cell["value"], str(cell["low"]), str(cell["high"])) for cell in found]
    [(1.0, '1', '3/2'), (2.0, '3/2', '2')]
    >>> [(cell["has_low"], cell["has_high"]) for cell in found]
    [(True, False), (True, True)]
    """
    probes: list[tuple[Fraction, Fraction, Fraction]] = []
    for low, high in pairwise(values):
        half = (low + high) / 2
        probes += [(low, low, low), (low, (low + half) / 2, half), (half, half, half)]
        probes.append((half, (half + high) / 2, high))
    probes.append((values[-1],) * 3)
    found: list[dict[str, Any]] = []
    for low, probe, high in probes:
        value = round_exact(probe, spec).value
        is_point = low == high
        if found and same(found[-1]["value"], value):
            found[-1] |= {"high": high, "has_high": is_point}
            continue
        found.append(
            {"value": value, "low": low, "high": high, "has_low": is_point, "has_high": is_point}
        )
    return found


def _placed(cell: dict[str, Any], axis: Axis) -> dict[str, Any]:
    """Write an interval with its places."""
    start, end = axis.place(cell["low"]), axis.place(cell["high"])
    brackets = "[" if cell["has_low"] else "(", "]" if cell["has_high"] else ")"
    ends = short(float(cell["low"])), short(float(cell["high"]))
    return {
        "short": short(cell["value"]),
        "interval": f"{brackets[0]}{ends[0]}, {ends[1]}{brackets[1]}",
        "from": start,
        "span": round(end - start, 3),
    }


def _lane(row: dict[str, Any], exact: Number, axis: Axis) -> dict[str, Any]:
    """Add to an outcome the way from the number to it."""
    ways = [_way(way["value"], exact, axis) for way in (row, row.get("also") or row)]
    kept = ("part", "name", "label", "is_chosen", "short", "direction", "also")
    return {key: row.get(key) for key in kept} | {"ways": ways if row.get("also") else ways[:1]}


def _way(value: str, exact: Number, axis: Axis) -> dict[str, Any] | None:
    if "nan" in value or is_nan(exact):
        return None
    start, end = axis.place(exact), axis.place(_number(value))
    return {"to": end, "from": min(start, end), "span": round(abs(end - start), 3)}


def _number(text: str) -> Number:
    return float(text) if "inf" in text else Fraction(text)
