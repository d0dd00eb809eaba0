"""Dot products of CPUs: the vendors' rules by example, exact dots, and the way in float32."""

import math
from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from conformance import processor
from conformance.silicon import values
from precsim.arithmetic.exact import apply_operation, dot_bits
from precsim.formats.carrier import FLOAT32
from precsim.products.reference import reference_matmul
from precsim.products.tensor_core.float32_blocks import float32_steps
from precsim.products.tensor_core.step_blocks import block_product
from precsim.products.tensor_core.unlimited_blocks import unlimited_steps
from tests.products.tensor_core.test_product import bits

MACHINES = ("avx512:bf16", "amx:bf16", "amx:fp16", "arm:bf16", "arm_ebf16:bf16")
LARGE = float(np.finfo(np.float32).max)
SMALL = 2.0**-126


def run(name: str, *products: tuple[float, float], c: float = 0.0) -> float:
    x, y = (np.array(part, np.float32) for part in zip(*products, strict=True))
    return float(ps.matmul(x, y, name, c=np.float32(c), backend="reference"))


def same(x: float, y: float) -> bool:
    return x == y and math.copysign(1, x) == math.copysign(1, y)


@pytest.mark.parametrize("machine", ["avx512", "amx"])
def test_x86_takes_subnormals_for_zeros_and_flushes_what_is_tiny_after_rounding(
    machine: str,
) -> None:
    name = f"{machine}:bf16"
    assert run(name, (SMALL / 2, 2.0**100)) == 0
    assert run(name, (1.0, 0.0), c=SMALL / 2) == 0
    assert run(name, (2.0**-70, 2.0**-70)) == 0
    if machine == "avx512":
        # In one fused multiply-add: half an ulp of an unlimited range below 2**-126 is kept.
        assert run(name, (-(2.0**-75), 2.0**-75), c=SMALL) == 0
        assert run(name, (-(2.0**-76), 2.0**-75), c=SMALL) == SMALL
    else:
        assert run(name, (-(2.0**-76), 2.0**-75), c=SMALL) == SMALL


def test_amx_takes_subnormals_of_fp16() -> None:
    assert run("amx:fp16", (2.0**-24, 2.0**10)) == 2.0**-14


def test_x86_joins_product_and_sum() -> None:
    """A product of 2**128 is no infinity beside what brings the sum back."""
    assert run("avx512:bf16", (2.0**64, 2.0**64), c=-LARGE) == 2.0**104
    assert run("arm:bf16", (2.0**64, 2.0**64), c=-LARGE) == math.inf


def test_avx512_begins_with_the_second_product_of_a_pair() -> None:
    large = 2.0**24
    assert run("avx512:bf16", (1.0, 1.0), (-large, 1.0), c=large) == 1
    assert run("avx512:bf16", (-large, 1.0), (1.0, 1.0), c=large) == 0


def test_amx_adds_even_and_odd_products_apart_from_zero() -> None:
    large = 2.0**24
    assert run("amx:bf16", (large, 1.0), (1.0, 1.0), (-large, 1.0), c=1.0) == 2
    assert run("amx:bf16", (1.0, 1.0), (1.0, 1.0), c=large) == large + 2
    # Products of -0 leave no trace in chains that begin with +0.
    assert same(run("amx:bf16", (-0.0, 1.0), (-0.0, 1.0), c=-0.0), 0.0)
    assert same(run("avx512:bf16", (-0.0, 1.0), (-0.0, 1.0), c=-0.0), -0.0)


def test_arm_rounds_to_odd_and_to_infinity() -> None:
    name = "arm:bf16"
    assert run(name, (1.0, 2.0**-60), c=1.0) == 1 + 2.0**-23
    assert run(name, (1.0, -(2.0**-60)), c=1.0) == 1 - 2.0**-24
    assert run(name, (1.0, 1.0), (1.0, 2.0**-60), c=1 + 2.0**-23) == 2 + 2.0**-22
    assert run(name, (2.0**64, 2.0**64)) == math.inf
    assert run(name, (2.0**104, 0.5), c=LARGE) == LARGE  # below 2**128: to odd, which it is
    assert run(name, (2.0**104, 1.0), c=LARGE) == math.inf
    assert run(name, (2.0**104, 1.0), (2.0**100, -1.0), c=LARGE) == LARGE
    assert same(run(name, (SMALL / 2, 1.0), (-0.0, 1.0), c=-0.0), 0.0)
    assert same(run(name, (-SMALL / 2, 1.0), (-0.0, 1.0), c=-0.0), -0.0)


