"""Fused multiply-adds that break when the product or the sum is rounded on the way."""

import math
from fractions import Fraction
from typing import Any

import gmpy2  # type: ignore[import-untyped]
import numpy as np
import pytest

import precsim as ps
from precsim.formats.floating import FloatFormat
from precsim.rounding.spec import RoundingSpec
from tests.arithmetic.conftest import (
    Floats,
    assert_same_bits,
    exact_fma,
    mpfr_context,
    patterns,
    rounded,
)

CASES = [
    # x, y, z, format, result
    (160.0, 192.0, -(2.0**-16), "e5m2", 28672.0),  # a tie but for the addend; via float32: 32768
    (160.0, 192.0, 2.0**-16, "e5m2", 32768.0),
    (160.0, 192.0, 0.0, "e5m2", 32768.0),
    (3.0, 3.0, -(2.0**-6), "e5m2", 8.0),  # 9 is a tie in e5m2, just below it
    # Products whose last bit survives the cancellation.
    (1 + 2.0**-10, 1 + 2.0**-10, -(1 + 2.0**-9), "fp16", 2.0**-20),
    (1 + 2.0**-7, 1 + 2.0**-7, -(1 + 2.0**-6), "bf16", 2.0**-14),
    (1 + 2.0**-23, 1 + 2.0**-23, -(1 + 2.0**-22), "fp32", 2.0**-46),
    (1 + 2.0**-23, 1 - 2.0**-23, -1.0, "fp32", -(2.0**-46)),
    (1 + 2.0**-23, 1 - 2.0**-23, -(1 - 2.0**-24), "fp32", 2.0**-24 - 2.0**-46),
    (1 + 2.0**-10, 1 + 2.0**-10, -(1 + 2.0**-9), "tf32", 2.0**-20),
    (1 + 2.0**-23, 1 - 2.0**-23, -1.0, "tf32", -(2.0**-46)),
    # The product overflows, the result does not.
    (256.0, 256.0, -512.0, "fp16", 65024.0),
    (2.0**64, 2.0**64, -(2.0**127), "fp32", 2.0**127),
    (2.0**64, 2.0**64, -(2.0**64), "fp32", math.inf),
    (-(2.0**127), 2.0, 2.0**104, "fp32", -(2.0**128 - 2.0**104)),
    # The product underflows, and still decides.
    (2.0**-149, 2.0**-149, 1 + 2.0**-23, "fp32:rtp", 1 + 2.0**-22),
    (2.0**-149, -(2.0**-149), 1.0, "fp32:rtz", 1 - 2.0**-24),
    (2.0**-75, 2.0**-75, 2.0**-149, "fp32", 2.0**-148),  # 1.5 quanta: a tie, to even
    (2.0**-75, 2.0**-76, 2.0**-149, "fp32", 2.0**-149),
    (2.0**-75, 2.0**-75, -0.0, "fp32", 0.0),  # half a quantum
    (2.0**-75, 2.0**-75 * (1 + 2.0**-23), 0.0, "fp32", 2.0**-149),
    (2.0**-12, 2.0**-13, 2.0**-40, "fp16", 2.0**-24),  # just above half a quantum
    (2.0**-12, 2.0**-13, -(2.0**-40), "fp16", 0.0),
    # A tie between values, decided 200 bits below.
    (1 + 2.0**-11, 1.0, 2.0**-149, "fp16", 1 + 2.0**-10),
    (1 + 2.0**-11, 1.0, -(2.0**-149), "fp16", 1.0),
    (2.0**100 * (1 + 2.0**-8), 1.0, 2.0**-149, "bf16", 2.0**100 * (1 + 2.0**-7)),
    (2.0**52, 2.0**75 * (1 + 2.0**-8), -(2.0**-149), "bf16", 2.0**127),
    (4097.0, 4097.0, 2.0**-149, "fp32", 16785410.0),  # 16785409 is a tie
    (4097.0, 4097.0, -(2.0**-149), "fp32", 16785408.0),
    (1 + 2.0**-11, 1.0, 2.0**-149, "tf32", 1 + 2.0**-10),
    (1 + 2.0**-11, 1.0, -(2.0**-149), "tf32", 1.0),
    # Subnormals of tf32 have the quantum 2**-136, which products of its own values miss.
    (2.0**-68, 2.0**-69, 2.0**-149, "tf32", 2.0**-136),
    (2.0**-68, 2.0**-69, 0.0, "tf32", 0.0),
    (2.0**-68, 2.0**-69, -(2.0**-149), "tf32", 0.0),
    (2.0**-68, 3 * 2.0**-69, -(2.0**-149), "tf32", 2.0**-136),
    (2.0**64, 2.0**64, -(2.0**116), "tf32", math.inf),
    (2.0**64, 2.0**64, -(2.0**117), "tf32", 2.0**128 - 2.0**117),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_known_results(dtype: Any) -> None:
    for x, y, z, text, result in CASES:
        got = ps.fma(np.array(x, dtype), np.array(y, dtype), np.array(z, dtype), text)
        assert got.item() == result, (x, y, z, text)
        assert rounded(exact_fma(x, y, z), RoundingSpec.parse(text)) == result


def beside_ties(fmt: FloatFormat, rng: np.random.Generator, size: int) -> list[Floats]:
    """Products half way between two values, and addends far below; float32."""
    p = fmt.precision
    result: list[tuple[float, float, float]] = []
    while len(result) < size:
        a = int(rng.integers(1 << (p // 2), 2 << (p // 2))) | 1
        b = int(rng.integers(1 << (p - p // 2 - 1), 1 << (p - p // 2))) | 1
        if (a * b).bit_length() != p + 1:
            continue
        low, high = max(fmt.emin, -60) - p, min(fmt.emax, 60) - p
        x = float(rng.choice([-1, 1])) * math.ldexp(a, int(rng.integers(low // 2, high // 2)))
        y = math.ldexp(b, int(rng.integers(low // 2, high // 2)))
        z = float(rng.choice([-1, 0, 1])) * math.ldexp(abs(x * y), -int(rng.integers(p + 2, 100)))
        result.append((x, y, z))
    return [np.array(column, np.float32) for column in zip(*result, strict=True)]


@pytest.mark.parametrize("text", ["fp16", "bf16", "fp32", "e5m2", "tf32", "tf32:rtn", "fp32:rna"])
def test_addend_far_below_a_tie_decides(text: str) -> None:
    spec = RoundingSpec.parse(text)
    assert isinstance(spec.format, FloatFormat)
    x, y, z = beside_ties(spec.format, np.random.default_rng(11), 300)
    expected = [rounded(exact_fma(*map(float, case)), spec) for case in zip(x, y, z, strict=True)]
    assert len(set(expected)) > 50
    with np.errstate(over="ignore"):
        assert_same_bits(ps.fma(x, y, z, spec), np.array(expected).astype(np.float32), x, y, z)


def fp32_operands(rng: np.random.Generator, size: int) -> list[Floats]:
    """Random patterns, near and exact cancellations, results that are subnormal or beyond range."""
    x, y, z = (patterns(rng, size, np.float32) for _ in range(3))
    part = size // 4
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        x[:part] = rng.standard_normal(part)
        y[:part] = rng.standard_normal(part)
        z[:part] = np.where(rng.random(part) < 0.5, -x[:part] * y[:part], rng.standard_normal(part))
        scale = np.ldexp(1.0, rng.integers(-30, 30, part))
        z[part : 2 * part] = -x[part : 2 * part] * y[part : 2 * part] * scale
        few = slice(2 * part, 3 * part)  # subnormal products and sums
        x[few] = np.ldexp(rng.standard_normal(part), -70)
        y[few] = np.ldexp(rng.standard_normal(part), rng.integers(-85, -60, part))
        z[few] = np.ldexp(rng.standard_normal(part), rng.integers(-150, -125, part))
    return [x, y, z]


def check_against_mpfr(text: str, size: int, seed: int, rounding: int) -> None:
    spec = RoundingSpec.parse(text)
    assert isinstance(spec.format, FloatFormat)
    x, y, z = fp32_operands(np.random.default_rng(seed), size)
    with gmpy2.context(gmpy2.ieee(32)):
        operands = [[gmpy2.mpfr(v) for v in column.tolist()] for column in (x, y, z)]
    with gmpy2.context(mpfr_context(spec.format, rounding)):
        expected = [float(v) for v in map(gmpy2.fma, *operands)]
    assert_same_bits(ps.fma(x, y, z, spec), np.array(expected, np.float32), x, y, z, note=text)


@pytest.mark.parametrize("name", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize(
    ("mode", "rounding"),
    [
        ("rne", gmpy2.RoundToNearest),
        ("rtz", gmpy2.RoundToZero),
        ("rtp", gmpy2.RoundUp),
        ("rtn", gmpy2.RoundDown),
    ],
)
def test_equals_mpfr(name: str, mode: str, rounding: int) -> None:
    """float32 operands whose products cancel, underflow and overflow, rounded to each format."""
    check_against_mpfr(f"{name}:{mode}", 10_000, 3, rounding)


def test_mpfr_context_of_fp32_is_gmpy2s() -> None:
    fmt = ps.get_format("fp32")
    assert isinstance(fmt, FloatFormat)
    own, ieee = mpfr_context(fmt, gmpy2.RoundToNearest), gmpy2.ieee(32)
    for name in ("precision", "emax", "emin", "subnormalize", "round"):
        assert getattr(own, name) == getattr(ieee, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fp32", "tf32"])
def test_equals_mpfr_on_two_million(name: str) -> None:
    for seed in range(10):
        check_against_mpfr(name, 200_000, 100 + seed, gmpy2.RoundToNearest)


def test_float64_in_between_gives_some_of_them_wrong() -> None:
    """A meta-test: the hard cases are hard, even for a product and a sum rounded to float64."""
    for name in ("bf16", "fp32"):
        spec = RoundingSpec.parse(name)
        assert isinstance(spec.format, FloatFormat)
        x, y, z = beside_ties(spec.format, np.random.default_rng(11), 300)
        twice = ps.round_to(x.astype(np.float64) * y + z, spec)
        once = ps.fma(x.astype(np.float64), y.astype(np.float64), z.astype(np.float64), spec)
        assert np.count_nonzero(twice != once) > 10


def test_operands_are_taken_as_they_are() -> None:
    """0.1 is not a tenth: the exact result is its error, 2**-54."""
    assert exact_fma(0.1, 10.0, -1.0) == Fraction(0.1) * 10 - 1 == Fraction(2) ** -54
    assert ps.fma(0.1, 10.0, -1.0, "fp64").item() == 2.0**-54
