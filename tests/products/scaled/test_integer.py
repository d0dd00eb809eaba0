"""Affine operands against NumPy's integers: zero points, registers that wrap or saturate."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.products.scaled.integer import integer_matmul
from precsim.products.specs.scaling import parse_register
from tests.products.conftest import assert_same_bits, single

F: Any = np.float32


def steps(x: np.ndarray, name: str) -> tuple[np.ndarray, Any]:
    """Return code - zero point of each element, and the scale."""
    q: Any = ps.quantize(x, name)
    return q.codes.astype(np.int64) - q.zero_points, q.scales


def in_register(sums: np.ndarray, bits: int) -> np.ndarray:
    half = 1 << (bits - 1)
    return (sums + half) % (2 * half) - half


def scaled(sums: np.ndarray, x_scale: Any, y_scale: Any) -> np.ndarray:
    """Return fl(fl(sum) * fl(scale * scale))."""
    return np.asarray(F(sums) * (x_scale * y_scale), np.float32)


@pytest.mark.parametrize("register", ["int32", "int5", "int5:saturate", "int32:saturate", "int9"])
def test_every_pair_of_small_integers(register: str) -> None:
    """Sums of two products each, for all pairs of 4-bit integers and of 4-bit ones with 3."""
    integers = np.arange(-16, 16, dtype=np.int32)
    a = np.stack(np.meshgrid(integers, integers), -1).reshape(-1, 2).astype(np.int32)
    b = np.array([[-16, -3, 0, 7, 15], [15, 5, -1, 7, -16]], np.int32)
    spec: Any = parse_register(register)
    bits = spec.format.width
    expected = np.zeros((len(a), 5), np.int64)
    for k in range(2):
        expected = expected + a[:, k, None].astype(np.int64) * b[k]
        if "saturate" in register:
            expected = np.clip(expected, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    expected = in_register(expected, bits)
    assert_same_bits(integer_matmul(a, b, spec), expected.astype(np.float32))


def test_registers_of_32_bits_wrap_and_saturate() -> None:
    a = np.array([[2**15, 2**15, -(2**15), 1]], np.int32)
    b = np.array([[2**15], [2**15], [2**15], [-1]], np.int32)
    for register, total in (("int32", 2**30 - 1), ("int32:saturate", 2**31 - 1 - 2**30 - 1)):
        spec = parse_register(register)
        assert spec is not None
        assert_same_bits(integer_matmul(a, b, spec), F([[total]]))
        assert_same_bits(integer_matmul(jnp.asarray(a), jnp.asarray(b), spec), F([[total]]))
    assert integer_matmul(a[:, :2], b[:2], parse_register("int32")).item() == -(2.0**31)  # type: ignore[arg-type]
    # Beyond 24 bits the sum is rounded, to nearest even.
    odd = np.array([[2**24 + 1]], np.int32)
    product: Any = integer_matmul(odd, np.ones((1, 1), np.int32), parse_register("int32"))  # type: ignore[arg-type]
    assert product.item() == 2**24


@pytest.mark.parametrize("lhs", ["int8", "uint4", "int8_symmetric", "int16"])
@pytest.mark.parametrize("rhs", ["int8", "int4_symmetric", "uint8"])
def test_zero_points_and_scales(lhs: str, rhs: str) -> None:
    """The sum of (code - zero point) * (code - zero point), then the scales, one rounding each."""
    rng = np.random.default_rng(len(lhs))
    a, b = single(rng.normal(1, 1, (3, 40))), single(rng.normal(-2, 1, (40, 4)))
    (x, x_scale), (y, y_scale) = steps(a, lhs), steps(b, rhs)
    for register, bits in (("int32", 32), ("int12", 12)):
        expected = scaled(in_register(x @ y, bits), x_scale, y_scale)
        got = ps.matmul(a, b, f"{lhs}_{rhs}_{register}", backend="reference")
        assert_same_bits(got, expected, register)
    if lhs != "int16":  # whose sums leave float32's 24 bits
        got = ps.matmul(a, b, f"{lhs}_{rhs}_fp32", backend="reference")
        assert_same_bits(got, scaled(x @ y, x_scale, y_scale))


def test_all_codes_with_a_zero_point() -> None:
    """Scale 1 and zero point -8: every product of two 4-bit codes is exact."""
    a, b = single(np.arange(16.0))[:, None], single(np.arange(-8.0, 8.0))[None]
    for spec in ("int4_int4_int32", "uint4_int4_int10", "int4_int4_fp32", "int4_uint4_fp16"):
        assert_same_bits(ps.matmul(a, b, spec, backend="reference"), a * b + F(0))


@pytest.mark.long
def test_compiled_has_the_bits_of_numpy() -> None:
    rng = np.random.default_rng(5)
    a, b = single(rng.normal(size=(3, 20))), single(rng.normal(size=(20, 4)))
    a[1, 2] = np.nan
    spec = "int8_channel_int4_symmetric_block8_int12->bf16"
    expected = ps.matmul(a, b, spec, backend="reference")
    assert_same_bits(ps.matmul(a, b, spec, backend="emulated"), expected)


def test_channels_are_rows_and_columns() -> None:
    """Each row of the left operand and each column of the right one has its own scale."""
    rng = np.random.default_rng(6)
    a, b = single(rng.normal(size=(2, 3, 9))), single(rng.normal(size=(2, 9, 4)))
    spec = "int8_channel_int8_symmetric_channel_int32"
    got = ps.matmul(a, b, spec, backend="reference")
    for n, i, j in np.ndindex(got.shape):
        one = ps.matmul(a[n, i], b[n, :, j], "int8_int8_symmetric_int32", backend="reference")
        assert_same_bits(got[n, i, j], one)


def test_blocks_along_k_are_sums_of_their_own() -> None:
    rng = np.random.default_rng(7)
    a, b = single(rng.normal(size=(3, 20))), single(rng.normal(size=(20, 4)))
    got = ps.matmul(a, b, "bf16_int4_symmetric_block8_fp32", backend="reference")
    q = ps.quantize(b, "int4_symmetric_block8", axis=0)
    total = np.zeros((3, 4), np.float32)
    for j in range(3):
        part = np.s_[8 * j : 8 * j + 8]
        sums = ps.matmul(a[:, part], F(q.codes[part]), "bf16_raw_fp32", backend="reference")
        total = ps.fma(sums, np.broadcast_to(q.scales[j], (3, 4)), total, "fp32")
    assert_same_bits(got, total)


@pytest.mark.long
def test_operands_without_products_give_zero() -> None:
    ones = np.ones((4, 3), F)
    for spec in ("int8_int8_int32", "int8_int4_block8_fp32", "e4m3[scale=2x4]_e4m3_fp32->bf16"):
        empty = ps.matmul(np.zeros((2, 0), F), np.zeros((0, 3), F), spec, backend="reference")
        assert_same_bits(empty, np.zeros((2, 3), F))
        shapes = jax.eval_shape(lambda a, b, s=spec: ps.matmul(a, b, s), F([]).reshape(0, 4), ones)
        assert shapes.shape == (0, 3)


@pytest.mark.long
def test_gradients_have_their_own_specs_and_scales() -> None:
    """Each is a product of the unrounded operands: straight-through, quantized along its own K."""
    rng = np.random.default_rng(8)
    a, b, g = (single(rng.normal(size=s)) for s in ((3, 8), (8, 4), (3, 4)))
    specs: Any = {"dgrad": "int8_symmetric_e4m3_fp32", "wgrad": "e4m3_e4m3[scale=1x2]_fp32"}
    product = lambda a, b: ps.matmul(a, b, "e4m3_e4m3_fp32", **specs)
    da, db = jax.vjp(product, *map(jnp.asarray, (a, b)))[1](jnp.asarray(g))
    assert_same_bits(da, ps.matmul(g, b.T, specs["dgrad"], backend="reference"))
    assert_same_bits(db, ps.matmul(a.T, g, specs["wgrad"], backend="reference"))
