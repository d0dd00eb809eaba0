"""Tensor cores: the bits of `fused_dot_exact`, with every cut in sight."""

from fractions import Fraction
from typing import Any

import pytest

import precsim as ps
from precsim.explorer.answers import answer
from precsim.explorer.choices import formats
from precsim.formats.written import exact_decimal, parse_number
from tests.explorer.requests import FAMOUS

MACHINES = [
    f"{machine}:{operands}"
    for machine, kinds in formats({})["machines"].items()
    for operands in kinds
]
SCHEDULES = ["h100:e4m3:promote128", "h100:e4m3:mma", "a100:fp16:splitk2x8", "h100:bf16:acc=fp32"]
A = "1, -0.4, 3, 2**-9, 1.5, 0, 0.07, -2 "
B = "0.3, 2, -1, 1, 2**-7, 5, 3, 0.6"


def asked(machine: str, **changes: str) -> dict[str, Any]:
    numbers = {"a": A, "b": B, "c": "0.125", **changes}
    return answer({"question": "tensor_core", "machine": machine, **numbers})


@pytest.mark.parametrize("machine", [*MACHINES, *SCHEDULES])
def test_results_have_the_bits_of_the_definition(machine: str) -> None:
    a, b = f"{A}, 448 x 33", f"{B}, 2**-6 x 33"
    found = asked(machine, a=a, b=b)
    assert "error" not in found, found
    core = ps.MatmulSpec.parse(machine).core

    def stored(text: str, side: Any) -> list[float]:
        spec = side.rounding if side.blocks is None else "fp32"
        listed = [n for part in text.split(",") for n in _repeated(part)]
        return [ps.oracle.round_exact(parse_number(n), spec).value for n in listed]

    expected = ps.oracle.fused_dot_exact(stored(a, core.lhs), stored(b, core.rhs), 0.125, machine)
    assert found["result"]["value"] == exact_decimal(expected)


def _repeated(part: str) -> list[str]:
    number, _, count = part.partition(" x ")
    return [number] * int(count or 1)


@pytest.mark.parametrize(
    ("machine", "result", "lost"),
    [
        ("v100:fp16", "0", "-0.875"),
        ("a100:fp16", "-0.5", "-0.375"),
        ("h100:fp16", "-0.75", "-0.125"),
    ],
)
def test_each_gpu_keeps_another_part(machine: str, result: str, lost: str) -> None:
    found = asked(machine, **FAMOUS)
    assert found["result"]["value"] == result
    assert found["exact"] == "-0.875"
    (step,) = found["steps"]
    assert step["lost"] == lost
    terms = sum(row["count"] * Fraction(row["lost"]) for row in step["rows"])
    assert terms == Fraction(lost)


@pytest.mark.parametrize("machine", ["v100:fp16", "h100:e4m3", "b200:nvfp4", "a100:tf32"])
def test_drawn_bits_are_the_terms(machine: str) -> None:
    for step in asked(machine)["steps"]:
        width = len(step["places"])
        high = int(step["places"][0].removeprefix("2^"))
        for row in [*step["rows"], step["total"], step["rounded"]]:
            sign, digits = row["bits"][0], row["bits"][1:]
            assert len(digits) == width
            size = sum(Fraction(2) ** (high - k) for k, digit in enumerate(digits) if digit == "1")
            if row.get("goes_on"):
                continue
            value = Fraction(parse_number(row["value"]))
            drawn = -size if sign == "-" else size
            assert drawn == value or abs(drawn - value) <= abs(value) / 1000  # four digits
        unit = int(step["unit"].removeprefix("2^"))
        assert step["kept"] == high - unit + 1


def test_equal_terms_are_one_row_and_counted() -> None:
    """What an H100 keeps of 31 products 2**-6 beside 448 in e4m3: nothing."""
    (step,) = asked("h100:e4m3", a="1 x 31, 448", b="2^-6 x 31, 1", c="0")["steps"]
    assert [row["count"] for row in step["rows"]] == [31, 1, 1]
    assert step["rows"][0]["lost"] == "0.015625"
    assert (step["result"], step["lost"]) == ("448", "0.484375")


@pytest.mark.parametrize("c", ["nan", "inf"])
def test_specials_have_no_alignment(c: str) -> None:
    found = asked("h100:fp16", c=c)
    assert found["result"]["value"] == c
    assert "rows" not in found["steps"][0]
    assert found["errors"] is None


@pytest.mark.parametrize(
    ("machine", "changes", "said"),
    [
        ("h100:fp15", {}, "h100 has no product"),
        ("fp16_fp16_fp32", {}, "allowed are tensor cores"),
        ("h100:fp16", {"b": "1"}, "a has 8 numbers, b 1; allowed is one length for both"),
        ("h100:fp16", {"a": "1 x 65", "b": "1 x 65"}, "a has more than 64 numbers"),
    ],
)
def test_products_that_are_refused(machine: str, changes: dict[str, str], said: str) -> None:
    assert said in asked(machine, **changes)["error"]
