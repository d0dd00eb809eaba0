"""Conversions, against exact numbers: between all 8-bit formats, from and to integers."""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import precsim as ps
from precsim.formats.fixed_point import FixedPointFormat
from precsim.rounding.spec import RoundingSpec
from tests.arithmetic.conftest import (
    DETERMINISTIC,
    Floats,
    assert_same_bits,
    bits_of,
    patterns,
    round_each,
    rounded,
)

EIGHT_BITS = [
    name
    for kind in ("float", "fixed")
    for name in ps.list_formats(kind=kind)
    if ps.get_format(name).width == 8
]
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
CODES = np.arange(256, dtype=np.uint8)


def code_table(name: str) -> dict[tuple[float, float], int]:
    """Map (value, sign) to the code; every NaN is one value, and has no sign."""
    width = ps.get_format(name).width
    values = ps.decode(np.arange(1 << (width or 0), dtype=np.uint32), name)
    return {_key(v): code for code, v in reversed(list(enumerate(values.tolist())))}


def _key(value: float) -> tuple[float, float]:
    return (math.pi, 0) if math.isnan(value) else (value, math.copysign(1, value))


@pytest.mark.parametrize("target", EIGHT_BITS)
def test_every_code_of_every_8_bit_format(target: str) -> None:
    """All 256 codes of each format to each other one, against the oracle and a table of codes."""
    text = target if ps.get_format(target).has_nan else f"{target}:nan_to_zero"
    table = code_table(target)
    for source in EIGHT_BITS:
        got = ps.convert(CODES, source, text)
        assert got.dtype == np.uint8
        # As values, since a format may have more than one NaN.
        exact = np.asarray(ps.decode(CODES, source), np.float64)
        values = round_each(exact, RoundingSpec.parse(text)).tolist()
        expected = ps.decode(np.array([table[_key(v)] for v in values], np.uint8), target)
        assert_same_bits(ps.decode(got, target), expected, ps.decode(CODES, source), note=source)


@pytest.mark.long
@pytest.mark.parametrize(
    ("source", "target", "dtype"),
    [("fp16", "e5m2", ml_dtypes.float8_e5m2), ("bf16", "e4m3fnuz", ml_dtypes.float8_e4m3fnuz)],
)
def test_every_code_of_16_bits_as_ml_dtypes(source: str, target: str, dtype: Any) -> None:
    """ml_dtypes rounds from float32 once, and float32 holds both 16-bit formats."""
    codes = np.arange(1 << 16, dtype=np.uint16)
    kind = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}[source]
    with np.errstate(all="ignore"):
        expected = codes.view(kind).astype(np.float32).astype(dtype).view(np.uint8)
    got = ps.convert(codes, source, target)
    is_nan = np.isnan(ps.decode(got, target))
    np.testing.assert_array_equal(is_nan, np.isnan(expected.view(dtype).astype(np.float32)))
    np.testing.assert_array_equal(got[~is_nan], expected[~is_nan])
    back = ps.convert(ps.convert(codes, source, "fp32"), "fp32", source)
    is_nan = np.isnan(ps.decode(codes, source))
    np.testing.assert_array_equal(back[~is_nan], codes[~is_nan])


def test_one_rounding_where_a_cast_by_way_of_float32_makes_two() -> None:
    """1 + 2**-8 + 2**-40 lies above a tie of bfloat16; float32 loses the last bit."""
    value = np.array([1 + 2.0**-8 + 2.0**-40])
    code = ps.encode(value, "fp64")
    assert ps.decode(ps.convert(code, "fp64", "bf16"), "bf16").item() == 1 + 2.0**-7
    assert ps.round_to(value.astype(np.float32), "bf16").item() == 1.0
    # 2**-10 more than 3 in 40 fraction bits, straight from fixed point.
    code = ps.encode(np.array([3 + 2.0**-9 + 2.0**-40]), "q3.40")
    assert ps.decode(ps.convert(code, "q3.40", "fp16:rtp"), "fp16").item() == 3 + 2.0**-8


@pytest.mark.parametrize("x64", [False, True])
def test_convert_in_jax(x64: bool) -> None:
    codes = np.random.default_rng(1).integers(0, 1 << (8 if x64 else 16), 256).astype(np.uint16)
    with jax.enable_x64(x64):
        source, text = ("e5m2", "q7.8:nan_to_zero") if x64 else ("fp16", "e4m3:sr8")

        def run(codes: Any, draws: Any) -> Any:
            return ps.convert(codes, source, text, random_bits=draws)

        draws = np.arange(256, dtype=np.uint32)
        expected = run(codes, draws)
        for way in (run, jax.jit(jax.vmap(run))):
            got = way(jnp.asarray(codes), jnp.asarray(draws))
            assert isinstance(got, jax.Array)
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(np.asarray(got), expected)


