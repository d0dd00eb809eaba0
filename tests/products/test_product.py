"""`jax.vmap` of products: the bits of a Python loop, from one larger product."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.products.conftest import assert_same_bits, normal

AXES = ((0, None), (None, 0), (0, 0), (1, 2))


def operands(axes: tuple[int | None, int | None], size: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes: list[tuple[int, ...]] = []
    for shape, axis in zip(((4, 16), (16, 5)), axes, strict=True):
        shapes.append(shape if axis is None else (*shape[:axis], size, *shape[axis:]))
    a, b = (normal(rng, None, shape) for shape in shapes)
    return a, b


def loop(product: Any, axes: tuple[int | None, int | None], a: Any, b: Any) -> np.ndarray:
    def entry(x: Any, axis: int | None, i: int) -> Any:
        return x if axis is None else np.take(x, i, axis)

    return np.stack([product(entry(a, axes[0], i), entry(b, axes[1], i)) for i in range(3)])


CASES = [
    *(("bf16_bf16_fp32", axes) for axes in AXES),
    pytest.param("fp16_fp16_fp16:kahan", (0, None), marks=pytest.mark.slow),
    pytest.param("fp16_fp16_fp16[sr]", (None, 0), marks=pytest.mark.slow),
    ("h100:bf16", (0, 0)),
    # Each array has a scale of its own.
    pytest.param("nvfp4_nvfp4_fp32:fused64x35g16", (0, 0), marks=pytest.mark.slow),
]


@pytest.mark.long
@pytest.mark.parametrize(("spec", "axes"), CASES, ids=str)
def test_vmap_has_the_bits_of_a_loop(axes: tuple[int | None, int | None], spec: str) -> None:
    a, b = operands(axes)
    seeds = np.arange(20, dtype=np.uint32).reshape(4, 5)
    bits = seeds if "[sr]" in spec else None
    got = jax.vmap(lambda a, b: ps.matmul(a, b, spec, random_bits=bits), axes)(a, b)
    reference = lambda a, b: ps.matmul(a, b, spec, random_bits=bits, backend="reference")
    assert_same_bits(got, loop(reference, axes, a, b))


@pytest.mark.long
def test_vmap_over_first_values_and_random_bits_alone() -> None:
    a, b = operands((None, None))
    c = normal(np.random.default_rng(1), None, (3, 4, 5))
    bits = np.random.default_rng(2).integers(0, 1 << 32, (3, 4, 5), np.uint32)
    spec = "fp16_fp16_fp16->e4m3[sr]"
    got = jax.vmap(lambda c, r: ps.matmul(a, b, spec, c=c, random_bits=r))(c, bits)
    each = np.stack([a] * 3)
    assert_same_bits(got, ps.matmul(each, b, spec, c=c, random_bits=bits, backend="reference"))


@pytest.mark.long
@pytest.mark.parametrize("axes", AXES[:3], ids=str)
def test_gradients_of_a_batch_have_the_bits_of_a_loop(axes: tuple[int | None, int | None]) -> None:
    a, b = operands(axes)
    g = normal(np.random.default_rng(1), None, (4, 5))
    each = lambda a, b: jax.vjp(lambda a, b: ps.matmul(a, b, "bf16_bf16_fp32"), a, b)[1](g)
    da, db = jax.jit(jax.vmap(each, axes))(a, b)

    def product(a: Any, b: Any) -> Any:
        return ps.matmul(a, b, "bf16_bf16_fp32", backend="reference")

    assert_same_bits(da, loop(lambda a, b: product(g, b.T), axes, a, b))
    assert_same_bits(db, loop(lambda a, b: product(a.T, g), axes, a, b))


def test_nested_vmap_over_vectors() -> None:
    a = normal(np.random.default_rng(0), None, (2, 3, 8))
    b = normal(np.random.default_rng(1), None, (3, 8))

    def product(a: Any, b: Any) -> Any:
        return ps.matmul(a, b, "bf16_bf16_fp32")

    got = jax.vmap(jax.vmap(product), in_axes=(0, None))(a, b)
    want = ps.matmul(a[:, :, None], b[..., None], "bf16_bf16_fp32", backend="reference")
    assert_same_bits(got, want[..., 0, 0])


@pytest.mark.parametrize("axes", AXES[:3], ids=str)
def test_a_batch_keeps_its_condition_on_the_data(axes: tuple[int | None, int | None]) -> None:
    """40 times as slow was: both branches run at each step, of which `vmap` selects one."""

    def product(a: Any, b: Any) -> Any:
        return ps.matmul(a, b, "bf16_bf16_fp32")

    lowered = jax.jit(jax.vmap(product, axes)).lower(*operands(axes))
    assert len(re.findall(r"stablehlo\.(?:case|if)", lowered.as_text())) == 1
    one = jax.jit(product).lower(*operands((None, None))).as_text()
    assert lowered.as_text().count("\n") < 1.2 * one.count("\n")


def test_second_derivatives_are_products_too() -> None:
    """They were zero: the derivative of the roundings in a gradient's loop."""
    a, b = (jnp.asarray(x) for x in operands((None, None)))
    loss = lambda a, b: (ps.matmul(a, b, "fp16_fp16_fp32") ** 2).sum() / 2
    hessian = jax.jit(lambda a, v: jax.grad(lambda a: (jax.grad(loss)(a, b) * v).sum())(a))
    v = jnp.ones_like(a)
    exact = np.asarray(v) @ np.asarray(b) @ np.asarray(b).T
    np.testing.assert_allclose(hessian(a, v), exact, rtol=0, atol=0.01 * np.abs(exact).max())


