"""Bounds of sums in steps: above every measured error, and not far above the largest ones."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.analysis.bounds.step_bounds import least_sizes, step_unit
from precsim.analysis.bounds.units import unit_of

SPECS = [
    "mi100:fp16",
    "mi100:bf16:promote32",
    "mi250:fp16",
    "mi250:bf16:splitk3x8",
    "mi300x:fp16",
    "mi300x:bf16:promote64",
    "mi300x:xf32",
    "mi300x:e4m3fnuz",
    "avx512:bf16",
    "amx:fp16",
    "arm:bf16:promote8",
    "arm_ebf16:bf16",
    "v100:fp16",
    "h100:fp16",
    "h100:fp16:acc=fp16",
    "h100:e4m3:promote32",
    "h100:bf16:splitk2x16",
    "bf16_bf16_bf16[rtp]:exact3",
    "e4m3_e4m3_fp32:floored14x9p2",
    "bf16_bf16_fp32[rtz]:fused16x12@-126",
]
K = 101
ROWS = 60


def within(name: str, a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest error of dot products over its bound."""
    spec = ps.MatmulSpec.parse(name)
    relative, absolute = step_unit(spec, a.shape[1])
    if spec.product is not None:  # as `product_units` counts rounded products
        relative += unit_of(spec.product).relative * (1 + relative)
        absolute += a.shape[1] * 2.0**-126
    computed = ps.matmul(a[:, None], b[..., None], spec, backend="reference")[:, 0, 0].tolist()
    sizes = [
        np.where(x == 0, 0, np.maximum(np.abs(x), least)).astype(float)
        for x, least in zip((a, b), least_sizes(spec), strict=True)
    ]
    bounds = relative * (sizes[0] * sizes[1]).sum(axis=1) + absolute
    rows = zip(a.tolist(), b.tolist(), computed, strict=True)
    return float(np.max([error(*row) for row in rows] / bounds))


def error(x: list[float], y: list[float], computed: float) -> float:
    exact = sum(Fraction(p) * Fraction(q) for p, q in zip(x, y, strict=True))
    return abs(float(Fraction(computed) - exact))


def drawn(name: str, spread: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    spec = ps.MatmulSpec.parse(name)
    rng = np.random.default_rng(seed)
    x = np.ldexp(
        rng.normal(size=(2, ROWS, K)), rng.integers(-spread, min(spread, 3) + 1, (2, ROWS, K))
    )
    a, b = (
        np.asarray(ps.round_to(side.astype(np.float32), part, overflow="saturate"))
        for side, part in zip(x, (spec.lhs, spec.rhs), strict=True)
        if part is not None
    )
    return a, b


@pytest.mark.long
@pytest.mark.parametrize("name", SPECS)
def test_no_error_is_above_the_bound(name: str) -> None:
    for seed, spread in enumerate((1, 8, 40)):
        assert within(name, *drawn(name, spread, seed)) <= 1


def one_and_then(x: float, y: float, k: int = K) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.full((1, k), x, np.float32), np.full((1, k), y, np.float32)
    a[:, 0] = b[:, 0] = 1
    return a, b


HARD = [
    # A step of products of 2**-11 (1 + 2**-10) beside 1: each rounding takes half a place.
    ("mi100:fp16", *one_and_then(2.0**-13, 2.0**-13 * (1 + 2.0**-10)), 2.0),
    ("mi100:bf16", *one_and_then(2.0**-12, 2.0**-13 * (1 + 2.0**-7)), 2.0),
    ("mi250:bf16", *one_and_then(2.0**-13, 2.0**-13 * (1 + 2.0**-7)), 3.0),
    ("mi300x:fp16", *one_and_then(2.0**-13, 2.0**-14 * (1 + 2.0**-10)), 4.0),
    # Each product is just below what is kept beside 1.
    ("v100:fp16", *one_and_then(2.0**-12 * (2 - 2.0**-10), 2.0**-13 * (2 - 2.0**-10)), 2.0),
    ("h100:fp16", *one_and_then(2.0**-13 * (2 - 2.0**-10), 2.0**-14 * (2 - 2.0**-10)), 2.0),
    ("h100:e4m3", *one_and_then(2.0**-6 * 1.875, 2.0**-9 * 1), 4.0),
]


@pytest.mark.parametrize(("name", "a", "b", "factor"), HARD, ids=[case[0] for case in HARD])
def test_bounds_are_reached_within_a_factor(
    name: str, a: np.ndarray, b: np.ndarray, factor: float
) -> None:
    assert 1 / factor <= within(name, a, b) <= 1


def test_subnormal_operands_have_the_exponent_of_normal_ones() -> None:
    a = np.array([[2.0**-24, 2.0**-14 * (1 + 2.0**-10)]], np.float32)
    b = np.array([[1], [2.0**-14 * (2 - 2.0**-10)]], np.float32)
    assert within("h100:fp16", a, b.T) <= 1
    lost = error(a[0].tolist(), b[:, 0].tolist(), ps.matmul(a, b, "h100:fp16").item())
    of_magnitudes = (np.abs(a.astype(float)) @ np.abs(b)).item()
    assert lost > step_unit(ps.MatmulSpec.parse("h100:fp16"), 2).relative * of_magnitudes


@pytest.mark.long
def test_running_bounds_count_magnitudes_as_normal_numbers() -> None:
    a, b = np.array([2.0**-24], np.float32), np.ones(1, np.float32)
    relative, absolute = step_unit(ps.MatmulSpec.parse("h100:fp16"), 1)
    found = float(ps.running_bound(lambda a: a @ b, a, policy="fwd=h100:fp16"))
    assert relative * 2.0**-14 + absolute <= found < 1.1 * relative * 2.0**-14 + absolute


@pytest.mark.parametrize("name", ["h100:e4m3", "mi300x:fp16", "mi100:fp16"])
def test_too_many_products_have_no_bound(name: str) -> None:
    spec: Any = ps.MatmulSpec.parse(name)
    short, long = (step_unit(spec, k).relative for k in (16, 4096))
    assert 0 < short < long
    if name == "h100:e4m3":
        assert long > 0.02
        assert step_unit(spec, 1 << 16).relative == np.inf
