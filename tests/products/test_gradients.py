"""Gradients are products too, by the specs `dgrad` and `wgrad`, bit for bit."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.products.conftest import assert_same_bits, operands, reference, single

FORWARD, DGRAD, WGRAD = "fp16_fp16_fp32", "e5m2_e4m3_fp16", "e4m3_e5m2_fp32->bf16"


@partial(jax.jit, static_argnums=0)
def pulled_back(product: Callable[..., Any], a: Any, b: Any, g: Any) -> Any:
    return jax.vjp(product, a, b)[1](g)


def gradients(product: Callable[..., Any], *operands: np.ndarray) -> tuple[np.ndarray, ...]:
    """Gradients of a and b from the cotangent g, compiled as one."""
    return tuple(map(np.asarray, pulled_back(product, *operands)))


def product(a: Any, b: Any) -> Any:
    return ps.matmul(a, b, FORWARD, dgrad=DGRAD, wgrad=WGRAD)


def half(a: Any, b: Any) -> Any:
    return ps.matmul(a, b, "fp16_fp16_fp16")


def transposed(x: np.ndarray) -> np.ndarray:
    return np.swapaxes(x, -1, -2)


def test_each_product_has_its_own_spec() -> None:
    """All three specs give different bits, so that none can stand for another."""
    a, b, g = operands((4, 6), (6, 5), (4, 5))
    da, db = gradients(product, a, b, g)
    assert_same_bits(da, reference(g, b.T, DGRAD))
    assert_same_bits(db, reference(a.T, g, WGRAD))
    for gradient, factors in ((da, (g, b.T)), (db, (a.T, g))):
        same = [np.array_equal(gradient, reference(*factors, s)) for s in (FORWARD, DGRAD, WGRAD)]
        assert sum(same) == 1
    assert_same_bits(jax.jit(product)(a, b), reference(a, b, FORWARD))


def test_gradients_take_the_forward_spec_by_default() -> None:
    a, b, g = operands((4, 6), (6, 5), (4, 5))
    da, db = gradients(half, a, b, g)
    assert_same_bits(da, reference(g, b.T, "fp16_fp16_fp16"))
    assert_same_bits(db, reference(a.T, g, "fp16_fp16_fp16"))


def test_gradients_are_close_to_the_unrounded_ones() -> None:
    """Not zero, as the derivative of a rounding would be: operand rounding is straight-through."""
    a, b, g = operands((4, 6), (6, 5), (4, 5))
    for got, exact, size in zip(
        gradients(product, a, b, g),
        (g @ b.T, a.T @ g),
        (np.abs(g) @ np.abs(b.T), np.abs(a.T) @ np.abs(g)),
        strict=True,
    ):
        # Operands with 3 and 4 bits, sums of at most 6 terms with 11 bits, an output with 8.
        bound = (1 + 2.0**-3) * (1 + 2.0**-4) * (1 + ps.gamma(6, 2**-11)) * (1 + 2.0**-8) - 1
        assert (np.abs(got - exact) <= bound * size).all()
        assert np.count_nonzero(got) > got.size * 0.9


def test_gradient_of_the_first_value_is_the_cotangent() -> None:
    a, b, g, c, row = operands((4, 6), (6, 5), (4, 5), (4, 5), (5,))

    def with_c(c: Any) -> Any:
        return ps.matmul(a, b, "raw_raw_fp32", c=c)

    y, (dc,) = jax.jit(lambda c, g: (with_c(c), jax.vjp(with_c, c)[1](g)))(c, g)
    assert_same_bits(y, reference(a, b, "raw_raw_fp32", c))
    assert_same_bits(dc, g)
    traced = jax.eval_shape(jax.grad(lambda c: with_c(c).sum()), row)
    assert traced.shape == row.shape


def test_jit_vmap_and_remat_change_nothing() -> None:
    a, b, g = operands((3, 4, 6), (3, 6, 5), (3, 4, 5))
    expected_a = reference(g, transposed(b), DGRAD)
    expected_b = reference(transposed(a), g, WGRAD)

    def loss(f: Callable[..., Any]) -> Callable[..., Any]:
        return jax.grad(lambda a, b, g: (f(a, b) * g).sum(), argnums=(0, 1))

    da, db = jax.jit(jax.vmap(loss(jax.checkpoint(product))))(a, b, g)
    assert_same_bits(da, expected_a)
    assert_same_bits(db, expected_b)


def test_a_batch_of_rows_with_one_matrix_is_one_product() -> None:
    """Its weight gradient sums over all rows in order, in the accumulator of `wgrad`."""
    a, b, g = operands((2, 3, 4, 6), (6, 5), (2, 3, 4, 5))
    da, db = gradients(product, a, b, g)
    assert_same_bits(da, reference(g, b.T, DGRAD))
    assert_same_bits(db, reference(a.reshape(-1, 6).T, g.reshape(-1, 5), WGRAD))


def test_gradients_of_vectors_have_their_shapes() -> None:
    x, b, g = operands((6,), (6, 5), (5,))
    dx, db = gradients(product, x, b, g)
    assert_same_bits(dx, reference(g, b.T, DGRAD))
    assert_same_bits(db, reference(x[:, None], g[None], WGRAD))
    traced = jax.eval_shape(
        jax.grad(lambda a, b: (product(a, b) * g).sum(), argnums=(0, 1)), b.T, x
    )
    assert [t.shape for t in traced] == [(5, 6), (6,)]


def test_empty_sums_have_empty_or_zero_gradients() -> None:
    a, b, g = operands((4, 0), (0, 5), (4, 5))
    assert [x.shape for x in gradients(product, a, b, g)] == [(4, 0), (0, 5)]
    a, b, g = operands((0, 6), (6, 5), (0, 5))
    da, db = gradients(product, a, b, g)
    assert da.shape == (0, 6)
    assert_same_bits(db, np.zeros((6, 5), np.float32))


@pytest.mark.long
@pytest.mark.parametrize(
    ("batch_a", "batch_b"),
    [((2,), (2,)), ((2,), ()), ((), (2,))],
    ids=["equal", "rows", "broadcast"],
)
def test_stochastic_outputs_take_bits_of_their_own(
    batch_a: tuple[int, ...], batch_b: tuple[int, ...]
) -> None:
    batch = max(batch_a, batch_b)
    a, b, g = operands((*batch_a, 4, 6), (*batch_b, 6, 5), (*batch, 4, 5))
    rng = np.random.default_rng(1)
    shapes = {"forward": (*batch, 4, 5), "dgrad": a.shape, "wgrad": b.shape}
    draws = {key: rng.integers(0, 1 << 32, s, dtype=np.uint32) for key, s in shapes.items()}
    stochastic = "fp16_fp16_fp32->bf16[sr]"

    def run(a: Any, b: Any) -> Any:
        return ps.matmul(a, b, stochastic, random_bits=draws)

    y = run(jnp.asarray(a), jnp.asarray(b))
    da, db = gradients(run, a, b, g)

    def expected(exact: np.ndarray, key: str) -> np.ndarray:
        bits = np.broadcast_to(draws[key], exact.shape)
        return np.asarray(ps.round_to(exact, "bf16:sr", random_bits=bits))

    assert_same_bits(y, expected(reference(a, b, FORWARD), "forward"))
    each_a = expected(reference(g, transposed(b), FORWARD), "dgrad")
    if batch_b and not batch_a:
        np.testing.assert_allclose(da, each_a.sum(0), rtol=1e-6, atol=1e-6)
    else:
        assert_same_bits(da, each_a)
    if batch_a and not batch_b:
        each_b = expected(reference(a.reshape(-1, 6).T, g.reshape(-1, 5), FORWARD), "wgrad")
    else:
        each_b = expected(reference(transposed(a), g, FORWARD), "wgrad")
    assert_same_bits(db, each_b)


def test_missing_bits_of_a_gradient_are_named() -> None:
    a, b, g = operands((4, 6), (6, 5), (4, 5))
    with pytest.raises(ValueError, match="random_bits is missing"):
        gradients(lambda a, b: ps.matmul(a, b, FORWARD, dgrad="fp16_fp16_fp32->bf16[sr]"), a, b, g)


@pytest.mark.parametrize("exponent", [6, -4])
def test_loss_scaling_by_a_power_of_two_is_exact_without_underflow(exponent: int) -> None:
    """Gradients of a scaled loss are the scaled gradients, bit for bit, in fp16 throughout.

    All operands are multiples of 2**-6, hence all sums multiples of 2**-12, and scaled of 2**-16:
    those below fp16's normal range are exact.
    """
    rng = np.random.default_rng(0)
    shapes = (4, 6), (6, 5), (4, 5)
    a, b, g = (single(rng.integers(-500, 500, shape) / 64) for shape in shapes)
    scale = np.float32(2.0**exponent)

    plain, scaled = gradients(half, a, b, g), gradients(half, a, b, g * scale)
    for x, y in zip(plain, scaled, strict=True):
        assert np.isfinite(y).all()
        assert_same_bits(y, x * scale)


def test_loss_scaling_saves_gradients_from_underflow() -> None:
    a, b = np.ones((4, 6), np.float32), np.ones((6, 5), np.float32)
    g = np.full((4, 5), 2.0**-28, np.float32)
    assert (gradients(half, a, b, g)[0] == 0).all()
    assert (gradients(half, a, b, g * 1024)[0] == 5 * g[0, 0] * 1024).all()