def test_gradients_beside_a_constant_operand_have_the_same_bits() -> None:
    """XLA folded the bits of its transpose in the wrong order, where all of it was one program."""
    a, b = (jnp.asarray(x) for x in operands((None, None)))
    gradient = jax.grad(lambda a, b: ps.matmul(a, b, "fp16_fp16_fp32").sum())
    constant = jax.jit(lambda a: gradient(a, b))(a)
    assert_same_bits(constant, ps.matmul(np.ones((4, 5), np.float32), b.T, "fp16_fp16_fp32"))


ORDERS = ("", ":pairwise", ":blocked2", ":kahan", ":two_sum", ":exact")
SLOW_ORDERS = (":blocked2", ":kahan", ":two_sum")
EMPTY = [
    ((0, 2), (2, 3)),
    ((2, 0), (0, 3)),
    ((2, 3), (3, 0)),
    ((0, 2, 2), (0, 2, 2)),
    ((0, 2, 2), (2, 2)),
    ((0, 0), (0, 0)),
]


@pytest.mark.long
@pytest.mark.parametrize(
    "order", [pytest.param(o, marks=pytest.mark.slow) if o in SLOW_ORDERS else o for o in ORDERS]
)
def test_empty_products_and_gradients(order: str) -> None:
    """M, N, K or the batch is 0: what is left are sums of no products, +0."""
    spec = f"fp16_fp16_fp16{order}"
    pairs = [tuple(np.ones(shape, np.float32) for shape in shapes) for shapes in EMPTY]

    def product_and_gradients(a: Any, b: Any) -> Any:
        y, pull = jax.vjp(lambda a, b: ps.matmul(a, b, spec), a, b)
        return y, *pull(jnp.ones_like(y))

    results = jax.jit(lambda pairs: [product_and_gradients(*pair) for pair in pairs])(pairs)
    for (a, b), (y, da, db) in zip(pairs, results, strict=True):
        want = np.zeros_like(a @ b)
        assert_same_bits(y, want)
        assert_same_bits(ps.matmul(a, b, spec, backend="reference"), want)
        # Only where K or a batch of rows is empty are there sums left, of nothing.
        assert_same_bits(da, np.zeros_like(a))
        assert_same_bits(db, np.zeros_like(b))


@pytest.mark.long
def test_a_batch_of_nothing() -> None:
    a, b = jnp.ones((0, 4, 3)), jnp.ones((3, 2))

    def product(a: Any, b: Any) -> Any:
        return ps.matmul(a, b, "bf16_bf16_fp32")

    assert jax.vmap(product, (0, None))(a, b).shape == (0, 4, 2)
    assert jax.vmap(product, (None, 0))(b.T, a.mT).shape == (0, 2, 4)
    assert jax.vmap(product)(a, a.mT).shape == (0, 4, 4)


@pytest.mark.parametrize("spec", ["bf16_bf16_fp32", "fp16_fp16_fp32->fp16"])
def test_empty_native_products(spec: str) -> None:
    for shapes in EMPTY:
        a, b = (np.ones(shape, np.float32) for shape in shapes)
        assert_same_bits(ps.matmul(a, b, spec, backend="native"), np.zeros_like(a @ b))
