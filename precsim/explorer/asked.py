"""What a request of the page asks about: texts, numbers, formats and rules, read and checked."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from precsim.formats.arguments import integer, not_allowed, shown
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.layout import BINARY64
from precsim.formats.registry import AnyFormat, Format
from precsim.formats.scaled import refuse_scaled
from precsim.formats.written import parse_number
from precsim.rounding.modes import OverflowMode, RoundingMode, SubnormalMode
from precsim.rounding.spec import RoundingSpec

Asked = Mapping[str, Any]
"""A request: a JSON object."""

LONGEST_NAME = 100
LONGEST_LIST = 200_000
"""Characters of a list of numbers."""
WIDEST = 64
"""Bits of a format that the page shows."""

RULE = {"mode": RoundingMode, "overflow": OverflowMode, "subnormals": SubnormalMode}
"""The parts of a rule that the page lets choose."""

_REPEATED = re.compile(r"(.+)\sx\s*([0-9]{1,6})")


def text(asked: Asked, name: str, *, most: int = LONGEST_NAME) -> str:
    """Return a text of a request."""
    given = asked.get(name)
    if not isinstance(given, str):
        raise TypeError(f"{name} is {shown(given)}; allowed are texts")
    if len(given) > most:
        raise ValueError(f"{name} has {len(given)} characters; allowed are at most {most}")
    return given


def whole(asked: Asked, name: str, default: int, least: int, most: int) -> int:
    """Return an integer of a request."""
    return integer(asked.get(name, default), name, least, most)


def choice(asked: Asked, name: str, allowed: Iterable[str]) -> str:
    """Return one of a few names."""
    given, names = asked.get(name), list(allowed)
    if given not in names:
        raise not_allowed(name, given, names)
    return str(given)


def number(asked: Asked, name: str = "value") -> Fraction | float:
    """Return a number, exactly; a float for -0, the infinities and NaN."""
    return parse_number(text(asked, name, most=LONGEST_LIST))


def numbers(asked: Asked, name: str, most: int) -> list[Fraction | float]:
    """Return the numbers of a list: split at commas and lines, else at spaces; "1 x 300" is 300."""
    given = text(asked, name, most=LONGEST_LIST)
    separator = r"[,;\n]" if re.search(r"[,;\n]|\sx\s*[0-9]", given.strip()) else r"\s+"
    found: list[Fraction | float] = []
    for piece in filter(None, map(str.strip, re.split(separator, given))):
        repeated = _REPEATED.fullmatch(piece)
        word, count = (repeated[1], int(repeated[2])) if repeated else (piece, 1)
        if len(found) + count > most:
            raise ValueError(f"{name} has more than {most} numbers; allowed are at most {most}")
        found += [parse_number(word)] * count
    if not found:
        raise ValueError(f"{name} has no number; allowed are lists such as 1, 0.5, 2**-10")
    return found


def spec(asked: Asked) -> RoundingSpec:
    """Return the format of a request, and the parts of the rule that are given."""
    given = asked.get("format")
    if isinstance(given, Mapping):
        found = RoundingSpec(format=made(given))
    else:
        found = RoundingSpec.parse(text(asked, "format"))
    _check_width(found.format)
    return with_rule(found, {name: asked[name] for name in RULE if asked.get(name)})


def with_rule(given: RoundingSpec, rule: Mapping[str, Any]) -> RoundingSpec:
    """Return a rounding with other parts of its rule; a mode sr that stays keeps its bits."""
    changes = {name: value for name, value in rule.items() if value != getattr(given, name)}
    if "mode" in changes:
        changes["num_random_bits"] = 0
    return replace(given, **changes) if changes else given


def number_format(asked: Asked) -> Format:
    """Return the format of single numbers that a request names or describes."""
    found: Format = spec(asked).format
    refuse_scaled(found, "format")
    return found


CLASSES: dict[str, type[FloatFormat | FixedPointFormat]] = {
    "float": FloatFormat,
    "fixed": FixedPointFormat,
}
FIELDS = {
    "float": (
        *("precision", "exponent_bits", "bias", "specials"),
        *("has_subnormals", "is_signed", "has_negative_zero"),
    ),
    "fixed": ("integer_bits", "fraction_bits", "is_signed"),
}
"""Kind -> the fields by which a format is made."""


def made(fields: Mapping[str, Any]) -> Format:
    """Return the format that fields describe: those of its class, and `kind`."""
    kind = choice(fields, "kind", FIELDS)
    if unknown := [name for name in fields if name not in ("kind", *FIELDS[kind])]:
        raise not_allowed("field", unknown[0], FIELDS[kind])
    given = {name: value for name, value in fields.items() if name != "kind" and value is not None}
    for name, value in given.items():
        if name.startswith(("is_", "has_")) and not isinstance(value, bool):
            raise ValueError(f"{name} is {shown(value)}; allowed are true and false")
    needed = {"float": ("precision", "exponent_bits"), "fixed": ("integer_bits", "fraction_bits")}
    for name in needed[kind]:
        integer(given.get(name), name, *((1, 53) if name == "precision" else (-1100, 1100)))
    return CLASSES[kind](name="your format", **given)


def _check_width(fmt: AnyFormat) -> None:
    """Refuse what has no codes, or values that float64 has not."""
    if not isinstance(fmt, Format):
        return
    if fmt.width is None or fmt.width > WIDEST:
        raise ValueError(f"format {fmt} has no codes of at most {WIDEST} bits")
    if not fmt.fits(BINARY64):
        raise ValueError(f"format {fmt} has values that float64 has not")
