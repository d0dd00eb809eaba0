"""`round_to` equals the casts of NumPy and ml_dtypes, bit for bit, on every path.

Inputs: all 65,536 high halves of a float32 (every sign, exponent and leading bits, so every kind of
subnormal, infinity and NaN) with low halves around the points where a cast changes its mind.

Two differences to ml_dtypes are meant, and each has a test that states it: NaN in formats without
NaN (`test_nan_stays_in_formats_without_nan`; with the preset ``ml_dtypes`` there is none), and e8m0
just above its smallest value (`test_e8m0_rounds_float32_subnormals_to_nearest`). ml_dtypes is right
for float32 inputs only.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import precsim as ps
from precsim.rounding.kernel import in_place
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.modes import RoundingMode

Compare = Callable[..., None]

MAIN: dict[str, Any] = {
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
}
OTHERS: dict[str, Any] = {
    "e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "e4m3b11fnuz": ml_dtypes.float8_e4m3b11fnuz,
    "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "ieee_e4m3": ml_dtypes.float8_e4m3,
    "ieee_e3m4": ml_dtypes.float8_e3m4,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e8m0": ml_dtypes.float8_e8m0fnu,
}
WITHOUT_NAN = ("e3m2", "e2m3", "e2m1")
LOW_HALVES = (0, 1, 0x0FFF, 0x1000, 0x1001, 0x2FFF, 0x3000, 0x3001, 0x7FFF, 0x8000, 0x8001, 0xFFFF)
FEW_LOW_HALVES = (0, 1, 0x8000, 0xFFFF)


def float32_sweep(low_halves: tuple[int, ...]) -> np.ndarray:
    high = np.arange(1 << 16, dtype=np.uint32) << 16
    patterns = high[:, None] | np.array(low_halves, np.uint32)
    return patterns.reshape(-1).view(np.float32)


SWEEP, SHORT_SWEEP = float32_sweep(LOW_HALVES), float32_sweep(FEW_LOW_HALVES)


def cast(x: np.ndarray, name: str) -> np.ndarray:
    """Cast there and back; then put right what precsim does otherwise."""
    dtype = (MAIN | OTHERS)[name]
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.asarray(x.astype(dtype).astype(x.dtype))
    if name in WITHOUT_NAN:
        result[np.isnan(x)] = np.nan
    if name == "e8m0":
        result[above_smallest_e8m0(x)] = 2.0**-127
    return result


def above_smallest_e8m0(x: np.ndarray) -> Any:
    """Float32 subnormals between 2**-127 and 1.5 * 2**-127, the tie."""
    patterns = x.view(np.uint32)
    return (patterns > 0x00400000) & (patterns < 0x00600000)


def small_numpy_path(x: np.ndarray, name: str) -> Any:
    """Return what `round_to` calls for NumPy arrays below the size from which it compiles."""
    return round_array(x, None, ps.RoundingSpec.parse(name))


def eager_jax_operations(x: np.ndarray, name: str) -> Any:
    """Run the kernel's operations one by one, each as a JAX computation of its own."""
    return round_array(jnp.asarray(x), None, ps.RoundingSpec.parse(name))


def jax_path(x: np.ndarray, name: str) -> Any:
    rounded = ps.round_to(jnp.asarray(x), name)
    assert isinstance(rounded, jax.Array)
    return rounded


def users_jit(x: np.ndarray, name: str) -> Any:
    return jax.jit(lambda v: ps.round_to(v, name))(x)


QUICK_PATHS = (small_numpy_path, jax_path, users_jit)
PATHS = (*QUICK_PATHS, ps.round_to, eager_jax_operations)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
@pytest.mark.parametrize("name", MAIN)
def test_float32_inputs(name: str, path: Any, assert_same_bits: Compare) -> None:
    assert_same_bits(path(SWEEP, name), cast(SWEEP, name), inputs=SWEEP, what=name)


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats(name: str, assert_same_bits: Compare) -> None:
    expected = cast(SHORT_SWEEP, name)
    for path in (small_numpy_path, ps.round_to):
        assert_same_bits(path(SHORT_SWEEP, name), expected, inputs=SHORT_SWEEP, what=name)


@pytest.mark.parametrize("name", [*MAIN, "e8m0"])
def test_target_subnormals_are_not_flushed(name: str, assert_same_bits: Compare) -> None:
    """XLA's own arithmetic flushes what bf16 and E8M0 have below 2**-126."""
    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.FloatFormat)
    top = np.float32(fmt.min_normal * 2).view(np.uint32)
    x = np.linspace(0, top, 5000).astype(np.uint32).view(np.float32)
    for path in QUICK_PATHS:
        assert_same_bits(path(x, name), cast(x, name), inputs=x, what=name)


