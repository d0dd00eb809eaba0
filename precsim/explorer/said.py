"""What the page is told about numbers: exact texts, bits, errors, places on a drawing."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from precsim.formats.fields import fields_of
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.numbers import Format
from precsim.formats.oracle import decode_exact, encode_exact
from precsim.formats.written import approximate, exact_decimal, hex_float
from precsim.rounding.oracle import Flags, round_exact, ulp_exact
from precsim.rounding.spec import RoundingSpec

Number = Fraction | float
"""An exact number; a float only for -0, the infinities and NaN, or a value of a format."""

_LINE = 32
"""Characters of a decimal that stands on a line of its own."""
_SHORT = 18
"""Characters of a decimal that stands in a field; a longer one is written in hexadecimal."""
_ROOM = ((2, 3.0), (1, 1.1))
"""Row of labels -> percent of the axis that a character takes: on every screen, on wide ones."""
_BEFORE = {"start": 0.0, "middle": 0.5, "end": 1.0}
"""Side of a label -> the part of it that stands before its place."""
_EDGE = 8
"""Percent at the ends of an axis where a label stands beside its place."""


def is_finite(exact: Number) -> bool:
    """Return whether a number is finite; fractions are, also those beyond every float."""
    return isinstance(exact, Fraction) or math.isfinite(exact)


def magnitude(exact: Number) -> Number:
    """Return a number without its sign."""
    return -exact if exact < 0 else exact


def same(x: Number, y: Number) -> bool:
    """Return whether two numbers are one; NaN is NaN.

    Examples
    --------
    >>> same(math.nan, math.nan), same(0.0, -0.0), same(Fraction(1, 3), 1 / 3)
    (True, True, False)
    """
    are_nan = all(isinstance(each, float) and math.isnan(each) for each in (x, y))
    return are_nan or x == y


def computed(value: float) -> float:
    """Return a result, NaN without the sign that only the processor gave it."""
    return math.nan if math.isnan(value) else value


def short(value: float) -> str:
    """Write a float exactly and short: in decimal, else as a power of two, else in hexadecimal.

    Examples
    --------
    >>> short(0.15625), short(-(2.0**-30)), short(5 * 2.0**-40)
    ('0.15625', '-2^-30', '0x1.4p-38')
    """
    text = exact_decimal(computed(value))
    if len(text) <= _SHORT:
        return text
    significand, exponent = math.frexp(value)
    if abs(significand) == 0.5:
        return f"{'-' * (value < 0)}2^{exponent - 1}"
    return hex_float(value)


def shown(value: float) -> str:
    """Write a float exactly, in decimal where a line has room for it.

    Examples
    --------
    >>> shown(-3.1415927410125732), shown(2.0**-149)
    ('-3.1415927410125732421875', '2^-149')
    """
    text = exact_decimal(value)
    return text if len(text) <= _LINE else short(value)


def near(exact: Number) -> str:
    """Write a number in decimal: exactly if that is short, else with four digits.

    Examples
    --------
    >>> near(Fraction(1, 8)), near(Fraction(1, 3))
    ('0.125', '0.3333')
    """
    if isinstance(exact, float):
        return short(exact)
    is_dyadic = not exact.denominator & (exact.denominator - 1)
    if is_dyadic and exact.numerator.bit_length() <= 53 and abs(exact) < 2**60:
        text = exact_decimal(float(exact)) if exact.denominator < 2**60 else ""
        if 0 < len(text) <= 12:
            return text
    return approximate(exact)


def stored(value: float, fmt: Format) -> dict[str, Any]:
    """Describe a value of a format: its bits and its texts.

    Examples
    --------
    >>> import precsim as ps
    >>> stored(1.0, ps.get_format("e4m3"))["code"]
    '0x38'
    """
    if math.isnan(value) and not fmt.has_nan:
        return {"fields": [], "code": None, **_texts(value)}
    return coded(encode_exact(value, fmt), fmt)


def coded(code: int, fmt: Format) -> dict[str, Any]:
    """Describe a code of a format: its bits and its texts.

    Examples
    --------
    >>> import precsim as ps
    >>> coded(0x7E, ps.get_format("e4m3"))["value"]
    '448'
    """
    assert fmt.width is not None
    fields = [{"name": field.name, "bits": field.bits} for field in fields_of(code, fmt)]
    digits = -(-fmt.width // 4)
    value = decode_exact(code, fmt)
    return {"fields": fields, "code": f"0x{code:0{digits}x}", **_texts(value), **_kind(value, fmt)}


def _texts(value: float) -> dict[str, Any]:
    return {"value": exact_decimal(value), "short": short(value), "hex_float": hex_float(value)}


def _kind(value: float, fmt: Format) -> dict[str, str]:
    """Say of which class a value is."""
    if math.isnan(value):
        return {"kind": "NaN"}
    if math.isinf(value):
        return {"kind": "infinity"}
    if value == 0:
        return {"kind": "zero"}
    is_low = not isinstance(fmt, FixedPointFormat) and abs(value) < fmt.min_normal
    return {"kind": "subnormal" if is_low else "normal"}


def rounded(exact: Number, spec: RoundingSpec, random_bits: int = 0) -> dict[str, Any]:
    """Describe what a number becomes: the value, its bits, its error, the flags.

    Examples
    --------
    >>> import precsim as ps
    >>> said = rounded(Fraction(1, 10), ps.RoundingSpec.parse("e4m3"))
    >>> said["value"], said["errors"]["ulp"], said["direction"]
    ('0.1015625', '+0.2', 'up')
    """
    value, flags = round_exact(exact, spec, random_bits=random_bits)
    if math.isnan(value) and isinstance(exact, float):
        value = math.copysign(value, exact)
    names = [flag.name.lower().replace("_", " ") for flag in Flags if flag in flags and flag.name]
    return {
        **stored(value, spec.format),
        "flags": names,
        "direction": _direction(value, exact),
        "errors": error(value, exact, spec.format),
    }


def _direction(value: float, exact: Number) -> str:
    if math.isnan(value) or (isinstance(exact, float) and math.isnan(exact)):
        return "none"
    return "exact" if value == exact else "up" if value > exact else "down"


def error(value: float, exact: Number, fmt: Format) -> dict[str, str] | None:
    """Describe the error of a value; None if it is not finite.

    Examples
    --------
    >>> import precsim as ps
    >>> error(1.0, Fraction(9, 8), ps.get_format("e4m3"))
    {'absolute': '-0.125', 'relative': '0.1111', 'ulp': '-1'}
    """
    if not (is_finite(value) and is_finite(exact)):
        return None
    size = Fraction(value) - Fraction(exact)
    sign = "" if not size else "+" if size > 0 else "-"
    relative = (
        approximate(abs(size / Fraction(exact))) if exact else "0" if not size else "infinite"
    )
    return {
        "absolute": sign + approximate(abs(size)),
        "relative": relative,
        "ulp": sign + approximate(abs(size) / Fraction(ulp_exact(exact, fmt))),
    }


class Axis:
    """An axis of a drawing, linear or logarithmic on both sides of zero; places are in percent."""

    def __init__(self, low: Fraction, high: Fraction, least: Fraction | None = None) -> None:
        """Take the ends, and for a logarithmic axis the least magnitude beside zero."""
        self._least = least
        self._low, self._high = self._scaled(low), self._scaled(high)

    def place(self, x: Number) -> float:
        """Return where a number is, at the ends if it is beyond them."""
        if isinstance(x, float) and math.isinf(x):
            return 100.0 if x > 0 else 0.0
        along = (self._scaled(Fraction(x)) - self._low) / (self._high - self._low)
        return round(float(min(max(along, Fraction(0)), Fraction(1))) * 100, 3)

    def _scaled(self, x: Fraction) -> Fraction:
        if self._least is None or not x:
            return x
        size = Fraction(log2(abs(x)) - log2(self._least)) + 1
        return (-1 if x < 0 else 1) * max(size, Fraction(0))


def log2(x: Fraction) -> float:
    """Return the binary logarithm of a positive number of any size, for a drawing."""
    return math.log2(x.numerator) - math.log2(x.denominator)


def labels(texts: Sequence[str], places: Sequence[float]) -> list[dict[str, Any]]:
    """Choose which places of an axis are labelled, so that no two labels touch.

    ``row`` is 2 for labels that every screen has room for, 1 for those of wide ones, in a row of
    their own, 0 for none; ``side`` is where a label stands that would leave the drawing.

    Examples
    --------
    >>> found = labels(["0", "1", "2", "3"], [0.0, 2.0, 50.0, 100.0])
    >>> [(each["row"], each["side"]) for each in found]
    [(2, 'start'), (1, 'start'), (2, 'middle'), (2, 'end')]
    """
    sides = ["start" if p < _EDGE else "end" if p > 100 - _EDGE else "middle" for p in places]
    rows = [0] * len(texts)
    for row, room in _ROOM:
        taken: list[tuple[float, float]] = []
        for k in sorted(range(len(texts)), key=lambda k: min(k, len(texts) - 1 - k)):
            width = room * (len(texts[k]) + 1)
            first = places[k] - width * _BEFORE[sides[k]]
            if not rows[k] and all(first + width <= a or first >= b for a, b in taken):
                rows[k] = row
                taken.append((first, first + width))
    return [{"row": row, "side": side} for row, side in zip(rows, sides, strict=True)]


def percent(part: int, whole: int) -> str:
    """Write a share in percent, so that no part looks like nothing, or like the whole.

    Examples
    --------
    >>> percent(1, 3), percent(0, 3), percent(1, 10**6), percent(10**6 - 1, 10**6)
    ('33.3 %', '0 %', '< 0.01 %', '> 99.9 %')
    """
    share = Fraction(100 * part, whole or 1)
    if share in (0, 100):
        return f"{share} %"
    if share > Fraction(999, 10):
        return "> 99.9 %"
    return "< 0.01 %" if share < Fraction(1, 100) else f"{float(share):.3g} %"