def test_extended_bf16_adds_two_exact_products() -> None:
    name, large = "arm_ebf16:bf16", 2.0**100
    assert run(name, (large, large), (-large, large), c=1.0) == 1
    assert math.isnan(run("arm:bf16", (large, large), (-large, large), c=1.0))
    # Two products below the smallest subnormal make one together.
    assert run(name, (2.0**-75, 2.0**-75), (2.0**-75, 2.0**-75)) == 2.0**-149
    assert run(name, (SMALL / 8, 2.0)) == SMALL / 4


def test_exact_dots_of_two_products() -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 1 << 16, (4, 4000)).astype(np.uint16)
    codes[:, ::3] = (
        codes[:, ::3] & 0x807F | rng.integers(100, 150, (4, 1334)).astype(np.uint16) << 7
    )
    codes[2, ::9], codes[3, ::9] = codes[0, ::9], codes[1, ::9] ^ 0x8000
    a, b, c, d = np.asarray(ps.decode(codes, "bf16"))
    for mode in ("rne", "rtp", "rtn", "rtz"):
        spec = ps.RoundingSpec.parse(f"fp32:{mode}")
        got = apply_operation(dot_bits, (a, b, c, d), None, spec, FLOAT32)
        for p, q, r, s, result in zip(*(x.tolist() for x in (a, b, c, d, got)), strict=True):
            if all(map(math.isfinite, (p, q, r, s))):
                total = Fraction(p) * Fraction(q) + Fraction(r) * Fraction(s)
                want = ps.oracle.round_exact(total, spec).value
                assert result == want
            else:
                want = p * q + r * s  # no product of bf16 numbers overflows in float64
                assert result == want or (math.isnan(result) and math.isnan(want))


def inside(name: str, seed: int) -> tuple[Any, ...]:
    """Return numbers for which float32 is exact: of few bits, zeros, infinities, NaN."""
    rng = np.random.default_rng(seed)
    spec: Any = ps.MatmulSpec.parse(name)
    made = []
    for part, shape in ((spec.lhs, (9, 70)), (spec.rhs, (70, 8)), (spec.accumulator, (9, 8))):
        spread = (-20, 21) if part.format.precision == 8 else (-6, 7)
        x = np.ldexp(rng.normal(size=shape), rng.integers(*spread, shape)).astype(np.float32)
        x[rng.random(shape) < 0.2] = 0
        x = np.copysign(x, rng.choice([-1, 1], shape)).astype(np.float32)
        x = np.asarray(ps.round_to(x, part))
        x[np.abs(x) < 2.0**-40] *= 0
        made.append(x)
    a, b, c = made
    a[1, 3], a[2, 5], b[7, 2], c[3, 3], c[4] = np.inf, np.nan, -np.inf, np.inf, -0.0
    a[5], c[5] = -0.0, -0.0
    a[6, 1::2], b[1::2, 6] = a[6, ::2], -b[::2, 6]
    return a, b, c


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [*MACHINES, "bf16_fp16_fp32:dot2:product=fp32", "amx:bf16:splitk2x32"]
)
def test_the_way_in_float32_has_the_same_bits(name: str) -> None:
    spec = ps.MatmulSpec.parse(name)
    (way,) = float32_steps(spec)
    quick = jax.jit(lambda a, b, c: block_product(a, b, c, spec, is_guarded=False, ways=[way]))
    for seed in range(4):
        a, b, c = inside(name, seed)
        got, fits = quick(a, b, c)
        assert fits
        got = np.asarray(got)
        want = reference_matmul(a, b, c, spec)
        is_nan = np.isnan(want)
        assert (np.isnan(got) == is_nan).all()
        assert (bits(got)[~is_nan] == bits(want)[~is_nan]).all()


UNLIMITED = ("avx512:bf16", "amx:bf16", "amx:fp16:promote64", "arm:bf16", "arm:bf16:splitk2x4")


