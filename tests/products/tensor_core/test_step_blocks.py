"""Machines of AMD and their orders: oracle, NumPy and JAX have the same bits; rules by example."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.products.tensor_core.test_product import bits, operands, with_one_nan

MACHINES = [
    "mi100:fp16",
    "mi100:bf16:promote4",
    "mi250:fp16:splitk2x4",
    "mi250:bf16",
    "mi300x:fp16:splitk3x8+residue16",
    "mi300x:bf16",
    "mi300x:xf32",
    "mi300x:e4m3fnuz:promote16",
    "mi300x:e5m2fnuz_e4m3fnuz",
    "avx512:bf16",
    "avx512:bf16:splitk3x2",
    "amx:bf16",
    "amx:fp16:promote32",
    "arm:bf16",
    "arm:bf16:residue8",
    "arm_ebf16:bf16",
]
WHAT_IF = [
    "bf16_bf16_bf16[rtp]:exact3",
    "fp16_fp16_fp16:exact8:product=fp16:residue16",
    "e4m3_e4m3_fp16[rtz]:pairs2:product=e5m2",
    "bf16_bf16_fp32:pairs8",
    "fp16_e4m3_fp32:floored5x13",
    "tf32_tf32_fp32:floored16x20p2:residue16",
    "bf16_bf16_fp32:floored2x1",
    # A step without products would cut off what a chain holds.
    "bf16_bf16_fp32:floored4x9:promote16",
    "fp16_fp16_fp32:floored4x12p2:splitk3x8",
    "fp16_fp16_fp32:exact4:promote16",
    "fp16_fp16_fp32[rtn]:pairs2",
    "bf16_bf16_bf16[rtn]:exact4",
    "fp16_e4m3_fp16[rtn]:descending3",
    "fp32_fp32_fp32:descending5:product=bf16",
    "bf16_bf16_bf16[rtz]:evenodd4:product=fp32",
    "e4m3_e5m2_fp32[rtp]:dot2",
    "bf16_bf16_fp32[rto]:dot2:promote4",
    "fp32_fp32_fp32[rtn]:dot2:product=fp32[rto:flush_tiny]",
]
NOT_OF_THE_FORMAT = [
    "mi250:fp16",
    "mi250:bf16",
    "arm:bf16",
    "avx512:bf16",
    "mi300x:xf32",
    "h100:tf32",
    "h100:e4m3",
    "fp16[flush_after_rounding]_fp16_fp32:fused4x23",
    "fp16[rtz]_e4m3[saturate]_fp32:floored4x12",
]
"""Operands that are rounded, or flushed."""
LARGE = float(np.finfo(np.float32).max)


def exact(name: str, a: Any, b: Any, c: Any) -> np.ndarray:
    made = [
        [
            ps.oracle.fused_dot_exact(x.tolist(), y.tolist(), float(c[i, j]), name)
            for j, y in enumerate(b.T)
        ]
        for i, x in enumerate(a)
    ]
    return np.array(made, np.float32)


def run(a: Any, b: Any, name: str, c: float = 0.0) -> float:
    x, y, first = (np.asarray(v, np.float32) for v in (a, b, c))
    return float(np.asarray(ps.matmul(x, y, name, c=first, backend="reference")).item())


def cases(name: str) -> list[tuple[Any, ...]]:
    kinds = (("bits", 3), ("finite", 21), ("near", 35), ("tiny", 9))
    spec: Any = ps.MatmulSpec.parse(name)
    found = []
    for kind, k in kinds:
        a, b, c = operands(name, (3, 3, k), kind)
        c[0] = 0
        parts = ((a, spec.lhs), (b, spec.rhs), (c, spec.accumulator))
        found.append(tuple(np.asarray(ps.round_to(x, part)) for x, part in parts))
    return found


@pytest.mark.parametrize("name", [*MACHINES, *WHAT_IF])
def test_reference_equals_oracle(name: str) -> None:
    spec = ps.MatmulSpec.parse(name)
    assert ps.MatmulSpec.parse(str(spec)) == spec
    for a, b, c in cases(name):
        got = ps.matmul(a, b, name, c=c, backend="reference")
        assert (with_one_nan(got) == with_one_nan(exact(name, a, b, c))).all()


@pytest.mark.long
@pytest.mark.parametrize("name", [*MACHINES, *WHAT_IF])
def test_compiled_equals_reference(name: str) -> None:
    compiled = jax.jit(lambda a, b, c: ps.matmul(a, b, name, c=c))
    for a, b, c in cases(name):
        left = 35 - a.shape[1]  # one shape, so one compilation
        x, y = np.pad(a, ((0, 0), (0, left))), np.pad(b, ((0, left), (0, 0)))
        want = ps.matmul(x, y, name, c=c, backend="reference")
        assert (bits(compiled(x, y, c)) == bits(want)).all()


def test_one_sum_of_mi100_is_rounded_once() -> None:
    a, b = np.ones((1, 4), np.float32), np.array([[2.0**14]] * 3 + [[-(2.0**14)]], np.float32)
    b[0] += 16
    # 2**-9 survives beside 2**15: two thirds of the sum cancel first.
    got = run(a, b, "mi100:fp16", 2.0**-9 - 2.0**15)
    assert got == 16 + 2.0**-9


def test_mi250_flushes_operands_products_and_sums() -> None:
    def of(x: float, y: float, c: float = 0.0) -> float:
        return run([[x]], [[y]], "mi250:bf16", c)

    subnormal = 2.0**-130
    assert of(subnormal, 2.0**100) == 0
    assert of(2.0**-70, 2.0**-60) == 0
    assert of(1.0, 0.0, subnormal) == 0
    assert of(-1.0, 1.5 * 2.0**-126, 2.0**-126) == 0
    assert of(-1.0, 2.0**-126, 2.0**-125) == 2.0**-126
    assert math.isnan(of(subnormal, math.inf))


def test_mi250_adds_pairs() -> None:
    a = np.ones((1, 4), np.float32)
    pairs = np.array([[2.0**24], [1], [1], [1]], np.float32)
    got = run(a, pairs, "mi250:bf16")
    assert got == 2.0**24 + 2  # (2**24 + 1) + 2; one after the other it stays 2**24


def test_mi300x_rounds_the_accumulator_down() -> None:
    below = run([[1.0]], [[1.0]], "mi300x:fp16", -(2.0**-60))
    assert below == 1 - 2.0**-24
    assert run([[1.0]], [[1.0]], "mi300x:e4m3fnuz", -(2.0**-60)) == 1


def test_mi300x_products_overflow_apart() -> None:
    a, b = [[2.0**127, 2.0**127]], [[2.0], [-2.0]]
    assert math.isnan(run(a, b, "mi300x:bf16"))
    assert run(a, b, "h100:bf16") == 0
    assert run([[2.0**127]], [[2.0]], "mi300x:bf16", -LARGE) == math.inf


def test_fp8_of_mi300x_adds_even_and_odd_products_apart() -> None:
    a = np.zeros((1, 16), np.float32)
    b = np.ones((16, 1), np.float32)
    a[0, :3] = 240, 2.0**-10, 240  # beside even products of 2**7, an odd one keeps its bits
    b[1] = 2.0**-10
    together = run(a, b, "e4m3fnuz_e4m3fnuz_fp32:floored16x24")
    apart = run(a, b, "mi300x:e4m3fnuz")
    assert together == apart == 480  # 2**-20 is below the last place of both
    a[0, :3] = 1, -(2.0**-10), 0
    b[1] = 2.0**-10 * 1.5
    values = [run(a, b, f"e4m3fnuz_e4m3fnuz_fp32:floored16x12{parts}") for parts in ("", "p2")]
    assert values == [1.0, 1 - 2.0**-12]  # cut off toward zero, and rounded down


@pytest.mark.long
def test_gradients_are_products_of_the_same_machine() -> None:
    rng = np.random.default_rng(3)
    a, b, g = (
        np.asarray(ps.round_to(rng.normal(size=shape).astype(np.float32), "bf16"))
        for shape in ((3, 5), (5, 4), (3, 4))
    )
    _, pull = jax.vjp(lambda a, b: ps.matmul(a, b, "mi250:bf16"), jnp.asarray(a), jnp.asarray(b))
    da, db = pull(jnp.asarray(g))
    assert (bits(da) == bits(ps.matmul(g, b.T, "mi250:bf16", backend="reference"))).all()
    assert (bits(db) == bits(ps.matmul(a.T, g, "mi250:bf16", backend="reference"))).all()


REFUSED = {
    "mi100:e4m3": "mi100 has no product 'mi100:e4m3'; its operands are fp16, bf16",
    "mi300x:fp16_bf16": "mi300x has no product 'mi300x:fp16_bf16'; its operands are fp16, bf16, xf32",
    "mi100:fp16:acc=fp16": "mi100 has no accumulator 'fp16'",
    "mi100:fp16:promote3": "interval of schedule 'promote3' is 3; allowed are multiples of the 4",
    "bf16_bf16_fp32:pairs3": "length is 3; allowed in pairs are powers of two",
    "bf16_bf16_fp32:floored17x24": "length is 17; allowed are integers from 1 to 16",
    "bf16_bf16_fp32:floored3x24p2": "length is 3; allowed with two parts are even numbers",
    "bf16_bf16_fp16:floored8x24": "accumulator is 'fp16'; allowed with order 'floored8x24' is 'fp32'",
    "fp32_fp32_fp32:floored8x24": "a product of fp32 and fp32 has 48 bits; allowed are 30",
    "bf16_bf16_fp32[sr]:exact4": "accumulator is 'fp32:sr'; allowed with order 'exact4'",
    "bf16_bf16_bf16:exact4:adder=fp32": "adder is 'fp32'; allowed with order 'exact4' is None",
    "avx512:fp16": "avx512 has no product 'avx512:fp16'; its operands are bf16",
    "amx:bf16_fp16": "amx has no product 'amx:bf16_fp16'; its operands are bf16, fp16",
    "amx:bf16:promote16": "interval of schedule 'promote16' is 16; allowed are multiples of the 32",
    "bf16_bf16_fp32:evenodd3": "length is 3; allowed in evenodd are even numbers",
    "bf16_bf16_fp16:dot2": "accumulator is 'fp16'; allowed with order 'dot2' is 'fp32'",
    "bf16_bf16_fp32:dot2:product=bf16": "product is 'bf16'; allowed with order 'dot2' is 'fp32'",
    "fp32_fp32_fp32:dot2": "a product of fp32 and fp32 has 48 bits; allowed are 30",
    "tpu:bf16": "tpu is no machine of a matmul spec: public prints decide",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_rule_covers_is_refused(name: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 -- the message is compared below
        ps.MatmulSpec.parse(name)
    assert str(error.value).startswith(REFUSED[name])


def test_options_of_an_operand_keep_the_machine() -> None:
    spec = ps.MatmulSpec.parse("mi250:bf16[rtz]")
    assert str(spec) == "mi250:bf16[rtz]"
    assert spec.lhs == ps.RoundingSpec.parse("bf16:rtz:flush_after_rounding")


@pytest.mark.parametrize("name", NOT_OF_THE_FORMAT)
def test_the_oracle_rounds_and_flushes_operands(name: str) -> None:
    """Subnormal numbers of every width, and numbers between values of the formats."""
    numbers = [2.0**-15, -(2.0**-24), 2.0**-130, 1 + 2.0**-11, -1 - 2.0**-9, -0.0, 7e4, 500]
    x = np.array(numbers, np.float32)
    for a, b in ((x, np.ones_like(x)), (np.full_like(x, 0.5), x)):
        wanted = exact(name, a[:, None], b[None, :], np.zeros((len(x), len(x)), np.float32))
        got = jax.jit(lambda a, b: ps.matmul(a, b, name, backend="emulated"))(a[:, None], b[None])
        assert np.array_equal(np.asarray(got), wanted, equal_nan=True)
