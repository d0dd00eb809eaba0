"""Other people's arithmetic as oracles: MPFR (gmpy2), NumPy's float16, the processor's float32.

MPFR has no bounded exponents of its own: `gmpy2.ieee` sets emin and emax and rounds subnormal
results once more, with the ternary value, so that they are rounded once in effect. NumPy computes
float16 in float32 and rounds again, which gives the correct result as 24 >= 2 * 11 + 2 (Figueroa
1995; Roux 2014).
"""

import math
from functools import partial

import gmpy2  # type: ignore[import-untyped]
import jax
import numpy as np
import pytest

import precsim as ps
from precsim.rounding.oracle import Flags
from tests.arithmetic.conftest import MPFR, OPERATIONS, Floats, assert_same_bits, patterns

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
def test_fp16_equals_mpfr_on_twelve_million_in_total(operation: str) -> None:
    """Two million random bit patterns for each of six operations."""
    for seed in range(10):
        check_against_mpfr(operation, 200_000, 1000 + seed)


SIGNALS = {
    "invalid": Flags.INVALID,
    "divzero": Flags.DIVIDE_BY_ZERO,
    "overflow": Flags.OVERFLOW,
    "underflow": Flags.UNDERFLOW,
    "inexact": Flags.INEXACT,
}


def check_oracle_with_flags(
    operation: str, operands: list[Floats], mode: str = "rne"
) -> dict[Flags, int]:
    """Compare values and flags of the oracle with MPFR's; count the results that signal each flag.

    MPFR detects tininess after rounding, as the oracle. Two conventions differ: it signals an exact
    subnormal result as underflow (IEEE 754-2019, 7.5 does not, by default), and any NaN as invalid.
    """
    signalled = dict.fromkeys(SIGNALS.values(), 0)
    context = gmpy2.ieee(16)
    context.round = ROUNDINGS[mode]
    with gmpy2.context(context) as current:
        for case in zip(*(x.tolist() for x in operands), strict=True):
            numbers = list(map(gmpy2.mpfr, case))
            current.clear_flags()
            expected = float(MPFR[operation](*numbers))
            raised = {flag for name, flag in SIGNALS.items() if getattr(current, name)}
            if Flags.INEXACT not in raised:
                raised.discard(Flags.UNDERFLOW)
            if any(map(math.isnan, case)):
                raised.discard(Flags.INVALID)
            value, flags = ps.oracle.compute_exact(operation, *case, spec=f"fp16:{mode}")
            same = math.isnan(value) and math.isnan(expected)
            same = same or (value, math.copysign(1, value)) == (
                expected,
                math.copysign(1, expected),
            )
            assert same, (operation, mode, case, value, expected)
            assert set(flags) == raised, (operation, mode, case, flags, raised)
            for flag in raised:
                signalled[flag] += 1
    return signalled


@pytest.mark.parametrize("operation", MPFR)
def test_values_and_flags_of_the_oracle_equal_mpfr(operation: str) -> None:
    operands = half_patterns(operation, 800, 6)
    signalled = check_oracle_with_flags(operation, operands)
    for mode in ("rtz", "rtp", "rtn"):
        check_oracle_with_flags(operation, [x[:100] for x in operands], mode)
    assert signalled[Flags.INEXACT] > 100


def test_flags_beside_the_smallest_normal_number_and_beyond_the_range() -> None:
    """Tininess after rounding: products just below 2**-14 that round to it, tiny or not."""
    rng = np.random.default_rng(7)
    x, y = rng.integers(1024, 2048, (2, 200_000))
    near = (x * y >= 2**21 - 2**11) & (x * y < 2**21)
    products = [x[near] * 2.0**-17, y[near] * 2.0**-18]
    assert products[0].size > 50
    for mode in ("rne", "rtz", "rtp", "rtn"):
        signalled = check_oracle_with_flags("multiply", products, mode)
        assert signalled[Flags.UNDERFLOW] > 10
        if mode in ("rne", "rtp"):  # as many again are inexact, but not tiny once rounded
            assert signalled[Flags.INEXACT] > signalled[Flags.UNDERFLOW] + 10
    large = [np.array([65504.0] * 3 + [-65504.0, 300.0]), np.array([15.5, 16.0, 17.0, -16.0, 1.0])]
    for mode in ("rne", "rtz", "rtp", "rtn"):
        check_oracle_with_flags("add", large, mode)
        check_oracle_with_flags("multiply", large, mode)


@pytest.mark.slow
@pytest.mark.parametrize("operation", MPFR)
def test_flags_of_the_oracle_equal_mpfr_on_a_hundred_thousand(operation: str) -> None:
    operands = half_patterns(operation, 17_000, 8)
    signalled = check_oracle_with_flags(operation, operands)
    assert signalled[Flags.INEXACT] > 1_000


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