@pytest.mark.long
@pytest.mark.parametrize("name", UNLIMITED)
def test_exponents_apart_have_the_same_bits(name: str) -> None:
    """All magnitudes, sums that are tiny or overflow or cancel, and totals that are not finite."""
    spec: Any = ps.MatmulSpec.parse(name)
    (way,) = unlimited_steps(spec)
    quick = jax.jit(lambda a, b, c: block_product(a, b, c, spec, is_guarded=False, ways=[way]))
    instruction = processor.Instruction(name, str(spec.lhs.format), "fp32", (24, 16, 70))
    tiny = 0
    for k, sort in enumerate(processor.SORTS):
        for count in range(3):
            drawn = processor.drawn(sort, instruction, 1, np.random.default_rng([k, count]))
            a, b, c = drawn[0][0], drawn[1][0].T, drawn[2][0]
            x, y = (np.asarray(ps.decode(v, spec.lhs.format)) for v in (a, b))
            if count == 0:  # few terms: what is tiny does not meet the others
                few = np.arange(70) % 35 < 1
                x, y = np.where(few, x, 0), np.where(few[:, None], y, 0)
            x, y = (np.asarray(ps.round_to(v.astype(np.float32), spec.lhs)) for v in (x, y))
            x, y = (np.where(np.isfinite(v), v, np.copysign(np.float32(1.5), v)) for v in (x, y))
            first = values(c, "fp32")
            got, want = np.asarray(quick(x, y, first)[0]), reference_matmul(x, y, first, spec)
            is_nan = np.isnan(want)
            assert (np.isnan(got) == is_nan).all(), sort
            assert (bits(got)[~is_nan] == bits(want)[~is_nan]).all(), sort
            tiny += int((want == 0).sum())
    assert tiny


def test_subnormals_that_stay_have_no_exponents_apart() -> None:
    for name in ("arm_ebf16:bf16", "bf16_bf16_fp32[flush_tiny]:descending2", "mi250:bf16"):
        assert not unlimited_steps(ps.MatmulSpec.parse(name))


@pytest.mark.long
@pytest.mark.parametrize("name", ["avx512:bf16", "amx:bf16", "arm:bf16:promote8"])
def test_a_batch_of_which_one_leaves_the_range_of_float32(name: str) -> None:
    """`vmap` maps the condition too: each product is what it is alone, without c too."""
    parts = [inside(name, seed)[:2] for seed in range(3)]
    a, b = (np.stack(x) for x in zip(*parts, strict=True))
    a[1, 0, 0] = 2.0**-126
    want = np.stack([ps.matmul(x, y, name, backend="reference") for x, y in zip(a, b, strict=True)])
    mapped = jax.jit(jax.vmap(lambda x, y: ps.matmul(x, y, name)))
    for got in (mapped(a, b), ps.matmul(jax.numpy.asarray(a), b, name)):
        assert (np.isnan(np.asarray(got)) == np.isnan(want)).all()
        assert (bits(got)[~np.isnan(want)] == bits(want)[~np.isnan(want)]).all()


@pytest.mark.parametrize(
    "name", ["bf16_bf16_fp32[rtz]:descending2", "fp32_fp32_fp32:descending2", "mi250:bf16"]
)
def test_other_roundings_and_products_have_no_way_in_float32(name: str) -> None:
    assert not float32_steps(ps.MatmulSpec.parse(name))


@pytest.mark.long
@pytest.mark.parametrize("name", MACHINES)
def test_gradients_are_products_of_the_same_machine(name: str) -> None:
    rng = np.random.default_rng(3)
    operand = ps.MatmulSpec.parse(name).lhs
    assert operand is not None
    a, b, g = (
        np.asarray(ps.round_to(rng.normal(size=shape).astype(np.float32), operand))
        for shape in ((3, 5), (5, 4), (3, 4))
    )
    _, pull = jax.vjp(lambda a, b: ps.matmul(a, b, name), *map(jax.numpy.asarray, (a, b)))
    da, db = pull(jax.numpy.asarray(g))
    assert (bits(da) == bits(ps.matmul(g, b.T, name, backend="reference"))).all()
    assert (bits(db) == bits(ps.matmul(a.T, g, name, backend="reference"))).all()