def test_convert_to_64_bits_in_jax() -> None:
    """Widening is exact for subnormals too, which XLA's own conversion flushes."""
    codes = np.array([1, 0x007FFFFF, 0x80000001, 0x3F800001, 0x7F800000, 0xFFC00000], np.uint32)
    expected = ps.convert(codes, "fp32", "fp64")
    values = codes.view(np.float32).astype(np.float64)
    assert_same_bits(expected.view(np.float64), values, values)
    with jax.enable_x64(True):
        got = jax.jit(partial(ps.convert, source_format="fp32", target_spec="fp64"))(codes)
        np.testing.assert_array_equal(np.asarray(got), expected)
    for source, target in (("fp32", "fp64"), ("q3.4", "q3.28"), ("fp64", "fp16")):
        with pytest.raises(ValueError, match="jax_enable_x64"):
            ps.convert(jnp.asarray(codes & 0x7F), source, target)


def test_convert_refuses_what_has_no_code() -> None:
    nan = ps.encode(math.nan, "fp16")
    with pytest.raises(ValueError, match=r"NaN of fp16, but e2m1 has none.*e2m1:nan_to_zero"):
        ps.convert(nan, "fp16", "e2m1")
    assert ps.convert(nan, "fp16", "e2m1:nan_to_zero").item() == 0
    assert int(jax.jit(partial(ps.convert, source_format="fp16", target_spec="e2m1"))(nan)) == 0
    with pytest.raises(ValueError, match="unlimited exponent range, hence no codes"):
        ps.convert([1], "fp16", "float(e=inf,p=5)")
    with pytest.raises(ValueError, match="random_bits is missing"):
        ps.convert([1], "fp16", "e4m3:sr")
    with pytest.raises(TypeError, match="codes has dtype float64; allowed are integers"):
        ps.convert([1.0], "fp16", "e4m3")
    with pytest.raises(ValueError, match=r"cannot hold|no codes"):
        ps.convert([1], "fp16", "float(e=15,p=20)")
    with pytest.raises(ValueError, match="source_format is mxfp8_e4m3, a block format"):
        ps.convert([1], "mxfp8_e4m3", "fp16")
    with pytest.raises(ValueError, match="target_spec is mxfp8_e4m3, a block format"):
        ps.convert([1], "fp16", "mxfp8_e4m3")


INTEGER_SPECS = [
    "bf16", "fp32:rtp", "fp16:rtn", "fp64", "e4m3:rto", "e5m2:saturate:rna", "q7.0", "q3.-2:wrap",
    "uq8.0:wrap", "q15.0:wrap:rtn", "float(e=inf,p=12):raz", "q40.4", "e8m0", "fp32:sr", "e4m3:sr5:b",
]  # fmt: skip
NEED_FLOAT64 = ("fp64", "q40.4")


def hard_integers() -> list[int]:
    """Half way between values of every precision, one beside, and the ends of each type."""
    result = {0, 1, 2, 3, 127, 128, 255, 2**24 + 2**16 + 1, 2**53 + 1}
    for k in (8, 9, 12, 16, 24, 25, 32, 33, 40, 53, 54, 56, 60, 62, 63):
        for low in {0, k - 4, k - 8, k - 11, k - 12, k - 24, k - 53} & set(range(k)):
            result |= {2**k + 2**low + d for d in (-1, 0, 1)} | {2**k - 2**low, 2**k}
    return sorted(result)


def exact_integers(integers: list[int], text: str, draws: list[int]) -> Floats:
    spec = RoundingSpec.parse(text)
    fmt = spec.format
    if isinstance(fmt, FixedPointFormat) and spec.overflow == "wrap":
        steps = [Fraction(n) * Fraction(2) ** fmt.fraction_bits for n in integers]
        assert spec.mode in ("rne", "rtn")
        whole = [round(s) if spec.mode == "rne" else math.floor(s) for s in steps]
        size = 1 << fmt.width
        half = size // 2 if fmt.is_signed else 0
        return np.array([((w + half) % size - half) * fmt.resolution for w in whole])
    return np.array(
        [
            rounded(Fraction(n), spec, r) if n else rounded(0.0, spec)
            for n, r in zip(integers, draws, strict=True)
        ]
    )


