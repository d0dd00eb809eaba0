"""Products of integers: their register, or their floating-point sums, are found from results."""

import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.formats.affine import AffineFormat
from precsim.products.identify.integers import Integers
from tests.products.conftest import assert_same_bits

Product = Callable[[np.ndarray, np.ndarray], Any]


def wrapping(dtype: Any) -> Product:
    """Return NumPy's own product of integers."""
    return lambda a, b: a.astype(dtype) @ b.astype(dtype)


def saturating(bits: int) -> Product:
    """Return sums of integers that are clamped after each addition."""
    most = 2 ** (bits - 1)

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = np.zeros((a.shape[0], b.shape[1]), np.int64)
        for k in range(a.shape[1]):
            terms = np.outer(a[:, k], b[k]).astype(np.int64)
            total = np.clip(total + terms, -most, most - 1)
        return total

    return product


def modular(bits: int) -> Product:
    """Return sums of integers modulo 2^bits."""
    most = 2 ** (bits - 1)
    return lambda a, b: (a.astype(int) @ b.astype(int) + most) % (2 * most) - most


def dot(lhs: Any, rhs: Any) -> Product:
    """Return XLA's product of integers."""
    return lambda a, b: jnp.matmul(a.astype(lhs), b.astype(rhs), preferred_element_type=jnp.int32)


FORMATS = {
    name: (name, name) for name in ("int8", "uint8", "int4", "int8_symmetric", "uint4", "int2")
} | {"uint8, int8": ("uint8", "int8")}


@pytest.mark.parametrize(
    ("product", "formats", "spec"),
    [
        (wrapping(np.int32), "int8", "int8_int8_int32"),
        (wrapping(np.int32), "int4", "int4_int4_int32"),
        (wrapping(np.int16), "int8", "int8_int8_int16"),
        (wrapping(np.int8), "int8", "int8_int8_int8"),
        (wrapping(np.int32), ("uint8", "int8_symmetric"), "uint8_int8_symmetric_int32"),
        pytest.param(dot(jnp.int8, jnp.int8), "int8", "int8_int8_int32", id="XLA"),
        (dot(jnp.uint8, jnp.int8), ("uint8", "int8"), "uint8_int8_int32"),
        (saturating(16), "int8", "int8_int8_int16[saturate]"),
        (saturating(20), "int8", "int8_int8_int20[saturate]"),
        (saturating(12), "int4", "int4_int4_int12[saturate]"),
        (
            lambda a, b: ps.round_to((a @ b).astype(np.float32), "bf16"),
            "int8",
            "int8_int8_int32->bf16",
        ),
        (
            lambda a, b: ps.matmul(a, b, "bf16_bf16_bf16:pairwise", backend="reference"),
            "int8",
            "int8_int8_bf16:pairwise",
        ),
    ],
)
def test_the_register_is_found(product: Product, formats: Any, spec: str) -> None:
    """Most products have their bits from NumPy or XLA; the spec has them too."""
    found = ps.kernels.identify(product, formats=formats, shape=(16, 16, 160))
    assert str(found.spec) == spec
    assert found.queries == 7
    names = (formats, formats) if isinstance(formats, str) else formats
    rng = np.random.default_rng(5)
    a, b = both(*names).drawn(rng, 8, 8, 160, 160)
    scales = {
        side: ps.Scale(scale=1.0, zero_point=None if "symmetric" in name else 0)
        for side, name in zip("ab", names, strict=True)
    }
    again = ps.matmul(a, b, spec, scales=scales, backend="reference")
    assert_same_bits(again, np.asarray(product(a, b), np.float32))


def both(lhs: str, rhs: str) -> Integers:
    """Return the formats of two names."""
    left, right = ps.get_format(lhs), ps.get_format(rhs)
    assert isinstance(left, AffineFormat)
    assert isinstance(right, AffineFormat)
    return Integers(left, right)


def test_what_no_sum_reaches_is_not_told_apart() -> None:
    short = ps.kernels.identify(wrapping(np.int32), formats="int8")
    assert [*map(str, short.equals)] == ["int8_int8_int32[saturate]", "int8_int8_fp32"]
    one = ps.kernels.identify(wrapping(np.int16), formats="int8", shape=(16, 16, 1))
    assert str(one.spec) == "int8_int8_int32"
    assert "registers of 16 bits and more are not told apart" in str(one)
    narrow = ps.kernels.identify(wrapping(np.int16), formats="int8")
    assert "not told apart" not in str(narrow)


