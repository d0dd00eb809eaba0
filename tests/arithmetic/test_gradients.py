"""Gradients: those of the unrounded operation, at the operands, whatever the rounding does."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.arithmetic.conftest import OPERATIONS

# Operands and derivatives that float32 holds.
GRADIENTS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "add": ((3.1, 0.7), (1.0, 1.0)),
    "subtract": ((3.1, 0.7), (1.0, -1.0)),
    "multiply": ((3.125, 0.75), (0.75, 3.125)),
    "divide": ((3.0, 4.0), (0.25, -0.1875)),
    "reciprocal": ((4.0,), (-0.0625,)),
    "sqrt": ((0.25,), (1.0,)),
    "fma": ((3.125, 0.75, 9.9), (0.75, 3.125, 1.0)),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_gradient_is_that_of_the_unrounded_operation(operation: str) -> None:
    """Under grad, jit and vmap; e4m3 rounds to steps, whose own derivative is zero."""
    operands, derivatives = GRADIENTS[operation]
    function = partial(OPERATIONS[operation][0], spec="e4m3")
    every = tuple(range(len(operands)))
    columns = [jnp.full(5, x, jnp.float32) for x in operands]
    gradient = jax.jit(jax.vmap(jax.grad(function, argnums=every)))(*columns)
    for got, derivative in zip(gradient, derivatives, strict=True):
        np.testing.assert_array_equal(got, np.full(5, derivative, np.float32))


def test_eager_gradient_and_value() -> None:
    value, gradient = jax.value_and_grad(lambda x: ps.multiply(x, x, "e4m3"))(jnp.float32(3.125))
    assert (float(value), float(gradient)) == (10.0, 6.25)


def test_forward_mode_gives_the_rounded_value_and_the_unrounded_tangent() -> None:
    value, tangent = jax.jvp(
        lambda x: ps.divide(1.0, x, "e4m3"), (jnp.float32(3.0),), (jnp.float32(1.0),)
    )
    assert float(value) == 0.34375
    assert float(tangent) == np.float32(-1) / np.float32(9)


def test_only_the_differentiated_operand_counts() -> None:
    weight = np.array([2.0, -0.5, 7.0], np.float32)

    def loss(x: Any) -> Any:
        return jnp.sum(ps.fma(x, weight, 1.0, "bf16"))

    got = jax.grad(loss)(jnp.array([1.0, 2.0, 3.0], jnp.float32))
    np.testing.assert_array_equal(got, weight)


def test_gradient_of_broadcast_operands_sums() -> None:
    def loss(x: Any, y: Any) -> Any:
        return jnp.sum(ps.multiply(x, y, "fp16:rtz"))

    x, y = jnp.arange(6.0, dtype=jnp.float32).reshape(2, 3), jnp.float32(2.0)
    by_x, by_y = jax.grad(loss, argnums=(0, 1))(x, y)
    np.testing.assert_array_equal(by_x, np.full((2, 3), 2.0))
    assert by_y.shape == ()
    assert float(by_y) == 15.0


def test_gradient_where_rounding_saturates_or_flushes() -> None:
    """Straight-through: not zero beyond the range, nor below it."""
    gradient = jax.grad(lambda x: ps.multiply(x, 3.0, "e4m3:saturate"))
    assert float(gradient(jnp.float32(1e6))) == 3.0
    assert float(gradient(jnp.float32(1e-6))) == 3.0


def test_gradient_in_stochastic_mode() -> None:
    def loss(x: Any, draws: Any) -> Any:
        return jnp.sum(ps.multiply(x, x, "e4m3:sr", random_bits=draws))

    x, draws = jnp.array([1.5, 3.0], jnp.float32), jnp.array([0, 7], jnp.uint32)
    np.testing.assert_array_equal(jax.jit(jax.grad(loss))(x, draws), 2 * x)


def test_second_derivative() -> None:
    second = jax.jit(jax.grad(jax.grad(lambda x: ps.divide(1.0, x, "e4m3"))))
    assert float(second(jnp.float32(2.0))) == 0.25


def test_float64_gradient() -> None:
    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(lambda x: ps.sqrt(x, "fp16")))(jnp.float64(3.0))
        assert gradient.dtype == np.float64
        assert math.isclose(float(gradient), 0.5 / math.sqrt(3.0), rel_tol=2 * 2.0**-53)


@pytest.mark.parametrize("order", ["sequential", "pairwise"])
def test_gradient_of_a_sum_is_one_for_each_element(order: str) -> None:
    def loss(x: Any) -> Any:
        return ps.accumulate(x, "e4m3", order=order)

    x = jnp.array([16.0, 0.5, 0.25, 1.0, -3.0], jnp.float32)  # in e4m3 the small ones are lost
    np.testing.assert_array_equal(jax.jit(jax.grad(loss))(x), np.ones(5))