@pytest.mark.parametrize("text", INTEGER_SPECS)
def test_integers_are_rounded_once(text: str) -> None:
    """int64 and uint64 beyond 2**53 too, also in a float32 carrier."""
    positive = hard_integers()
    for dtype in (np.int64, np.uint64):
        limit = np.iinfo(dtype)
        integers = [n for n in positive if n <= limit.max]
        if limit.min < 0:
            integers = [-n for n in integers if -n >= limit.min] + integers + [limit.min]
        draws = np.random.default_rng(1).integers(0, 1 << 32, len(integers), dtype=np.uint32)
        got = ps.ieee.from_integer(np.array(integers, dtype), text, random_bits=draws)
        assert got.dtype == (np.float64 if text in NEED_FLOAT64 else np.float32)
        expected = exact_integers(integers, text, draws.tolist())
        assert_same_bits(got, expected.astype(got.dtype), np.array(integers, float), note=dtype)


def test_the_case_that_ml_dtypes_rounds_twice() -> None:
    n = 2**24 + 2**16 + 1
    assert ps.ieee.from_integer(n, "bf16").item() == 16908288.0
    assert float(np.array(n).astype(ml_dtypes.bfloat16)) == 16777216.0


def test_integers_of_every_type_and_shape() -> None:
    for dtype in INTEGERS:
        limit = np.iinfo(dtype)
        n = np.array([[limit.min, limit.max], [0, 1]], dtype)
        got = ps.ieee.from_integer(n, "fp64:rtz")
        assert got.shape == (2, 2)
        assert got.dtype == np.float64
        expected = [
            rounded(float(v) if v == 0 else Fraction(int(v)), RoundingSpec.parse("fp64:rtz"))
            for v in n.flat
        ]
        assert got.reshape(-1).tolist() == expected
    assert ps.ieee.from_integer(np.zeros((0, 2), np.int16), "fp16").shape == (0, 2)
    assert ps.ieee.from_integer(2**63, "fp32").item() == 2.0**63
    assert ps.ieee.from_integer([1, -2], "e4m3").tolist() == [1.0, -2.0]


@pytest.mark.parametrize("x64", [False, True])
def test_integers_in_jax(x64: bool) -> None:
    rng = np.random.default_rng(2)
    dtype = np.int64 if x64 else np.int32
    limit = np.iinfo(dtype)
    n = np.concatenate([rng.integers(limit.min, limit.max, 200), [limit.min, limit.max, 0, -1]])
    n = (n >> rng.integers(0, 8 * n.itemsize if x64 else 32, n.size)).astype(dtype)
    draws = rng.integers(0, 1 << 32, n.size, dtype=np.uint32)

    def run(n: Any, draws: Any) -> Any:
        return ps.ieee.from_integer(n, "fp64:rtp" if x64 else "bf16:sr", random_bits=draws)

    expected = run(n, draws)
    with jax.enable_x64(x64):
        for way in (run, jax.jit(jax.vmap(run))):
            got = way(jnp.asarray(n), jnp.asarray(draws))
            assert isinstance(got, jax.Array)
            assert_same_bits(got, expected, n.astype(float))


def test_from_integer_refuses() -> None:
    cases: list[tuple[Any, str, type[Exception], str]] = [
        (1.0, "fp16", TypeError, "n has dtype float64; allowed are integers"),
        (True, "fp16", TypeError, "n has dtype bool; allowed are integers"),
        (2**64, "fp16", TypeError, "n has integers of more than 64 bits; allowed are 8 to 64"),
        (1, "fp16:sr", ValueError, "random_bits is missing"),
        (1, "float(e=15,p=20)", ValueError, "float64 carrier cannot hold"),
        (jnp.int32(1), "fp64", ValueError, "needs 64 bits, which JAX has with jax_enable_x64"),
    ]
    for n, text, error, message in cases:
        with pytest.raises(error, match=message):
            ps.ieee.from_integer(n, text)
    assert ps.oracle.round_exact(2**64 + 1, "fp32:rtp").value == 2.0**64 + 2.0**41


ROUNDINGS: dict[str, Callable[[Fraction], int]] = {
    "rtz": math.trunc,
    "rtn": math.floor,
    "rtp": math.ceil,
    "rne": round,
    "rna": lambda x: int(math.copysign(math.floor(abs(x) + Fraction(1, 2)), x)),
    "rnz": lambda x: int(math.copysign(math.ceil(abs(x) - Fraction(1, 2)), x)),
    "rnp": lambda x: math.floor(x + Fraction(1, 2)),
    "rnn": lambda x: math.ceil(x - Fraction(1, 2)),
    "rno": lambda x: math.floor(x) | 1 if x.denominator == 2 else round(x),
    "raz": lambda x: int(math.copysign(math.ceil(abs(x)), x)),
    "rto": lambda x: x.numerator if x.denominator == 1 else math.floor(x) | 1,
}


