"""Bits, codes and rules: equal to the definitions."""

import math
from fractions import Fraction
from typing import Any

import pytest

import precsim as ps
from precsim.explorer.answers import answer
from precsim.formats.written import exact_decimal, parse_number
from precsim.rounding.modes import OverflowMode, RoundingMode, SubnormalMode

NUMBERS = ("0.1", "-0", "1e400", "-1e-400", "1/3", "pi", "nan", "-nan", "inf", "0x1.8p-3", "2**-24")
FORMATS = (
    "fp64",
    "fp16",
    "bf16",
    "e4m3",
    "e5m2",
    "e8m0",
    "e4m3fnuz",
    "p3109_k8p4se",
    "e2m1",
    "q3.4",
)


@pytest.mark.parametrize("name", FORMATS)
def test_numbers_become_what_the_definition_says(name: str) -> None:
    for text in NUMBERS:
        found = answer({"question": "number", "value": text, "format": name})
        exact = parse_number(text)
        value, flags = ps.oracle.round_exact(exact, name)
        assert found["value"].removeprefix("-") == exact_decimal(value).removeprefix("-")
        if not math.isnan(value):
            assert found["value"] == exact_decimal(value)
        named = [flag for flag in ps.oracle.Flags if flag in flags]
        assert len(found["flags"]) == len(named)
        if found["code"] is None:
            assert math.isnan(value)
            assert not ps.get_format(name).has_nan
            continue
        bits = "".join(field["bits"] for field in found["fields"])
        assert int(bits, 2) == int(found["code"], 16)
        decoded = ps.oracle.decode_exact(int(bits, 2), name)
        assert exact_decimal(decoded) == found["value"]


def test_the_short_text_of_a_value_is_the_value() -> None:
    for code in range(0, 1 << 16, 251):
        found = answer({"question": "code", "code": f"{code:#x}", "format": "fp16"})
        value = ps.oracle.decode_exact(code, "fp16")
        again = parse_number(found["short"])
        assert again == value or (math.isnan(again) and math.isnan(value))
        assert len(found["short"]) <= 24


def test_errors_and_neighbours_of_a_tie() -> None:
    found = answer({"question": "number", "value": "1+2**-11", "format": "fp16"})
    assert found["short"] == "1"
    assert found["errors"] == {"absolute": "-0.0004883", "relative": "0.0004880", "ulp": "-0.5"} | {
        "relative": found["errors"]["relative"]
    }
    assert found["neighbours"] == ["1", "1.0009765625"]
    assert "even" in found["why"]


@pytest.mark.parametrize("name", ["fp16", "e4m3", "e2m1", "q3.4", "e8m0"])
def test_every_rule_that_the_format_has_is_told(name: str) -> None:
    fmt = ps.get_format(name)
    for text in ("2.6", "-464", "0.0003"):
        found = answer({"question": "roundings", "value": text, "format": name})
        exact = parse_number(text)
        told = {(row["part"], row["name"]): row for row in found["rows"]}
        for mode in RoundingMode:
            row = told["mode", str(mode)]
            value = ps.oracle.round_exact(exact, ps.RoundingSpec(format=fmt, mode=mode)).value
            assert row["value"] == exact_decimal(value)
        for part, kind in (("overflow", OverflowMode), ("subnormals", SubnormalMode)):
            for member in kind:
                changes: dict[str, Any] = {part: member}
                try:
                    rule = ps.RoundingSpec(format=fmt, **changes)
                except ValueError:
                    assert (part, str(member)) not in told
                    continue
                value = ps.oracle.round_exact(exact, rule).value
                assert told[part, str(member)]["value"] == exact_decimal(value)


@pytest.mark.parametrize(
    ("text", "count"), [("1.25", 64), ("1.5", 128), ("1+2**-8", 1), ("1+2**-9", 0), ("-1.75", 192)]
)
def test_chances_of_a_stochastic_rounding_are_counted(text: str, count: int) -> None:
    found = answer({"question": "roundings", "value": text, "format": "q7.0:sr8"})
    (row,) = (row for row in found["rows"] if row["name"] == "sr")
    exact = Fraction(parse_number(text))
    last = [ps.oracle.round_exact(exact, "q7.0:sr8", random_bits=draw).value for draw in range(256)]
    away = sum(value != last[0] for value in last)
    assert away == count
    if away:
        assert row["also"]["chance"].endswith(f": {count} of 256 random integers")
    else:
        assert row["also"] is None


@pytest.mark.parametrize("code", ["hello", "", "0x1ffff"])
def test_a_code_that_is_none_is_named_as_the_page_names_it(code: str) -> None:
    found = answer({"question": "code", "code": code, "format": "fp16"})
    assert found["error"].startswith("code ")
