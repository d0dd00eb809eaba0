"""What requests ask about: lists of numbers, formats made of their fields, rules."""

from fractions import Fraction
from typing import Any

import pytest

import precsim as ps
from precsim.explorer.asked import made, numbers, spec


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1, 2", [1, 2]),
        ("1 2\t3", [1, 2, 3]),
        ("1\n2;3,", [1, 2, 3]),
        ("1/3, 2 ** -1", [Fraction(1, 3), Fraction(1, 2)]),
        ("0.5 x 3", [Fraction(1, 2)] * 3),
        ("1, 0x1p-1 x 2", [1, Fraction(1, 2), Fraction(1, 2)]),
        ("-0", [-0.0]),
    ],
)
def test_lists(text: str, found: list[Any]) -> None:
    assert numbers({"x": text}, "x", 10) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "x has no number"),
        (" , ", "x has no number"),
        ("1 x 11", "more than 10 numbers"),
        ("1 x 999999", "more than 10 numbers"),
        ("1 " * 11, "more than 10 numbers"),
        ("1, zz", "is not a number"),
    ],
)
def test_lists_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        numbers({"x": text}, "x", 10)


def test_a_format_of_ones_own_is_that_of_the_constructor() -> None:
    for name in ps.list_formats(kind="float"):
        fmt = ps.get_format(name)
        assert isinstance(fmt, ps.FloatFormat)
        names = ("precision", "exponent_bits", "bias", "has_subnormals", "is_signed")
        fields = {field: getattr(fmt, field) for field in (*names, "has_negative_zero")}
        assert made({"kind": "float", "specials": str(fmt.specials), **fields}) == fmt
    assert made({"kind": "fixed", "integer_bits": 3, "fraction_bits": 4}) == ps.get_format("q3.4")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "kind is None; allowed are 'float', 'fixed'"),
        ({"kind": "float"}, "precision is None; allowed are integers from 1 to 53"),
        ({"kind": "float", "precision": 4}, "exponent_bits is None"),
        ({"kind": "float", "precision": 4, "exponent_bits": 3.0}, "exponent_bits is 3.0"),
        ({"kind": "float", "precision": 4, "exponent_bits": 4, "name": "x"}, "field is 'name'"),
        (
            {"kind": "float", "precision": 4, "exponent_bits": 4, "is_signed": "no"},
            "is_signed is 'no'; allowed are true and false",
        ),
        ({"kind": "fixed", "integer_bits": 60, "fraction_bits": 4}, "the width is 65 bits"),
        ({"kind": "fixed", "integer_bits": 10**9, "fraction_bits": -(10**9)}, "integer_bits is"),
    ],
)
def test_fields_that_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(fields)


def test_a_bias_that_float64_has_not_is_refused_quickly() -> None:
    fields = {"kind": "float", "precision": 4, "exponent_bits": 4, "bias": 10**12}
    with pytest.raises(ValueError, match="has values that float64 has not"):
        spec({"format": fields})


def test_the_parts_of_a_rule_replace_those_of_the_text() -> None:
    asked = {"format": "e4m3:sr8", "mode": "rtz", "overflow": "saturate", "subnormals": ""}
    assert str(spec(asked)) == "e4m3:rtz:saturate"
    assert str(spec({"format": "e4m3:sr8"})) == "e4m3:sr8"
