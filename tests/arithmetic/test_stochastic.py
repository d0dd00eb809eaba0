"""Stochastic rounding of exact results: the draw at which each turns, for every number of bits."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.formats.floating import FloatFormat
from precsim.rounding.spec import RoundingSpec
from tests.arithmetic.conftest import (
    CARRIERS,
    EXACT,
    OPERATIONS,
    assert_same_bits,
    exact_multiply,
    expected_in,
    rounded,
)


def turning_draw(exact: Fraction, spec: RoundingSpec) -> int:
    """First draw that rounds away from zero if the fraction is truncated to N bits (variant a)."""
    assert isinstance(spec.format, FloatFormat)
    steps = exact / Fraction(2) ** (math.frexp(exact)[1] - spec.format.precision)
    n = spec.num_random_bits
    return (1 << n) - math.floor((steps % 1) * (1 << n))


@pytest.mark.parametrize("variant", "abc")
@pytest.mark.parametrize(
    ("text", "dtype"),
    [(f"fp32:sr{n}", np.float32) for n in (1, 29, 30, 31, 32)]
    + [("float(e=8,p=23):sr32", np.float32), ("fp16:sr32", np.float32), ("e4m3:sr3", np.float32)]
    + [("fp64:sr31", np.float64), ("fp64:sr32", np.float64), ("fp32:sr32", np.float64)],
)
def test_turns_at_the_draw_of_the_exact_result(text: str, dtype: Any, variant: str) -> None:
    """The last bits of 32 are exact too, though float32 has only a word for them.

    Formerly ``fp32:sr`` with 31 or 32 bits took a sticky bit for the last one or two bits.
    """
    spec = RoundingSpec.parse(f"{text}:{variant}")
    rng = np.random.default_rng(spec.num_random_bits)
    x = rng.uniform(1, 2, 12).astype(dtype)
    small = (rng.uniform(1, 2, 12) * 2.0 ** -np.arange(12)).astype(dtype)
    for operation, y in (("add", small), ("multiply", small), ("divide", x[::-1])):
        cases = []
        for a, b in zip(x.tolist(), y.tolist(), strict=True):
            exact = Fraction(EXACT[operation](a, b))
            turn = turning_draw(exact, spec)
            for draw in range(turn - 2, turn + 3):
                draw %= 1 << spec.num_random_bits  # noqa: PLW2901
                cases.append((a, b, draw, rounded(exact, spec, draw)))
        p, q, draws, expected = (np.array(column) for column in zip(*cases, strict=True))
        got = OPERATIONS[operation][0](p.astype(dtype), q.astype(dtype), spec, random_bits=draws)
        assert_same_bits(got, expected.astype(dtype), p, q, draws, note=f"{spec} {operation}")


@pytest.mark.parametrize("text", ["fp32:sr1", "bf16:sr8", "tf32:sr4:saturate", "fp32:sr:b"])
def test_beyond_the_carrier_no_draw_stops_at_the_largest_value(text: str) -> None:
    """Formerly a draw of 0 gave the largest value instead of infinity."""
    spec = RoundingSpec.parse(text)
    x, y = np.array([1e30, -1e30], np.float32), np.float32(1e30)
    expected = np.array([rounded(exact_multiply(a, float(y)), spec) for a in x.tolist()])
    for draw in (0, 1, (1 << 32) - 1):
        got = ps.multiply(x, y, spec, random_bits=np.uint32(draw))
        assert_same_bits(got, expected.astype(np.float32), x, note=f"{spec} draw {draw}")


@pytest.mark.parametrize("text", ["sr1", "sr8", "sr8:b", "sr2:c", "sr32"])
@pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS)
def test_unlimited_range_ends_in_the_carriers_subnormals(carrier: Any, text: str) -> None:
    """Formerly N bits were aligned to a quantum that the carrier's subnormals do not have."""
    spec = RoundingSpec.parse(f"float(e=inf,p=7):{text}")
    rng = np.random.default_rng(7)
    low = carrier.lsb_min // 2
    x = np.ldexp(rng.uniform(1, 2, 200), low - 2).astype(carrier.float_dtype)
    y = np.ldexp(rng.uniform(1, 2, 200), low + rng.integers(-4, 12, 200)).astype(
        carrier.float_dtype
    )
    draws = rng.integers(0, 1 << 32, 200, dtype=np.uint32)
    got = ps.multiply(x, y, spec, random_bits=draws)
    expected = [
        expected_in(exact_multiply(a, b), spec, carrier, int(r))
        for a, b, r in zip(x.tolist(), y.tolist(), draws, strict=True)
    ]
    assert_same_bits(got, np.array(expected).astype(carrier.float_dtype), x, y, draws, note=spec)


def test_exact_results_ignore_the_draw() -> None:
    x = np.arange(-64, 65, dtype=np.float32)
    for draw in (0, 1, (1 << 32) - 1):
        for text in ("fp16:sr", "fp32:sr1:b", "q9.4:sr5:c"):
            np.testing.assert_array_equal(ps.multiply(x, 0.25, text, random_bits=draw), x / 4)
            np.testing.assert_array_equal(ps.fma(x, 2.0, 1.0, text, random_bits=draw), 2 * x + 1)


def test_only_the_low_bits_of_a_draw_count() -> None:
    x = np.linspace(1, 2, 50, dtype=np.float32)
    draws = np.arange(50) % 16
    expected = ps.divide(1.0, x, "e4m3:sr4", random_bits=draws)
    for high in (16, 1 << 31, 1 << 40, -16):
        got = ps.divide(1.0, x, "e4m3:sr4", random_bits=draws + high)
        assert_same_bits(got, expected, x, note=high)