def test_registers_that_are_not_told_apart_have_all_results() -> None:
    """From the width on that the report says."""
    found = ps.kernels.identify(wrapping(np.int32), formats="int8", shape=(16, 16, 1))
    match = re.search("registers of ([0-9]+) bits", str(found))
    assert match is not None
    for bits in range(int(match[1]), 33):
        other = ps.kernels.identify(modular(bits), formats="int8", shape=(16, 16, 1))
        assert (str(other), str(other.spec)) == (str(found), "int8_int8_int32")


@pytest.mark.parametrize("shape", [(8, 8, 160), (2, 3, 5), (1, 1, 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_results_of_one_value_are_contradicted(value: float, shape: tuple[int, int, int]) -> None:
    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.full(shape[:2], value, np.float32)

    found = ps.kernels.identify(product, formats="int8", shape=shape)
    wrong = found.contradiction
    assert found.spec is None
    assert wrong is not None
    np.testing.assert_equal(wrong.result, value)
    assert f"in row {wrong.row}, column {wrong.column}" in str(found)
    assert "0x" not in str(found)


def test_one_row_of_nan_is_named() -> None:
    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        results: np.ndarray = a @ b
        results[3] = np.nan
        return results

    found = ps.kernels.identify(product, formats="int8", shape=(8, 8, 16))
    assert str(found.nearest) == "int8_int8_int32"
    assert found.contradiction is not None
    assert (found.contradiction.row, found.contradiction.column) == (3, 0)


def test_sums_that_overflow_in_fp16_are_found() -> None:
    """Some results are infinite, and the others are evidence."""

    def product(a: np.ndarray, b: np.ndarray) -> Any:
        return ps.matmul(a, b, "fp16_fp16_fp16", backend="reference")

    found = ps.kernels.identify(product, formats="int8")
    assert str(found.spec) == "int8_int8_fp16"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("product", "spec"),
    [
        (wrapping(np.int32), "int8_int8_int32"),
        (saturating(32), "int8_int8_int32[saturate]"),
    ],
)
def test_sums_beyond_32_bits_tell_them_apart(product: Product, spec: str) -> None:
    found = ps.kernels.identify(product, formats="int8", shape=(4, 4, 2**17 + 160))
    assert (str(found.spec), found.equals) == (spec, ())


def test_pairs_that_saturate_are_contradicted() -> None:
    """As VPMADDUBSW adds products of uint8 and int8, before sums of 32 bits."""

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = np.zeros((a.shape[0], b.shape[1]), np.int64)
        for k in range(0, a.shape[1], 2):
            pair = (a[:, k : k + 2] @ b[k : k + 2]).astype(np.int64)
            total += np.clip(pair, -(2**15), 2**15 - 1)
        return total

    found = ps.kernels.identify(product, formats=("uint8", "int8"), shape=(4, 4, 32))
    wrong = found.contradiction
    assert found.spec is None
    assert wrong is not None
    assert wrong.expected == float(wrong.a @ wrong.b)
    a, b = np.zeros((4, 32), np.float32), np.zeros((32, 4), np.float32)
    a[0], b[:, 0] = wrong.a, wrong.b
    assert product(a, b)[0, 0] == wrong.result


@pytest.mark.parametrize("formats", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("size", [(1, 1, 1), (16, 16, 160), (5, 3, 40)])
def test_operands_are_integers_of_their_formats(
    formats: tuple[str, str], size: tuple[int, int, int]
) -> None:
    integers, k = both(*formats), size[2]
    rng = np.random.default_rng(0)
    for a, b in (integers.extreme(*size), integers.drawn(rng, *size, k)):
        assert (a.shape, b.shape) == ((size[0], k), (k, size[1]))
        for x, name in zip((a, b), formats, strict=True):
            zero = 0 if name.startswith("int") or "symmetric" not in name else 128
            fmt = ps.get_format(name)
            assert isinstance(fmt, AffineFormat)
            assert (x == np.rint(x)).all()
            assert fmt.min_code - zero <= x.min() <= x.max() <= fmt.max_code - zero


@pytest.mark.parametrize("formats", FORMATS.values(), ids=FORMATS)
def test_extreme_sums_are_held_by_float32(formats: tuple[str, str]) -> None:
    """Beyond 2^31 as well: so a product that returns float32 is asked like one of integers."""
    a, b = both(*formats).extreme(4, 4, 2**17 + 160)
    sums = a.astype(np.int64) @ b.astype(np.int64)
    np.testing.assert_array_equal(sums.astype(np.float32), sums)
    assert abs(sums).max() == abs(sums[0, 0])
