"""Other people's arithmetic as oracles: MPFR through gmpy2, NumPy's float16, and the processor's float32.

MPFR has no bounded exponents of its own: `gmpy2.ieee` sets emin and emax and rounds subnormal results once
more, with the ternary value, so that they are rounded once in effect. NumPy computes float16 in float32
and rounds again, which gives the correct result as 24 >= 2 * 11 + 2 (Figueroa 1995; Roux 2014).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import gmpy2  # type: ignore[import-untyped]
import jax
import numpy as np
import pytest

from tests.arithmetic.conftest import OPERATIONS, Floats, assert_same_bits, patterns

MPFR: dict[str, Callable[..., Any]] = {
    "add": gmpy2.add,
    "multiply": gmpy2.mul,
    "divide": gmpy2.div,
    "sqrt": gmpy2.sqrt,
    "fma": gmpy2.fma,
}
NUMPY = ("add", "subtract", "multiply", "divide", "sqrt")
ROUNDINGS = {
    "rne": gmpy2.RoundToNearest,
    "rtz": gmpy2.RoundToZero,
    "rtp": gmpy2.RoundUp,
    "rtn": gmpy2.RoundDown,
    "raz": gmpy2.RoundAwayZero,
}


def half_patterns(operation: str, size: int, seed: int) -> list[Floats]:
    """Random float16 patterns as float32; for roots no more than a few negative ones."""
    rng = np.random.default_rng(seed)
    operands = [patterns(rng, size, np.float16) for _ in range(OPERATIONS[operation][1])]
    if operation == "sqrt":
        operands[0][size // 50 :] = np.abs(operands[0][size // 50 :])
    return [x.astype(np.float32) for x in operands]


def check_against_mpfr(operation: str, size: int, seed: int, mode: str = "rne") -> None:
    operands = half_patterns(operation, size, seed)
    context = gmpy2.ieee(16)
    context.round = ROUNDINGS[mode]
    function = MPFR[operation]
    with gmpy2.context(context):
        columns = [[gmpy2.mpfr(v) for v in x.tolist()] for x in operands]
        expected = np.array([float(v) for v in map(function, *columns)], np.float32)
    got = OPERATIONS[operation][0](*operands, f"fp16:{mode}")
    assert_same_bits(got, expected, *operands, note=f"{operation} {mode}")


@pytest.mark.parametrize("operation", MPFR)
def test_fp16_equals_mpfr(operation: str) -> None:
    check_against_mpfr(operation, 20_000, 1)


@pytest.mark.parametrize("mode", ["rtz", "rtp", "rtn", "raz"])
@pytest.mark.parametrize("operation", MPFR)
def test_fp16_equals_mpfr_in_directed_modes(operation: str, mode: str) -> None:
    check_against_mpfr(operation, 4_000, 2, mode)


@pytest.mark.slow
@pytest.mark.parametrize("operation", MPFR)
def test_fp16_equals_mpfr_on_ten_million_in_total(operation: str) -> None:
    """Two million patterns an operation, ten million in total."""
    for seed in range(10):
        check_against_mpfr(operation, 200_000, 1000 + seed)


@pytest.mark.parametrize("operation", NUMPY)
def test_fp16_equals_numpy(operation: str) -> None:
    operands = half_patterns(operation, 200_000, 3)
    with np.errstate(all="ignore"):
        halves = [x.astype(np.float16) for x in operands]
        expected = getattr(np, operation)(*halves).astype(np.float32)
    assert_same_bits(OPERATIONS[operation][0](*operands, "fp16"), expected, *operands)


@pytest.mark.parametrize("operation", NUMPY)
def test_fp32_equals_the_processor(operation: str) -> None:
    """A million patterns, jitted; half of the pairs of like size, thousands of results subnormal.

    XLA flushes float32 subnormals on the CPU; integer arithmetic does not.
    """
    size = 1_000_000
    rng = np.random.default_rng(4)
    operands = [patterns(rng, size, np.float32) for _ in range(OPERATIONS[operation][1])]
    with np.errstate(all="ignore"):
        half = slice(size // 2)
        operands[0][: size // 8] = np.ldexp(rng.standard_normal(size // 8), -125)
        near = np.ldexp(operands[0][half], rng.integers(-40, 40, size // 2))
        if operation in ("add", "subtract"):
            operands[1][half] = near * np.float32(1.25) * rng.choice([-1, 1], size // 2)
        if operation == "multiply":  # product near the smallest subnormal numbers
            operands[1][half] = np.ldexp(near / operands[0][half] ** 2, -120)
        if operation == "divide":
            operands[1][half] = np.ldexp(near, 120)
        expected = getattr(np, operation)(*operands)
    if operation != "sqrt":
        is_subnormal = (expected != 0) & (np.abs(expected) < np.finfo(np.float32).tiny)
        assert np.count_nonzero(is_subnormal) > 5_000
    got = jax.jit(partial(OPERATIONS[operation][0], spec="fp32"))(*operands)
    assert_same_bits(got, expected, *operands)


@pytest.mark.parametrize("operation", NUMPY)
def test_fp64_equals_the_processor(operation: str) -> None:
    size = 100_000
    rng = np.random.default_rng(5)
    operands = [patterns(rng, size, np.float64) for _ in range(OPERATIONS[operation][1])]
    with np.errstate(all="ignore"):
        near = np.ldexp(operands[0], rng.integers(-60, 60, size))
        operands[-1][: size // 2] = near[: size // 2]
        expected = getattr(np, operation)(*operands)
    assert_same_bits(OPERATIONS[operation][0](*operands, "fp64"), expected, *operands)
