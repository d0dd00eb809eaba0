"""A drop-in for `lax.dot_general`: all dimension numbers, dtypes, others' injection points."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax

import precsim as ps
from tests.products.conftest import assert_same_bits, normal, reference

SPEC = "fp16_fp16_fp32"
CASES = [
    ((4,), (4,), (((0,), (0,)), ((), ()))),
    ((2, 3), (3, 4), (((1,), (0,)), ((), ()))),
    ((3, 2), (4, 3), (((0,), (1,)), ((), ()))),
    ((2, 3), (4,), (((), ()), ((), ()))),
    ((5, 2, 3), (5, 3, 4), (((2,), (1,)), ((0,), (0,)))),
    ((2, 5, 3), (3, 4, 5), (((2,), (0,)), ((1,), (2,)))),
    ((2, 3, 4, 5), (5, 3, 6), (((3, 1), (0, 1)), ((), ()))),
    ((2, 3, 4, 5), (4, 2, 5, 3), (((1,), (3,)), ((0, 3), (1, 2)))),
    ((2, 5, 3), (3, 4), (((2,), (0,)), ((), ()))),
    ((2, 5), (5, 2), (((1, 0), (0, 1)), ((), ()))),
    ((2, 0), (0, 3), (((1,), (0,)), ((), ()))),
    ((0, 3), (3, 2), (((1,), (0,)), ((), ()))),
]


def integers(shape: tuple[int, ...], seed: int) -> Any:
    """Integers whose products and sums are exact in float32 in any order."""
    return jnp.asarray(np.random.default_rng(seed).integers(-8, 9, shape).astype(np.float32))


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "numbers"),
    [*CASES[3:9], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[:3] + CASES[9:])],
    ids=str,
)
def test_dimension_numbers(shape_a: Any, shape_b: Any, numbers: Any) -> None:
    a, b = integers(shape_a, 0), integers(shape_b, 1)
    f = ps.dot_general(SPEC)
    got, expected = jax.jit(lambda a, b: (f(a, b, numbers), lax.dot_general(a, b, numbers)))(a, b)
    assert_same_bits(got, np.asarray(expected) + np.float32(0))  # the first value is +0


def test_gradients_are_those_of_lax() -> None:
    shape_a, shape_b, numbers = CASES[6]
    a, b = integers(shape_a, 0), integers(shape_b, 1)
    g = integers(lax.dot_general(a, b, numbers).shape, 2)

    def gradients(product: Callable[..., Any]) -> Any:
        return jax.jit(lambda a, b, g: jax.vjp(lambda a, b: product(a, b, numbers), a, b)[1](g))

    expected = gradients(lax.dot_general)(a, b, g)
    for got, exact in zip(gradients(ps.dot_general(SPEC))(a, b, g), expected, strict=True):
        assert_same_bits(got, exact)


@pytest.mark.slow
def test_specs_of_the_gradients_are_used() -> None:
    rng = np.random.default_rng(0)
    a, b, g = normal(rng, None, (4, 6)), normal(rng, None, (6, 5)), normal(rng, None, (4, 5))
    f = ps.dot_general(SPEC, dgrad="e5m2_e4m3_fp16", wgrad="e4m3_e5m2_fp32->bf16")
    numbers = (((1,), (0,)), ((), ()))
    da, db = jax.jit(lambda a, b, g: jax.vjp(lambda a, b: f(a, b, numbers), a, b)[1](g))(a, b, g)
    assert_same_bits(da, reference(g, b.T, "e5m2_e4m3_fp16"))
    assert_same_bits(db, reference(a.T, g, "e4m3_e5m2_fp32->bf16"))


def test_contracted_dimensions_are_summed_in_row_major_order_of_the_numbers() -> None:
    """The same sum in two orders: 2048 + 1 + 1 is 2048 in fp16, 1 + 1 + 2048 is 2050."""
    a = jnp.asarray([[2048.0, 1.0], [1.0, 0.0]])
    ones = jnp.ones((2, 2))
    f = ps.dot_general("fp16_fp16_fp16")
    assert float(f(a, ones, (((0, 1), (0, 1)), ((), ())))) == 2048
    assert float(f(a[::-1, ::-1], ones, (((0, 1), (0, 1)), ((), ())))) == 2050
    # Rows first, or columns first: 0, 1, 1, 2048 both times.
    b = jnp.asarray([[1.0, 2048.0], [1.0, 0.0]])
    assert float(f(b, ones, (((0, 1), (0, 1)), ((), ())))) == 2048
    assert float(f(b, ones, (((1, 0), (1, 0)), ((), ())))) == 2050


@pytest.mark.parametrize(
    ("dtype_a", "dtype_b", "preferred"),
    [
        (jnp.bfloat16, jnp.bfloat16, None),
        (jnp.bfloat16, jnp.bfloat16, jnp.float32),
        (jnp.float32, jnp.float32, jnp.bfloat16),
        (jnp.float8_e4m3fn, jnp.float8_e4m3fn, jnp.float32),
    ],
)
def test_dtypes_are_those_of_lax(dtype_a: Any, dtype_b: Any, preferred: Any) -> None:
    a, b = integers((2, 3), 0).astype(dtype_a), integers((3, 4), 1).astype(dtype_b)
    numbers = (((1,), (0,)), ((), ()))
    expected = lax.dot_general(a, b, numbers, preferred_element_type=preferred)
    got = ps.dot_general(SPEC)(a, b, numbers, preferred_element_type=preferred)
    assert got.dtype == expected.dtype
    assert_same_bits(got.astype(jnp.float32), expected.astype(jnp.float32))


def test_narrow_operands_are_widened_exactly() -> None:
    """Every finite bfloat16, subnormals included, times one: nothing is lost on the way."""
    codes = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    values = codes.view(ml_dtypes.bfloat16)
    a = values[np.isfinite(values.astype(np.float32))].reshape(-1, 1)
    f = ps.dot_general("bf16_bf16_fp32")
    numbers = (((1,), (0,)), ((), ()))
    got = np.asarray(jax.jit(lambda a, b: f(a, b, numbers))(a, np.ones((1, 1), a.dtype)))
    # 0 + -0 is 0.
    expected = np.where(a == 0, np.zeros_like(a), a)
    assert got.dtype == a.dtype
    assert np.array_equal(got.view(np.uint16), expected.view(np.uint16))


def test_precision_and_unknown_keywords_are_accepted() -> None:
    """As Flax and `jnp.einsum` pass them."""
    a, b = integers((2, 3), 0), integers((3, 4), 1)
    numbers = (((1,), (0,)), ((), ()))
    got = ps.dot_general(SPEC)(a, b, numbers, precision=lax.Precision.HIGHEST, out_sharding=None)
    assert_same_bits(got, a @ b)
    x, y = integers((2, 3, 4), 0), integers((4, 3, 5), 1)
    got = jnp.einsum("ijk,kjl->il", x, y, _dot_general=ps.dot_general(SPEC))
    assert_same_bits(got, jnp.einsum("ijk,kjl->il", x, y))


def test_flax_dense() -> None:
    linen = pytest.importorskip("flax.linen")
    rng = np.random.default_rng(0)
    x = normal(rng, None, (2, 3, 8))
    f = ps.dot_general("e4m3_e4m3_fp16", wgrad=SPEC)
    dense = linen.Dense(5, use_bias=False, dot_general=f)
    kernel = normal(rng, None, (8, 5))

    def loss(parameters: Any) -> Any:
        y = dense.apply(parameters, x)
        return y.sum(), y

    parameters = {"params": {"kernel": kernel}}
    gradient, y = jax.jit(jax.grad(loss, has_aux=True))(parameters)
    assert_same_bits(y, reference(x, kernel, "e4m3_e4m3_fp16"))
    ones = np.ones((6, 5), np.float32)
    assert_same_bits(gradient["params"]["kernel"], reference(x.reshape(6, 8).T, ones, SPEC))


@pytest.mark.slow
def test_flax_nnx_linear() -> None:
    nnx = pytest.importorskip("flax.nnx")
    x = normal(np.random.default_rng(0), None, (3, 8))
    f = ps.dot_general("e4m3_e4m3_fp16")
    layer = nnx.Linear(8, 5, rngs=nnx.Rngs(0), dot_general=f)
    kernel = np.asarray(layer.kernel[...])
    assert_same_bits(layer(x), reference(x, kernel, "e4m3_e4m3_fp16"))


def test_errors() -> None:
    with pytest.raises(ValueError, match="unknown format 'fp61'"):
        ps.dot_general("fp61_fp16_fp16")
    with pytest.raises(ValueError, match="backend is 'fast'"):
        ps.dot_general(SPEC, backend="fast")
    with pytest.raises(ValueError, match="K is 3 in a, 4 in b"):
        ps.dot_general(SPEC)(integers((2, 3), 0), integers((4, 2), 0), (((1,), (0,)), ((), ())))
