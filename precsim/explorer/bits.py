"""Bits of one number: what it becomes in a format, what a code means, which formats there are."""

from fractions import Fraction
from typing import Any

from precsim.cli.code import parse_code
from precsim.cli.formats import entry, facts
from precsim.cli.number import exact_decimal, hex_float
from precsim.cli.shown import Shown, describe, describe_code
from precsim.explorer import asked as read
from precsim.explorer.asked import Asked
from precsim.formats.registry import get_format, list_formats
from precsim.rounding.oracle import ulp_exact
from precsim.rounding.spec import RoundingSpec

_SHORT = 24
"""Characters of a decimal that stands in a field of the page; a longer one is hexadecimal."""


def formats(asked: Asked) -> dict[str, Any]:
    """List the formats that can be chosen, by kind."""
    kinds = ("float", "fixed", "block")
    return {
        "kinds": {kind: [_listed(name) for name in list_formats(kind=kind)] for kind in kinds},
        "rule": {name: [str(member) for member in kind] for name, kind in read.RULE.items()},
        "fields": {kind: list(fields) for kind, fields in read.FIELDS.items()},
    }


def _listed(name: str) -> dict[str, Any]:
    known = entry(get_format(name))
    return {key: known.get(key) for key in ("name", "width", "aliases")}


def number(asked: Asked) -> dict[str, Any]:
    """Say what a number becomes in a format, under a rule."""
    spec = read.spec(asked)
    read.number_format(asked)
    exact = read.number(asked)
    shown = describe(exact, spec, read.whole(asked, "random_bits", 0, 0, 2**32 - 1))
    assert isinstance(shown, Shown)
    return {"given": plain(exact), **_said(shown, spec)}


def code(asked: Asked) -> dict[str, Any]:
    """Say what a code means in a format."""
    spec = read.spec(asked)
    pattern, widths = parse_code(read.text(asked, "code"))
    shown = describe_code(pattern, spec, widths)
    return {"given": None, **_said(shown, spec)}


def _said(shown: Shown, spec: RoundingSpec) -> dict[str, Any]:
    said = shown.as_dict()
    said["fields"] = [{"name": field.name, "bits": field.bits} for field in shown.fields]
    said["short"] = short(shown.value)
    said["ulp"] = short(ulp_exact(shown.value, spec.format))
    said["facts"] = dict(facts(spec.format))
    return said


def plain(exact: Fraction | float) -> str:
    """Write an exact number as a fraction, or say how long it would be."""
    if isinstance(exact, float):
        return exact_decimal(exact)
    bits = exact.numerator.bit_length() + exact.denominator.bit_length()
    return str(exact) if bits <= 200 else f"a fraction of {bits} bits"


def short(value: float) -> str:
    """Write a float exactly and short: in decimal, or in hexadecimal if its digits are many."""
    text = exact_decimal(value)
    return text if len(text) <= _SHORT else hex_float(value)