@pytest.mark.parametrize("name", [*MAIN, *OTHERS])
def test_preset_ml_dtypes_gives_the_same_codes(name: str) -> None:
    """Codes, so NaN and its sign too, and what NaN becomes in formats without it."""
    spec = f"{name}:ml_dtypes"
    x = (
        SHORT_SWEEP if name != "fp16" else SHORT_SWEEP[~np.isnan(SHORT_SWEEP)]
    )  # NumPy keeps payloads
    with np.errstate(over="ignore", invalid="ignore"):
        cast_ = x.astype((MAIN | OTHERS)[name])
    theirs = cast_.view(f"u{cast_.itemsize}")
    if name == "e8m0":
        x, theirs = x[~above_smallest_e8m0(x)], theirs[~above_smallest_e8m0(x)]
    for path in (small_numpy_path, ps.round_to):
        np.testing.assert_array_equal(ps.encode(path(x, spec), name), theirs)


@pytest.mark.parametrize("name", WITHOUT_NAN)
def test_nan_stays_in_formats_without_nan(name: str) -> None:
    nan = np.array([np.nan, -np.nan], np.float32)
    with np.errstate(invalid="ignore"):
        theirs = nan.astype(OTHERS[name]).astype(np.float32)
    assert theirs.tolist() == [0.0, 0.0]
    for path in QUICK_PATHS:
        assert np.isnan(np.asarray(path(nan, name))).all()


def test_e8m0_rounds_float32_subnormals_to_nearest() -> None:
    """Below the tie at 1.5 * 2**-127 the nearest value is 2**-127; ml_dtypes 0.6 goes up."""
    patterns = np.array([0x00400001, 0x00500000, 0x005FFFFF, 0x00600000], np.uint32)
    x = patterns.view(np.float32)
    assert above_smallest_e8m0(x).tolist() == [True, True, True, False]
    theirs = x.astype(OTHERS["e8m0"]).astype(np.float64)
    assert theirs.tolist() == [2.0**-126] * 4
    for path in QUICK_PATHS:
        rounded = np.asarray(path(x, "e8m0")).view(np.uint32)
        assert rounded.tolist() == [0x00400000, 0x00400000, 0x00400000, 0x00800000]


def float64_sweep() -> np.ndarray:
    """Numbers at and beside every fp16 value and midpoint, and random patterns in its range."""
    rng = np.random.default_rng(7)
    values = ps.decode(np.arange(0x7C01, dtype=np.uint16), "fp16").astype(np.float64)
    values[-1] = 65536.0
    points = np.concatenate([values, (values[1:] + values[:-1]) / 2, [2.0**-25, 65520.0, 0.0]])
    patterns = points.view(np.uint64)
    patterns = np.concatenate([patterns, patterns + np.uint64(1), patterns - (patterns > 0)])
    exponents = rng.integers(1023 - 27, 1023 + 17, 100_000, dtype=np.uint64) << np.uint64(52)
    patterns = np.concatenate([patterns, exponents | rng.integers(0, 1 << 52, 100_000, np.uint64)])
    positive = patterns.view(np.float64)
    return np.concatenate([positive, -positive, [np.inf, -np.inf, np.nan, 1e300, 5e-324]])


def test_float64_inputs_are_rounded_once(assert_same_bits: Compare) -> None:
    """NumPy rounds float64 to float16 directly; a way through float32 differs on this sweep."""
    x = float64_sweep()
    expected = cast(x, "fp16")
    for path in (small_numpy_path, ps.round_to):
        assert_same_bits(path(x, "fp16"), expected, inputs=x, what="fp16")
    with jax.enable_x64(True):
        assert_same_bits(users_jit(x, "fp16"), expected, inputs=x, what="fp16, jit")
    with np.errstate(over="ignore"):
        twice = cast(x.astype(np.float32), "fp16").astype(np.float64)
    assert (np.nan_to_num(twice) != np.nan_to_num(expected)).sum() > 10_000


def test_float64_to_float32_equals_the_processor(assert_same_bits: Compare) -> None:
    rng = np.random.default_rng(8)
    exponents = rng.integers(1023 - 152, 1023 + 130, 200_000, dtype=np.uint64) << np.uint64(52)
    fraction = rng.integers(0, 1 << 52, 200_000, dtype=np.uint64)
    fraction[::3] &= ~np.uint64((1 << 28) - 1)  # many ties
    x = (exponents | fraction).view(np.float64)
    x[::2] *= -1
    with np.errstate(over="ignore", under="ignore"):
        expected = x.astype(np.float32).astype(np.float64)
    assert_same_bits(small_numpy_path(x, "fp32"), expected, inputs=x, what="fp32")


def test_a_wrong_tie_rule_is_noticed(
    monkeypatch: pytest.MonkeyPatch, assert_same_bits: Compare
) -> None:
    """Mutation check: with ties rounded away in the kernel, the comparison above fails."""
    right = in_place._increment

    def ties_away(
        magnitude: Any, negative: Any, kept: Any, dropped: Any, spec: Any, carrier: Any
    ) -> Any:
        wrong = replace(spec, mode=RoundingMode.TIES_TO_AWAY)
        return right(magnitude, negative, kept, dropped, wrong, carrier)

    monkeypatch.setattr(in_place, "_increment", ties_away)
    for name in MAIN:
        with pytest.raises(AssertionError, match=r"\d+ of \d+ differ"):
            test_float32_inputs(name, small_numpy_path, assert_same_bits)
