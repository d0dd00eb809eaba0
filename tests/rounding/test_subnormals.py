"""Flushing before rounding, and as chop does: by hand, and exhaustively against the oracle."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.rounding.modes import RoundingMode

CHOP_MODES = ("rne", "rtp", "rtn", "rtz", "sr")
SPECS = [f"flush_before_rounding:{mode}" for mode in RoundingMode]
SPECS += [f"flush_tiny:{mode}" for mode in RoundingMode]
SPECS += [f"flush_as_chop:{mode}" for mode in CHOP_MODES]
UNSIGNED = ps.FloatFormat(name="unsigned", precision=3, exponent_bits=3, is_signed=False)
FORMATS = [ps.get_format(n) for n in ("e4m3", "e5m2", "e4m3fnuz", "binary6p3se", "binary7p4ue")]
FORMATS.append(
    ps.FloatFormat(name="one_binade", precision=4, exponent_bits=1, specials=ps.Specials.NONE)
)

# fp16: smallest normal 2**-14, smallest subnormal 2**-24.
XMIN, XMINS = 2.0**-14, 2.0**-24
CHOP = [
    (XMIN, "", XMIN, "in the format"),
    (XMINS, "", 0.0, "the smallest subnormal"),
    (XMIN / 2, "", XMIN, "half way goes up"),
    (-XMIN / 2, "", -XMIN, "half way goes away from zero"),
    (XMIN / 2 - XMINS, "", 0.0, "less than half"),
    (XMIN / 2 - XMINS / 4, "", XMIN, "first rounded to half, with subnormals"),
    (XMIN / 4, "", 0.0, "less than half"),
    (XMIN - XMINS, "", XMIN, "the largest subnormal"),
    (XMIN / 2, ":rtp", XMIN, "up"),
    (-XMIN / 2, ":rtp", -0.0, "up, to zero"),
    (2.0**-149, ":rtp", XMIN, "whatever is positive"),
    (XMIN / 2, ":rtn", 0.0, "down, to zero"),
    (-XMIN / 2, ":rtn", -XMIN, "down"),
    (XMIN - XMINS, ":rtz", 0.0, "toward zero"),
    (-XMIN - XMINS / 2, ":rtz", -XMIN, "a normal result"),
]


@pytest.mark.parametrize(("x", "mode", "result", "why"), CHOP)
def test_the_rule_of_chop(x: float, mode: str, result: float, why: str) -> None:
    """The facts that chop's own tests state, for fp16 without subnormals, and what follows."""
    spec = f"fp16:flush_as_chop{mode}"
    for value in (ps.round_to(x, spec).item(), ps.oracle.round_exact(x, spec).value):
        assert np.float64(value).tobytes() == np.float64(result).tobytes(), why


def test_flush_after_rounding_is_not_chop() -> None:
    """xmin/2 becomes xmin in chop; on the grid {0, xmin} it is a tie, which goes to even, 0."""
    modes = ("flush_after_rounding", "nearest_of_zero_and_min", "flush_as_chop")
    results = {m: ps.round_to(XMIN / 2, f"fp16:{m}").item() for m in modes}
    assert results == {
        "flush_after_rounding": 0.0,
        "nearest_of_zero_and_min": 0.0,
        "flush_as_chop": XMIN,
    }


def test_flush_before_and_after_rounding_differ_below_the_smallest_normal() -> None:
    """Arm's flush-to-zero asks before rounding: what would round to xmin is 0, in every mode."""
    below = np.nextafter(XMIN, 0.0)
    assert ps.round_to(below, "fp16:flush_after_rounding") == XMIN
    for mode in RoundingMode:
        for sign in (1.0, -1.0):
            result = ps.round_to(sign * below, f"fp16:flush_before_rounding:{mode}", random_bits=7)
            assert result == 0
            assert np.signbit(result) == (sign < 0)
    assert ps.round_to(XMIN, "fp16:flush_before_rounding:rtz") == XMIN


def test_operations_are_flushed_by_their_exact_result() -> None:
    """A product just below 2**-126 that float32 itself would round up to it."""
    x, y = np.float32(1 - 2.0**-24), np.float32(2.0**-126)
    assert ps.multiply(x, y, "fp32") == y
    assert ps.multiply(x, y, "fp32:flush_before_rounding") == 0
    assert ps.multiply(x, y, "fp32:flush_after_rounding") == y


