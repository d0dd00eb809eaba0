"""Dot products in a walk: the bits of `matmul` and of the definition of tensor cores."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.analysis.walking.walk import walk
from precsim.formats.written import exact_text, parse_number
from precsim.products.specs.machines import MACHINES
from precsim.products.specs.matrix_units import MATRIX_UNITS
from precsim.rounding.scaled.oracle import quantize_blocks_exactly

CORES = [
    f"{machine}:{'e4m3' if kind == 'fp8' else kind}"
    for machine, kinds in MACHINES.items()
    for kind in kinds
]
CORES += [
    *("h100:e4m3:promote32", "h100:e4m3:mma", "a100:fp16:acc=fp16", "b200:mxfp8", "b200:nvfp4"),
    *("h100:bf16:splitk2x16", "b200:mxfp4", "fp16_fp16_fp32:fused4x23+sticky"),
]


def operands(count: int, spec: str) -> tuple[list[float], list[float], float]:
    draw = np.random.default_rng(count)
    a, b = draw.normal(size=(2, count)) * 2.0 ** draw.integers(-6, 6, (2, count))
    parsed = ps.MatmulSpec.parse(spec)
    lhs = "fp32" if parsed.is_block_scaled else parsed.core.lhs.element
    rhs = "fp32" if parsed.is_block_scaled else parsed.core.rhs.element
    rounded = [np.asarray(ps.round_to(np.clip(x, -6, 6), f)) for x, f in ((a, lhs), (b, rhs))]
    return rounded[0].tolist(), rounded[1].tolist(), 0.0 if parsed.scales_sums else 3.25


@pytest.mark.parametrize("spec", CORES)
def test_a_tensor_core_is_that_of_the_definition(spec: str) -> None:
    for count in (3, 40):
        a, b, c = operands(count, spec)
        found = walk(f"dot({a}, {b}{f', c={c}' if c else ''})", spec)
        assert found.value == ps.oracle.fused_dot_exact(a, b, c, spec)
        for step in found.steps:
            if step.alignment is None:
                continue
            unit = Fraction(2) ** step.alignment.unit
            terms = step.alignment.terms
            assert all(term.value == term.kept * unit + term.lost for term in terms)
            assert step.rounding.exact == sum(term.kept for term in terms) * unit


UNITS = [f"{machine}:{operand}" for machine, units in MATRIX_UNITS.items() for operand in units]
UNITS += [
    *("mi100:bf16:promote4", "mi250:fp16:splitk2x8", "mi300x:bf16:residue16", "mi300x:fp16->fp16"),
    *("bf16_bf16_fp32:floored3x9", "e4m3_e4m3_fp32:floored6x12p2", "fp16_fp16_fp16:exact3"),
]


@pytest.mark.parametrize("spec", UNITS)
def test_a_matrix_unit_is_that_of_the_definition(spec: str) -> None:
    parsed: Any = ps.MatmulSpec.parse(spec)
    draw = np.random.default_rng(UNITS.index(spec))
    for count in (1, 3, 21):
        sides = draw.normal(size=(2, count)) * 2.0 ** draw.integers(-9, 6, (2, count))
        a, b = (
            np.asarray(ps.round_to(side, part)).tolist()
            for side, part in zip(sides, (parsed.lhs, parsed.rhs), strict=True)
        )
        found = walk(f"dot({a}, {b}, c=-3.25)", spec)
        expected = ps.oracle.fused_dot_exact(a, b, -3.25, spec)
        output = parsed.output or parsed.accumulator
        assert found.value == ps.oracle.round_exact(expected, output).value
        for step in found.steps:
            if step.alignment is None:
                continue
            unit = Fraction(2) ** step.alignment.unit
            terms = step.alignment.terms
            assert all(term.value == term.kept * unit + term.lost for term in terms)
            assert step.rounding.exact == sum(term.value for term in terms)
            assert step.rounding.value == sum(term.kept for term in terms) * unit
            if step.alignment.rounds_down:
                assert all(term.lost >= 0 for term in terms)
            else:
                assert all(term.lost * term.value >= 0 for term in terms)


@pytest.mark.parametrize("spec", ["mi100:fp16", "mi250:bf16", "mi300x:fp16", "mi300x:e4m3fnuz"])
@pytest.mark.parametrize("x", ["inf", "nan", "0", "-0", "2**-9"])
def test_a_matrix_unit_takes_special_numbers(spec: str, x: str) -> None:
    if x == "inf" and spec.endswith("fnuz"):
        return
    found = walk(f"dot([{x}, 1], [1, {x}], c={x})", spec)
    number = parse_number(x)
    value = float(number)
    zero = 0.0 if spec.endswith("fnuz") else value  # which has no negative one
    first = value or zero
    expected = ps.oracle.fused_dot_exact([first, 1.0], [1.0, first], value, spec)
    assert repr(found.value) == repr(expected)


def test_mi300x_rounds_a_small_accumulator_down() -> None:
    found = ps.walk("dot([1], [1], mi300x:fp16, c=-2**-60)", "fp32")
    assert found.value == 1 - 2.0**-24
    alignments = [step.alignment for step in found.steps if step.alignment is not None]
    assert [term.kept for term in alignments[-1].terms][-1] == -256
    assert "rounded down to a multiple of 2**-32" in str(found)


def test_it_shows_what_hopper_cuts_off() -> None:
    text = "dot([-2**13, -0.5, -0.25, -0.125], [2**10, 1, 1, 1], h100:fp16, c=2**23)"
    found = ps.walk(text, "fp32")
    assert (found.value, found.exact) == (-0.75, Fraction(-7, 8))
    alignment = found.steps[-1].alignment
    assert alignment is not None
    assert [term.lost for term in alignment.terms] == [0, 0, 0, Fraction(-1, 8), 0]


@pytest.mark.parametrize(
    "spec", ["bf16_bf16_fp32->bf16", "e4m3_e4m3_fp16:product=fp16", "raw_raw_e5m2"]
)
def test_sums_in_sequence_are_those_of_matmul(spec: str) -> None:
    draw = np.random.default_rng(3)
    a, b = draw.normal(size=(2, 6)).astype(np.float32)
    if spec.startswith("raw"):
        a, b = (np.asarray(ps.round_to(x, "e5m2")) for x in (a, b))
    expected = ps.matmul(a[None], b[:, None], spec, backend="reference").item()
    text = f"dot({a.astype(float).tolist()}, {b.astype(float).tolist()}, {spec})"
    assert walk(text, "e5m2" if spec.startswith("raw") else "fp32").value == expected


def test_without_a_spec_each_step_is_fused() -> None:
    found = ps.walk("dot([0.1, 3], [0.3, 0.7])", "fp16")
    a, b = (
        np.asarray(ps.round_to(np.array(x, np.float32), "fp16")) for x in ([0.1, 3], [0.3, 0.7])
    )
    spec = ps.MatmulSpec(accumulator=ps.RoundingSpec.parse("fp16"))
    assert found.value == ps.matmul(a[None], b[:, None], spec, backend="reference").item()
    assert [step.operation for step in found.steps[-2:]] == ["fma", "fma"]


def test_overflow_of_a_tensor_core_is_infinity() -> None:
    found = ps.walk("dot([2**15, 2**15], [2**15, 1], h100:fp16, c=2**127)", "fp32")
    assert found.value == 2.0**127 + 2.0**30 or found.value == 2.0**127
    text = "dot([3e38], [1], h100:bf16, c=3e38)"
    assert ps.walk(text, "fp32").value == float("inf")
    assert "gives infinity" in ps.walk(text, "fp32").steps[-1].rounding.reason


def test_numbers_are_rounded_to_the_operand_at_once() -> None:
    """Through fp16 first, this number would be a tie in e4m3."""
    text = "1.0625000001"
    found = ps.walk(f"dot([{text}], [1], h100:e4m3)", "fp16")
    assert found.steps[0].rounding.spec == "e4m3"
    assert found.value == 1.125


@pytest.mark.parametrize("spec", ["b200:nvfp4", "h100:e4m3:promote128", "ada:e4m3", "b200:mxfp8"])
def test_c_is_refused_where_matmul_refuses_it(spec: str) -> None:
    a, refusal = np.ones((1, 1), np.float32), "c is given; allowed for 'b200:nvfp4' is None"
    calls = (
        lambda: walk("dot([1], [1], c=5)", spec).value,
        lambda: ps.oracle.fused_dot_exact([1.0], [1.0], 5.0, spec),
        lambda: ps.matmul(a, a, spec, c=5 * a, backend="reference").item(),
    )
    for call in calls:
        if ps.MatmulSpec.parse(spec).scales_sums:
            with pytest.raises(ValueError, match=refusal):
                call()
        else:
            assert call() == 6


def test_c_belongs_to_the_total_of_promoted_chains() -> None:
    found = walk("dot([12,0,0,13],[0,4,128.3176,34],c=-850.3133)", "h100:e4m3:promote128")
    assert found.value == -434.31329345703125
    draw = np.random.default_rng(5)
    specs = ("h100:e4m3:promote32", "ada:e4m3:promote64", "h100:e4m3:acc=fp16:promote32")
    for spec in (*specs, "h100:e4m3:splitk2x32"):
        for count in (1, 33, 70):
            a, b = (np.asarray(ps.round_to(draw.normal(size=count), "e4m3")) for _ in "ab")
            c = float(ps.round_to(draw.normal() * 900, "fp16" if "acc" in spec else "fp32"))
            expected = ps.oracle.fused_dot_exact(a.tolist(), b.tolist(), c, spec)
            assert walk(f"dot({a.tolist()}, {b.tolist()}, c={c!r})", spec).value == expected


def test_the_step_of_scales_names_its_own_operand() -> None:
    steps = walk("dot([1,2],[3,0.1])", "b200:nvfp4").steps
    sums, scaled = steps[-2:]
    assert scaled.formula == f"{sums.name} * scales of the arrays"
    assert scaled.numbers.split(" * ")[0] == exact_text(sums.rounding.value)


@pytest.mark.parametrize("spec", ["b200:mxfp8", "b200:nvfp4", "b200:mxfp4"])
def test_numbers_become_elements_of_blocks_step_by_step(spec: str) -> None:
    a, b = [1.0, 2.0, 0.1], [3.0, 0.1, -5.0]
    core = ps.MatmulSpec.parse(spec).core
    expected = []
    for values, operand in ((a, core.lhs), (b, core.rhs)):
        stored = np.array(values, np.float32).astype(float).tolist()
        expected += quantize_blocks_exactly([stored], operand.rounding).elements[0]
    steps = [s for s in walk(f"dot({a}, {b})", spec).steps if s.operation == "quantize"]
    assert [step.rounding.value for step in steps] == expected
    assert steps[2].formula.startswith("0.1 / scale of block 1 of a")


def test_a_small_group_is_written_whole() -> None:
    alignment = walk("dot([1,2],[3,0.1])", "b200:nvfp4").steps[-2].alignment
    assert alignment is not None
    assert alignment.terms[0].text.count(" * ") == 3
    assert "..." not in alignment.terms[0].text
