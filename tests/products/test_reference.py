"""The reference is the definition: for every spec it equals exact rational steps in a row."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.rounding.modes import OverflowMode, RoundingMode, SubnormalMode
from tests.products.conftest import (
    DATA,
    assert_same_bits,
    normal,
    oracle_matmul,
    reference,
    signs,
    single,
    special,
    tiny,
)

NAMED = [
    "fp16_fp16_fp32", "fp16_fp16_fp16", "bf16_bf16_bf16", "e4m3_e4m3_fp16", "e5m2_e5m2_e5m2",
    "e4m3_e5m2_bf16", "fp32_fp32_fp32", "tf32_tf32_fp32", "raw_raw_fp32", "raw_bf16_e4m3",
    "q3.12_q3.12_q3.12", "q3.8_q3.8_q3.8", "uq0.8_q3.4_q7.8[rtn]", "q3.4_q3.4_q3.4",
    "q3.4[wrap]_q3.4[wrap]_q3.4[wrap]", "q3.4_q3.4_q3.4[wrap:rna]", "fp16_fp16_q7.8",
    "fp16_fp16_fp16:adder=fp32", "bf16_bf16_bf16:adder=fp32[rtz]", "e4m3_e4m3_e4m3:adder=fp16",
    "fp16_fp16_fp16:product=fp16", "e4m3_e4m3_fp32:product=bf16[rtz]",
    "bf16_bf16_bf16:product=bf16:adder=fp32", "q3.4_q3.4_q3.4:product=q3.4[wrap]",
    "bf16_bf16_fp32->bf16", "fp16_fp16_fp32->e4m3[saturate:rtz]", "fp16_fp16_fp16->q3.4[rtn]",
    "fp16_fp16_fp32->e8m0[raz:saturate]", "fp16_fp16_e8m0[raz:saturate]", "e2m1_e2m1_e3m2[rto]",
    "e4m3fnuz_e5m2fnuz_e4m3fnuz", "bf16[flush_after_rounding]_bf16_bf16[flush_after_rounding]",
]  # fmt: skip
FORMATS = ["fp32", "fp16", "bf16", "e4m3", "e5m2", "e3m2", "q3.8", "q7.8", "tf32", "e4m3fnuz"]
MODES = [mode for mode in RoundingMode if mode is not RoundingMode.STOCHASTIC]


def drawn_part(rng: np.random.Generator, *, may_be_none: bool) -> ps.RoundingSpec | None:
    """Draw a format with a mode, an overflow and a subnormal policy."""
    if may_be_none and rng.random() < 0.4:
        return None
    fmt = ps.get_format(str(rng.choice(FORMATS)))
    is_fixed = isinstance(fmt, ps.FixedPointFormat)
    allowed = [OverflowMode.SATURATE, OverflowMode.WRAP if is_fixed else OverflowMode.INFINITY]
    return ps.RoundingSpec(
        format=fmt,
        mode=MODES[rng.integers(len(MODES))],
        overflow=allowed[rng.integers(2)],
        subnormals=list(SubnormalMode)[0 if is_fixed else rng.integers(3)],
    )


def drawn_spec(seed: int) -> ps.MatmulSpec:
    rng = np.random.default_rng(seed)
    accumulator = drawn_part(rng, may_be_none=False)
    assert accumulator is not None
    names = ("lhs", "rhs", "product", "adder", "output")
    parts: dict[str, Any] = {name: drawn_part(rng, may_be_none=True) for name in names}
    return ps.MatmulSpec(accumulator=accumulator, **parts)


def check(spec: ps.MatmulSpec, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    # Sums far beyond the format wrap to no determined value (see OverflowMode): no wide data.
    wraps = "wrap" in str(spec)
    c = normal(rng, None, (3, 3))
    for k, data in enumerate((normal, tiny, signs, special) if wraps else DATA):
        first = c if k % 2 else None
        a, b = data(rng, spec.lhs, (3, 5)), data(rng, spec.rhs, (5, 3))
        expected = oracle_matmul(a, b, first, spec)
        got = reference(a, b, spec, first)
        assert_same_bits(got, expected, f"{spec} {data.__name__}", any_nan=True)


@pytest.mark.parametrize("name", NAMED)
def test_equals_the_oracle(name: str) -> None:
    check(ps.MatmulSpec.parse(name))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("accumulator", ["e4m3:saturate", "q3.4:wrap"])
def test_equals_the_oracle_in_every_mode_of_the_accumulator(accumulator: str, mode: str) -> None:
    rounding = ps.RoundingSpec.parse(f"{accumulator}:{mode}")
    operand = ps.RoundingSpec.parse("e4m3")
    check(ps.MatmulSpec(lhs=operand, rhs=operand, accumulator=rounding))


@pytest.mark.long
def test_equals_the_oracle_for_drawn_specs() -> None:
    for seed in range(8):
        check(drawn_spec(seed), seed)


@pytest.mark.slow
def test_equals_the_oracle_for_many_drawn_specs() -> None:
    for seed in range(100, 500):
        check(drawn_spec(seed), seed)


def test_product_is_exact_unless_the_spec_rounds_it() -> None:
    """(1 + 2**-10)**2 - (1 + 2**-9) is 2**-20; the product rounded to fp16 leaves nothing."""
    x = single([[1 + 2**-10]])
    c = single([[-(1 + 2**-9)]])
    assert reference(x, x, "fp16_fp16_fp16", c).item() == 2**-20
    assert reference(x, x, "fp16_fp16_fp16:product=fp16", c).item() == 0


def test_adder_is_a_second_rounding() -> None:
    """2050 + (1 - 2**-20) lies just below a tie of fp16; float32 rounds it to the tie."""
    a = single([[2050, 1 - 2**-10]])
    b = single([[1], [1 + 2**-10]])
    assert reference(a, b, "fp16_fp16_fp16").item() == 2050
    assert reference(a, b, "fp16_fp16_fp16:adder=fp32").item() == 2052


@pytest.mark.long
def test_adder_changes_some_results_of_random_products() -> None:
    rng = np.random.default_rng(0)
    a, b = normal(rng, None, (32, 128)), normal(rng, None, (128, 32))
    once, twice = (reference(a, b, f"fp16_fp16_fp16{adder}") for adder in ("", ":adder=fp32"))
    differ = np.count_nonzero(once != twice)
    assert 0 < differ < once.size / 50


def test_first_value_is_taken_as_it_is() -> None:
    """`c` is not rounded to the accumulator before the first addition, and never if K is 0."""
    c = single([[2048 + 0.75]])
    one, quarter = single([[1]]), single([[0.5]])
    assert reference(quarter, one, "fp16_fp16_fp16", c).item() == 2050
    nothing = np.zeros((1, 0), np.float32)
    assert reference(nothing, nothing.T, "fp16_fp16_fp16", c).item() == c.item()
    assert reference(nothing, nothing.T, "fp16_fp16_fp16->bf16", c).item() == 2048
    assert_same_bits(reference(nothing, nothing.T, "fp16_fp16_fp16"), single([[0]]))


@pytest.mark.long
def test_special_values() -> None:
    """All pairs and triples of special values in one product each, with a first value."""
    special = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 2.0**-149, -(2.0**-126), 3e38]
    triples = np.array(list(itertools.product(special, repeat=3)), np.float32)
    x, y, z = (triples[:, k, None, None] for k in range(3))
    specs = [
        "raw_raw_fp32",
        "fp16_fp16_fp16[rtn]",
        "e4m3_e4m3_e4m3[saturate]",
        "e5m2_e5m2_fp32->e2m1",
    ]
    for spec in map(ps.MatmulSpec.parse, [*specs, "q3.4_q3.4_q3.4", "raw_raw_fp16:product=bf16"]):
        got = reference(x, y, spec, z)
        expected = [oracle_matmul(*operands, spec) for operands in zip(x, y, z, strict=True)]
        assert_same_bits(got, np.stack(expected), spec, any_nan=True)


def test_output_is_rounded_with_the_given_random_bits() -> None:
    rng = np.random.default_rng(0)
    a, b = normal(rng, None, (5, 3)), normal(rng, None, (3, 4))
    draws = rng.integers(0, 1 << 32, (5, 4), dtype=np.uint32)
    for name in (
        "fp16_fp16_fp32->bf16[sr]",
        "raw_raw_fp32->q3.4[sr8:b]",
        "fp16_fp16_fp16->e4m3[sr3:c]",
    ):
        spec = ps.MatmulSpec.parse(name)
        got = ps.matmul(a, b, spec, backend="reference", random_bits=draws)
        assert_same_bits(got, oracle_matmul(a, b, None, spec, draws), spec)


@pytest.mark.parametrize(
    "name", ["fp64_fp64_fp64", "raw_raw_fp32", "fp16_fp16_fp16", "raw_raw_fp64[rtp]->fp32", "q20.20_q3.12_q20.20"]
)  # fmt: skip
def test_float64_carrier(name: str) -> None:
    rng = np.random.default_rng(0)
    spec = ps.MatmulSpec.parse(name)
    for scale in (1, 2.0**-1040, 2.0**500):
        a, b = rng.standard_normal((3, 5)), rng.standard_normal((5, 4)) * scale
        assert_same_bits(reference(a, b, spec), oracle_matmul(a, b, None, spec), spec)


def test_float64_operands_are_rounded_once() -> None:
    """1 + 2**-11 + 2**-40 goes up in fp16; by way of float32 it would be a tie."""
    x = np.array([[1 + 2**-11 + 2**-40]])
    assert reference(x, np.ones((1, 1)), "fp16_raw_fp64").item() == 1 + 2**-10
