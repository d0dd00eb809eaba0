"""Quick steps of matrix units have the general steps' bits, and know where."""

import math
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.products.tensor_core import tiles
from precsim.products.tensor_core.quick_steps import QuickSteps
from precsim.products.tensor_core.step_blocks import block_product, quick_steps
from tests.products.tensor_core.test_product import bits

UNITS = [
    "mi100:fp16",
    "mi100:bf16",
    "mi300x:fp16",
    "mi300x:bf16",
    "mi300x:xf32",
    "mi300x:e4m3fnuz",
    "mi300x:e5m2fnuz_e4m3fnuz",
    "fp16_fp16_fp32:exact8",
    "e5m2_e4m3_fp32:exact6",
    "fp16_fp16_fp32:exact1",
    "bf16_bf16_fp32:floored3x9",
    "e4m3_e4m3_fp32:floored14x23p2",
]
KINDS = ("near", "mixed", "cancelling", "ties", "almost zero", "large", "small")
ROWS = 500
STEPS = 3


def range_of(name: str) -> tuple[ps.MatmulSpec, QuickSteps, int]:
    spec = ps.MatmulSpec.parse(name)
    (found,) = quick_steps(spec)
    assert found.lowest is not None
    return spec, found, found.lowest


def drawn(name: str, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return dot products of three steps within the range of the quick steps."""
    spec, found, lowest = range_of(name)
    order: Any = spec.order
    k = STEPS * order.length
    rng = np.random.default_rng(KINDS.index(kind))
    spread = 1 if kind in ("near", "large", "small") else 4
    x = np.ldexp(rng.standard_normal((2, ROWS, k)), rng.integers(-spread, spread, (2, ROWS, k)))
    if kind in ("ties", "almost zero"):
        few = rng.choice([1.0, 1.0, 1.5, 1.25, 1 + 2.0**-7, 1 + 2.0**-10], x.shape)
        x = np.ldexp(np.sign(x) * few, np.frexp(x)[1])
    if kind == "cancelling":
        half = k // 2
        x[:, :, half : 2 * half] = x[:, :, :half]
        x[1, :, half : 2 * half] *= -1
        x[1] *= np.where(
            rng.random((ROWS, k)) < 0.3, 1 + 2.0 ** -rng.integers(2, 11, x[1].shape), 1
        )
    x = np.where(rng.random(x.shape) < 0.1, 0, x)
    c = np.ldexp(rng.standard_normal(ROWS), rng.integers(-spread, spread, ROWS))
    parts = [part for part in (spec.lhs, spec.rhs) if part is not None]
    formats: Any = [part.format for part in parts]
    places = [max(fmt.emin - fmt.precision + 1, -(-lowest // 2)) for fmt in formats]
    if kind == "large":  # at the upper end of what is allowed
        top = found.highest - k.bit_length()
        for side, fmt in enumerate(formats):
            share = min(fmt.emax, top // 2 - 1)
            x[side] = np.ldexp(np.sign(x[side]), share) * (
                1 + (rng.random(x[side].shape) < 0.5) / 4
            )
        c = np.ldexp(np.sign(c), top - 1)
    if kind == "small":  # few places above the lowest
        exponents = [rng.integers(0, 6, side.shape) for side in x]
        x = np.stack(
            [
                np.ldexp(np.sign(side), place + up)
                for side, place, up in zip(x, places, exponents, strict=True)
            ]
        )
        c = np.ldexp(np.sign(c), sum(places) + rng.integers(0, 8, ROWS))
    a, b = (
        np.asarray(ps.round_to(side.astype(np.float32), part, overflow="saturate"))
        for side, part in zip(x, parts, strict=True)
    )
    if kind == "almost zero":  # the first value takes nearly all of the first step away
        first = (a[:, : order.length].astype(float) * b[:, : order.length]).sum(axis=1)
        c = -first * (1 + rng.choice([0, 2.0**-23, -(2.0**-23), 2.0**-18], ROWS))
    # Multiples of the lowest place, as first values have to be.
    unit = 2.0 ** max(lowest, -149)
    c = np.where(rng.random(ROWS) < 0.1, 0, np.round(c / unit) * unit).astype(np.float32)
    return a[:, None, :], b[:, :, None], c[:, None, None]


@pytest.mark.long
@pytest.mark.parametrize("name", UNITS)
def test_quick_steps_have_the_bits_of_the_general_ones(name: str) -> None:
    spec = range_of(name)[0]
    quick = jax.jit(lambda a, b, c: block_product(a, b, c, spec, is_guarded=False))
    for kind in KINDS:
        a, b, c = drawn(name, kind)
        got, fits = quick(a, b, c)
        want, _ = block_product(a, b, c, spec)
        assert fits, kind
        wrong = np.flatnonzero(bits(got) != bits(want))
        assert not wrong.size, (kind, a[wrong[0]], b[wrong[0]], c[wrong[0]])


@pytest.mark.long
@pytest.mark.parametrize("name", ["mi100:fp16", "mi100:bf16", "mi300x:fp16", "mi300x:e4m3fnuz"])
def test_quick_steps_have_the_bits_of_the_oracle(name: str) -> None:
    spec = range_of(name)[0]
    quick = jax.jit(lambda a, b, c: block_product(a, b, c, spec, is_guarded=False)[0])
    for kind in KINDS:
        a, b, c = drawn(name, kind)
        got = np.asarray(quick(a, b, c))[:40, 0, 0]
        rows = zip(a[:40, 0].tolist(), b[:40, :, 0].tolist(), c[:40, 0, 0].tolist(), strict=True)
        want = [ps.oracle.fused_dot_exact(*row, spec) for row in rows]
        assert (bits(got) == bits(np.array(want, np.float32))).all(), kind


OUTSIDE = [
    ("mi100:bf16", 2.0**-70, 2.0**-70, 0.0),
    ("mi100:bf16", 2.0**100, 2.0**24, 0.0),
    ("mi100:bf16", 1.0, 1.0, 2.0**-140),
    ("mi100:fp16", 1.0, 1.0, 2.0**-60),
    ("mi100:fp16", 1.0, 1.0, 2.0**40),
    ("mi100:fp16", 2.0**15, 2.0**15, 2.0**35),
    ("mi300x:bf16", 2.0**-50, 2.0**-60, 0.0),
    ("mi300x:fp16", 1.0, 1.0, math.inf),
    ("mi300x:fp16", math.nan, 1.0, 0.0),
    ("mi300x:e5m2fnuz", 1.0, math.nan, 0.0),
]


@pytest.mark.parametrize(("name", "x", "y", "c"), OUTSIDE)
def test_numbers_out_of_reach_are_noticed(name: str, x: float, y: float, c: float) -> None:
    spec, found, _ = range_of(name)
    a, b, first = (np.full((2, 2), value, np.float32) for value in (x, y, c))
    assert not found.fit(a, b, first, spec)
    ones = np.ones((2, 2), np.float32)
    assert found.fit(ones, ones, None, spec)


NONE = [
    "bf16_bf16_fp32:exact3",  # 5 windows would be needed
    "fp16_fp16_fp32[rtz]:exact4",
    "fp16_fp16_fp32:exact4:product=fp16",
    "fp32_fp32_fp32:exact2",
    "mi250:bf16",
]


@pytest.mark.parametrize("name", NONE)
def test_other_blocks_have_no_quick_steps(name: str) -> None:
    assert not quick_steps(ps.MatmulSpec.parse(name))


@pytest.mark.long
def test_training_steps_trust_quick_bits_only_where_they_are_right() -> None:
    from precsim.products.emulated import unguarded_matmul

    spec = ps.MatmulSpec.parse("mi100:bf16")
    ones = np.ones((4, 4), np.float32)
    for x, is_trusted in ((ones, True), (ones * np.float32(2.0**-70), False)):
        found, exact = unguarded_matmul(x, x, None, spec)
        assert bool(exact) is is_trusted
        if is_trusted:
            assert (bits(found) == bits(ps.matmul(x, x, spec, backend="reference"))).all()


SHAPES = [
    ((2, 40), (40, 300)),
    ((3, 1, 2, 20), (2, 20, 130)),
    ((2, 20), (3, 20, 129)),
    ((3, 2, 20), (20, 5)),
]


@pytest.mark.long
@pytest.mark.parametrize("name", ["mi300x:e4m3fnuz", "mi250:bf16", "mi100:fp16:promote16"])
def test_tiles_of_columns_and_batches_have_the_same_bits(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "_STEP_ELEMENTS", 512)
    spec: Any = ps.MatmulSpec.parse(name)
    rng = np.random.default_rng(5)
    for shapes in SHAPES:
        a, b = (
            np.asarray(ps.round_to(rng.standard_normal(shape).astype(np.float32), part))
            for shape, part in zip(shapes, (spec.lhs, spec.rhs), strict=True)
        )
        got, _ = jax.jit(lambda a, b: block_product(a, b, None, spec))(a, b)
        assert (bits(got) == bits(block_product(a, b, None, spec)[0])).all()
