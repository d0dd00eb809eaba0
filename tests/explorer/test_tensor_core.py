"""Tensor cores: the bits of `fused_dot_exact`, with every cut in sight."""

from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
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
UNITS = ["mi100:bf16->fp16:promote4", "mi250:fp16:splitk2x8", "bf16_bf16_bf16:exact3:promote6"]
SCHEDULES = ["h100:e4m3:promote128", "h100:e4m3:mma", "a100:fp16:splitk2x8", "h100:bf16:acc=fp32"]
WITHOUT_C = formats({})["without_c"]
A = "1, -0.4, 3, 2**-9, 1.5, 0, 0.07, -2 "
B = "0.3, 2, -1, 1, 2**-7, 5, 3, 0.6"


def asked(machine: str, **changes: str) -> dict[str, Any]:
    numbers = {"a": A, "b": B, **({} if machine in WITHOUT_C else {"c": "0.125"}), **changes}
    return answer({"question": "tensor_core", "machine": machine, **numbers})


@pytest.mark.parametrize("machine", [*MACHINES, *SCHEDULES, *UNITS])
def test_results_have_the_bits_of_the_definition(machine: str) -> None:
    a, b = f"{A}, 448 x 33", f"{B}, 2**-6 x 33"
    found = asked(machine, a=a, b=b)
    assert "error" not in found, found
    parsed: Any = ps.MatmulSpec.parse(machine)
    is_fused = isinstance(parsed.order, ps.FusedBlock)

    def stored(text: str, name: str) -> list[float]:
        side = getattr(parsed.core if is_fused else parsed, name)
        spec = side
        if is_fused:
            spec = side.rounding if side.blocks is None else "fp32"
        listed = [n for part in text.split(",") for n in _repeated(part)]
        return [ps.oracle.round_exact(parse_number(n), spec).value for n in listed]

    c = 0.0 if machine in WITHOUT_C else 0.125
    expected = ps.oracle.fused_dot_exact(stored(a, "lhs"), stored(b, "rhs"), c, machine)
    if parsed.output is not None:
        expected = ps.oracle.round_exact(expected, parsed.output).value
    assert found["result"]["value"] == exact_decimal(expected)


@pytest.mark.parametrize(
    ("machine", "numbers", "value"),
    [
        *(
            ("h100:e4m3:promote128", numbers, value)
            for numbers, value in [
                (("12,0,0,13", "0,4,128.3176,34", "-850.3133"), "-434.31329345703125"),
                (("448,2**-9,448,1", "448,2**-9,448,1", "1/3"), "401408.34375"),
            ]
        ),
        ("h100:fp16->fp16", ("310.03125, 2**-9", "1, -45", ""), "310"),
    ],
)
def test_totals_are_float32_and_outputs_are_rounded(
    machine: str, numbers: tuple[str, str, str], value: str
) -> None:
    found = asked(machine, **dict(zip("abc", numbers, strict=True)))
    assert found["result"]["value"] == value


FUZZED = [
    *("h100:e4m3:promote32", "h100:e4m3:mma", "h100:e4m3", "h100:e5m2:splitk2x32", "a100:tf32"),
    *("h100:fp16->fp16", "b200:e4m3->bf16:promote64", "b200:nvfp4->bf16", "v100:fp16:acc=fp16"),
    *("h100:e4m3->q7.8:promote32", "b200:mxfp8_e4m3"),
    *("mi100:fp16", "mi250:bf16", "mi300x:e4m3fnuz:promote32", "mi300x:xf32->bf16"),
]


@pytest.mark.parametrize("machine", FUZZED)
def test_random_numbers_have_the_bits_of_matmul(machine: str) -> None:
    """With c of 24 bits, totals of any size, outputs of any format."""
    random = Random(machine)
    spec = ps.MatmulSpec.parse(machine)
    c_format = "fp16" if machine.endswith("acc=fp16") else "fp32"
    for _ in range(6):
        a, b = ([random.gauss(0, 20) for _ in range(48)] for _ in range(2))
        c = ps.oracle.round_exact(random.gauss(0, 500), c_format).value
        given = {} if spec.scales_sums else {"c": repr(c)}
        request = {"question": "tensor_core", "machine": machine, **given}
        found = answer({**request, "a": ", ".join(map(repr, a)), "b": ", ".join(map(repr, b))})
        rows = np.array([a], np.float32), np.array([b], np.float32).T
        first = None if spec.scales_sums else np.array([[c]], np.float32)
        expected = ps.matmul(*rows, spec, c=first, backend="reference").item()
        assert found["result"]["value"] == exact_decimal(expected)
        assert found["result"]["short"] == found["steps"][-1]["result"] or found["scale"]


def test_a_product_whose_sums_are_scaled_takes_no_c() -> None:
    ones = np.ones((1, 1), np.float32)
    found = asked("b200:nvfp4", c="5")
    with pytest.raises(ValueError, match="c is given") as refused:
        ps.matmul(ones, ones, "b200:nvfp4", c=5.0)
    assert found == {"error": str(refused.value)}
    expected = ps.matmul(6 * ones, ones, "b200:nvfp4", backend="reference").item()
    assert asked("b200:nvfp4", a="6", b="1", c="")["result"]["value"] == exact_decimal(expected)


@pytest.mark.parametrize(
    "machine", ["h100:bf16:rht=16", "h100:fp16->fp16[sr]", "h100:int8", "h100:fp16[sr]_fp16"]
)
def test_what_is_more_than_steps_is_refused(machine: str) -> None:
    assert "error" in asked(machine)


def test_nan_is_not_another_number_when_it_is_stored() -> None:
    found = asked("h100:fp16", a="nan, 1", b="1, 1", c="0")
    assert not found["are_rounded"]


@pytest.mark.parametrize(
    ("machine", "changes"),
    [
        ("b200:e4m3", {"a": "-2^13, -0.5, -0.25, -0.125", "b": "2^10, 1, 1, 1", "c": "2^23"}),
        ("h100:fp16->bf16", {"a": "inf, -inf", "b": "1, 1"}),
        ("h100:e4m3:promote128", {"a": "-nan, 1", "b": "1, 1"}),
        ("b200:nvfp4", {"a": "nan, 1", "b": "1, -1"}),
    ],
)
def test_nan_has_no_sign(machine: str, changes: dict[str, str]) -> None:
    assert "-nan" not in str(asked(machine, **changes))


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


def test_a_small_accumulator_is_rounded_down_on_mi300x() -> None:
    said = asked("mi300x:fp16", a="1", b="1", c="-2^-60")["steps"]
    products, both, last = said
    assert (products["how"], both["how"]) == ("cut off", "rounded down")
    assert both["rows"][-1]["text"].startswith("accumulator (to a multiple of 2**-24)")
    assert Fraction(parse_number(last["result"])) == 1 - Fraction(1, 2**24)


MATRIX_UNITS = ["mi300x:fp16", "mi300x:e4m3fnuz"]


@pytest.mark.parametrize(
    "machine", ["v100:fp16", "h100:e4m3", "b200:nvfp4", "a100:tf32", *MATRIX_UNITS]
)
def test_drawn_bits_are_the_terms(machine: str) -> None:
    for step in asked(machine)["steps"]:
        if "rows" not in step:
            assert machine in MATRIX_UNITS
            continue
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
