"""Aligned terms as rows of bits: what is kept of each, and what is lost."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from precsim.explorer.said import near, short
from precsim.formats.reals import floor_log2
from precsim.products.tensor_core.oracle import Aligned

_PLACES_CUT = 16
"""Places below the cut-off that are drawn, at most."""


def rows(found: Aligned, texts: Sequence[str], value: float) -> dict[str, Any]:
    """Draw the terms as rows of bits, from the highest place to the last one that is set."""
    sizes = [abs(Fraction(term.value)) for term in found.terms]
    kept = sum(found.kept) * Fraction(2) ** found.unit
    result = Fraction(value) if math.isfinite(value) else Fraction(0)
    ends = [size for size in (*sizes, abs(kept), abs(result)) if size]
    high = max(map(floor_log2, ends), default=found.unit)
    last = min(map(_last_place, ends), default=found.unit)
    low = max(min(last, found.unit), found.unit - _PLACES_CUT)
    unit = Fraction(2) ** found.unit
    drawn: list[dict[str, Any]] = []
    for text, term, part, size in zip(texts, found.terms, found.kept, sizes, strict=True):
        lost = Fraction(term.value) - part * unit
        row = {
            "text": text,
            "value": near(term.value),
            "bits": _bits(Fraction(term.value), high, low),
            "lost": "0" if not lost else near(lost),
            "goes_on": bool(size and _last_place(size) < low),
            "count": 1,
        }
        if drawn and drawn[-1] | {"count": 1} == row:
            drawn[-1]["count"] += 1
        else:
            drawn.append(row)
    return {
        "rows": drawn,
        "places": [_place(e, found, high) for e in range(high, low - 1, -1)],
        "kept": high - found.unit + 1,
        "largest": f"2^{found.largest}",
        "unit": f"2^{found.unit}",
        "total": {"value": near(kept), "bits": _bits(kept, high, low)},
        "rounded": {"value": short(value), "bits": _bits_of(value, high, low)},
        "lost": near(sum((Fraction(t.value) for t in found.terms), Fraction(0)) - kept),
    }


def _place(exponent: int, found: Aligned, high: int) -> str:
    """Return the label of a place: the ends, the last one that is kept."""
    return f"2^{exponent}" if exponent in (high, found.unit) else ""


def _last_place(size: Fraction) -> int:
    """Return the exponent of the last place that is set."""
    return (size.numerator & -size.numerator).bit_length() - size.denominator.bit_length()


def _bits_of(value: float, high: int, low: int) -> str:
    return _bits(Fraction(value), high, low) if math.isfinite(value) else ""


def _bits(value: Fraction, high: int, low: int) -> str:
    """Write the bits from one place to another after a sign, blank where none is needed."""
    size = math.floor(abs(value) / Fraction(2) ** low)
    digits = f"{size:0{high - low + 1}b}" if size else " " * (high - low + 1)
    shown = digits.lstrip("0")
    inner = shown.rstrip("0")
    return ("-" if value < 0 else " ") + inner.ljust(len(shown)).rjust(len(digits))
