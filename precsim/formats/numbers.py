"""Formats of single numbers by name: the table of names, and the families that are spelled out."""

import re
from typing import Any, TypeAlias

from precsim.formats.arguments import shown, unknown
from precsim.formats.catalogue import FORMATS
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.p3109 import p3109_format

Format: TypeAlias = FloatFormat | FixedPointFormat
"""A set of numbers, each with a code. Nearly everything takes these."""

canonical: list[str] = [fmt.name for fmt in FORMATS]
"""Names of the registered formats of every kind, in the order of registration."""

registered: dict[str, Any] = {
    name: fmt for fmt, aliases in FORMATS.items() for name in (fmt.name, *aliases)
}
"""Name or alias -> format of any kind; `register_format` adds to both."""

_FLOAT = re.compile(r"float\(e=(\d{1,6}|inf),p=(\d{1,6})\)")
_FIXED = re.compile(r"(u?)q(-?\d{1,6})\.(-?\d{1,6})")


def number_format(given: str | Format, argument: str) -> Format:
    """Return the format of single numbers that a name or a format stands for."""
    found: Any = given
    if isinstance(given, str):
        key = given.strip().lower()
        found = registered.get(given) or registered.get(key) or spelled_number(key)
        if found is None:
            raise unknown("format", given, canonical, aliases=registered)
    if isinstance(found, Format):
        return found
    raise ValueError(f"{argument} is {shown(given)}; allowed are formats of single numbers")


def spelled_number(name: str) -> Format | None:
    """Parse ``float(e=,p=)``, ``qI.F``, ``uqI.F`` and the names of P3109."""
    if match := _FLOAT.fullmatch(name.replace(" ", "")):
        width = None if match[1] == "inf" else int(match[1])
        return FloatFormat(
            name=match[0], precision=int(match[2]), exponent_bits=width, source="user"
        )
    if match := _FIXED.fullmatch(name):
        return FixedPointFormat(
            name=name,
            integer_bits=int(match[2]),
            fraction_bits=int(match[3]),
            is_signed=not match[1],
            source="Q notation; the sign bit is not counted",
        )
    return p3109_format(name)