def test_flush_tiny_asks_what_an_unlimited_range_would_give() -> None:
    """x86 keeps what rounds to the smallest normal value with half the distance of a subnormal.

    The numbers are of an `avx512_bf16` unit, AMD's: 2**-126 minus small products.
    """
    small = np.float32(2.0**-126)
    kept = {-150: False, -151: True, -160: True}
    for exponent, is_kept in kept.items():
        x = np.float32(2.0 ** (exponent + 75))
        args = -x, np.float32(2.0**-75), small
        assert (ps.fma(*args, "fp32:flush_tiny") == small) == is_kept
        assert ps.fma(*args, "fp32:flush_before_rounding") == 0
        assert ps.fma(*args, "fp32:flush_after_rounding") == small


@pytest.mark.parametrize("mode", [m for m in RoundingMode if m != "sr"])
def test_tiny_sums_of_the_carrier_itself_equal_the_oracle(mode: str) -> None:
    """Where the smallest normal value is the carrier's, what is left over decides."""
    rng = np.random.default_rng(5)
    x = np.ldexp(1 + rng.integers(0, 4, 300) / 2.0**23, -126).astype(np.float32)
    y = np.ldexp(rng.integers(1, 64, 300), rng.integers(-30, -18, 300)).astype(np.float32)
    z = np.float32(-(2.0**-126))
    spec = f"fp32:{mode}:flush_tiny"
    got = ps.fma(z, y, x, spec)
    for values in zip(x, y, got, strict=True):
        first, factor, result = map(float, values)
        want = ps.oracle.round_exact(Fraction(first) - Fraction(factor) * Fraction(2) ** -126, spec)
        assert np.float32(want.value).tobytes() == np.float32(result).tobytes()


def points(fmt: Any, dtype: Any) -> np.ndarray:
    """Return all eighths of the smallest subnormal up to 3 smallest normals, and neighbours."""
    step = fmt.min_subnormal / 8
    x = np.arange(0, 3 * fmt.min_normal / step + 1) * step
    x = np.unique(np.concatenate([x, np.nextafter(x, 0), np.nextafter(x, 1)]).astype(dtype))
    return np.concatenate([x, -x])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fmt", [*FORMATS, UNSIGNED], ids=str)
def test_every_small_number_equals_the_oracle(
    fmt: Any, dtype: Any, oracle: Callable[..., np.ndarray], assert_same_bits: Callable[..., None]
) -> None:
    """Each mode; in each float64 case a third of the numbers, since the oracle is slow."""
    x = points(fmt, dtype)[:: 3 if dtype is np.float64 else 1]
    r = np.random.default_rng(3).integers(0, 1 << 32, x.size, dtype=np.uint32)
    for options in SPECS:
        spec = ps.RoundingSpec.parse(f"e4m3:{options}")
        spec = ps.RoundingSpec(format=fmt, mode=spec.mode, subnormals=spec.subnormals)
        result = ps.round_to(x, spec, random_bits=r)
        assert_same_bits(result, oracle(x, r, spec), inputs=x, what=spec)


def test_jit_equals_numpy(assert_same_bits: Callable[..., None]) -> None:
    """One compilation of all."""
    x = points(ps.get_format("e5m2"), np.float32)
    specs = [f"e5m2:{options}" for options in SPECS]
    results = jax.jit(lambda x: [ps.round_to(x, s, random_bits=9) for s in specs])(x)
    for spec, result in zip(specs, results, strict=True):
        assert_same_bits(result, ps.round_to(x, spec, random_bits=9), inputs=x, what=spec)


@pytest.mark.parametrize("mode", CHOP_MODES)
def test_chop_gives_zero_or_a_normal_number(mode: str) -> None:
    fmt = ps.get_format("e4m3")
    assert isinstance(fmt, ps.FloatFormat)
    results = ps.round_to(points(fmt, np.float64), f"e4m3:flush_as_chop:{mode}", random_bits=77)
    small = np.abs(results[np.abs(results) < 2 * fmt.min_normal])
    assert set(small[small < 1.1 * fmt.min_normal].tolist()) <= {0.0, fmt.min_normal}


def test_underflow_is_flagged_where_a_number_is_flushed() -> None:
    below = Fraction(2) ** -14 - Fraction(2) ** -60
    underflow = ps.oracle.Flags.INEXACT | ps.oracle.Flags.UNDERFLOW
    assert ps.oracle.round_exact(below, "fp16:flush_before_rounding") == (0.0, underflow)
    assert ps.oracle.round_exact(below, "fp16:flush_as_chop") == (XMIN, ps.oracle.Flags.INEXACT)
    assert ps.oracle.round_exact(XMINS, "fp16:flush_as_chop") == (0.0, underflow)