def numbers(dtype: Any) -> Floats:
    """Random patterns, halves, and the ends of every integer type with their neighbours."""
    rng = np.random.default_rng(3)
    ends = [float(s * 2**k) for k in (7, 8, 15, 16, 31, 32, 63, 64, 24, 53) for s in (1, -1)]
    near = [np.array([v, *(v + d for d in (0.5, -0.5, 1.0, -1.0, 0.25))], dtype) for v in ends]
    near += [np.nextafter(np.array(ends, dtype), np.array(v, dtype)) for v in (0, np.inf)]
    halves = rng.integers(-600, 600, 200) / 2
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, 2.0**-149, 0.5, -0.5, 1.5, -(2.0**127)]
    large = np.ldexp(rng.standard_normal(200), rng.integers(0, 100, 200))
    parts = [*near, halves, special, large, patterns(rng, 200, dtype)]
    with np.errstate(invalid="ignore"):
        return np.concatenate([np.asarray(part).astype(dtype) for part in parts])


@cache
def whole_numbers(dtype: Any, mode: str) -> list[float | int]:
    """Round to integers of any size; infinity and NaN stay."""
    values = numbers(dtype).tolist()
    return [ROUNDINGS[mode](Fraction(v)) if math.isfinite(v) else v for v in values]


def fitted(n: float, kind: Any, overflow: str) -> int:
    """Bring an integer, infinity or NaN into a type."""
    limit = np.iinfo(kind)
    if math.isnan(n) or (math.isinf(n) and overflow == "wrap"):
        return 0
    if overflow == "saturate":
        return int(min(max(n, int(limit.min)), int(limit.max)))
    return int((n - int(limit.min)) % (1 << limit.bits)) + int(limit.min)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", INTEGERS)
def test_to_integer(kind: str, dtype: Any) -> None:
    assert set(ROUNDINGS) == set(DETERMINISTIC)
    x = numbers(dtype)
    for mode in ROUNDINGS:
        for overflow in ("saturate", "wrap"):
            got = ps.ieee.to_integer(x, kind, mode=mode, overflow=overflow)
            assert got.dtype == kind
            expected = [fitted(n, kind, overflow) for n in whole_numbers(dtype, mode)]
            assert got.tolist() == expected, (mode, overflow)


@pytest.mark.parametrize("x64", [False, True])
def test_to_integer_in_jax(x64: bool) -> None:
    x = numbers(np.float64 if x64 else np.float32)
    kind, mode, overflow = ("int64", "rtn", "wrap") if x64 else ("int8", "rne", "saturate")
    run = partial(ps.ieee.to_integer, dtype=kind, mode=mode, overflow=overflow)
    expected = run(x)
    with jax.enable_x64(x64):
        for way in (run, jax.jit(jax.vmap(run))):
            got = way(jnp.asarray(x))
            assert isinstance(got, jax.Array)
            assert got.dtype == kind
            np.testing.assert_array_equal(np.asarray(got), expected)
        if not x64:
            with pytest.raises(ValueError, match=r"dtype int64 needs 64 bits.*jax_enable_x64"):
                ps.ieee.to_integer(jnp.asarray(x), "int64")


def test_to_integer_is_the_inverse_of_from_integer() -> None:
    n = np.random.default_rng(4).integers(-(2**53), 2**53, 1000)
    assert np.array_equal(ps.ieee.to_integer(ps.ieee.from_integer(n, "fp64"), "int64"), n)
    x = ps.ieee.from_integer(np.arange(-128, 128, dtype=np.int8), "q7.0")
    assert ps.ieee.to_integer(x, np.int8).tolist() == list(range(-128, 128))
    assert bits_of(x).size == 256


def test_to_integer_refuses() -> None:
    cases: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (
            lambda: ps.ieee.to_integer(1.0, "float32"),
            TypeError,
            "dtype is float32; allowed are integers",
        ),
        (lambda: ps.ieee.to_integer(1.0, "bool"), TypeError, "dtype is bool; allowed are integers"),
        (
            lambda: ps.ieee.to_integer(1.0, "int8", overflow="infinity"),
            ValueError,
            "overflow is 'infinity'; allowed are 'saturate', 'wrap'",
        ),
        (
            lambda: ps.ieee.to_integer(1.0, "int8", mode="sr"),
            ValueError,
            "mode is 'sr'; allowed are",
        ),
        (
            lambda: ps.ieee.to_integer(1.0, "int8", mode="up"),
            ValueError,
            "mode is 'up'; allowed are",
        ),
        (lambda: ps.ieee.to_integer(np.int8(1), "int8"), TypeError, "x has dtype int8; allowed"),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()
