"""Portable functions at rare operands; each test notices a mutation that nothing else did."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from precsim.training.functions import platform, portable
from tests.training.conftest import assert_same_bits, single
from tests.training.functions.test_portable import gelu_bits


def test_relu_and_its_gradient_at_zero_are_positive_zero() -> None:
    x = single([0.0, -0.0, 2.0, -2.0])
    y, back = jax.vjp(portable.relu, jnp.asarray(x))
    assert_same_bits(y, single([0, 0, 2, 0]))
    assert_same_bits(back(jnp.full(4, 3.0))[0], single([0, 0, 3, 0]))


def test_relu_of_the_platform_sees_subnormal_numbers_and_keeps_nan() -> None:
    """Defect: compiled for a CPU it made a subnormal number 0, and dropped its gradient."""
    x = single([1e-40, -1e-40, 0, -0.0, 1, -1, np.inf, -np.inf, np.nan, -np.nan])
    with jax.numpy_dtype_promotion("standard"):
        y, back = jax.vjp(jax.jit(platform.relu), jnp.asarray(x))
        gradient = back(jnp.ones(10))[0]
    expected = np.where((x > 0) | np.isnan(x), x, single(0))
    assert_same_bits(y, expected)
    assert_same_bits(gradient, single(x > 0))


def test_logits_that_are_subnormal_count_as_zero_in_the_portable_cross_entropy() -> None:
    labels = jnp.array([0, 1])
    both = jax.jit(jax.value_and_grad(portable.cross_entropy))
    tiny, zero = (both(jnp.asarray(single([[x, 0], [-x, 3 * x]])), labels) for x in (1e-39, 0))
    assert_same_bits(tiny[0], zero[0])
    assert_same_bits(tiny[1], zero[1])


@pytest.mark.long
def test_gradients_of_gain_and_bias_are_summed_first_axis_first() -> None:
    """At gain 1 and bias 0 the gain's gradient is the bias's, weighted by the result."""
    rng = np.random.default_rng(0)
    x, g = (single(rng.standard_normal((3, 5, 4))) for _ in range(2))
    g *= single(10.0 ** rng.integers(-3, 4, g.shape))
    y, back = jax.vjp(portable.layer_norm, jnp.asarray(x), jnp.ones(4), jnp.zeros(4))
    _, gains, biases = back(jnp.asarray(g))

    def total(x: np.ndarray) -> np.ndarray:
        """Fill up with zeros to a power of two, and add the second half to the first."""
        fill = (1 << (len(x) - 1).bit_length()) - len(x)
        x = np.concatenate([x, np.zeros((fill, *x.shape[1:]), np.float32)])
        while len(x) > 1:
            x = x[: len(x) // 2] + x[len(x) // 2 :]
        return np.asarray(x[0])

    for got, terms in ((gains, g * np.asarray(y)), (biases, g)):
        expected = total(total(terms))
        assert_same_bits(got, expected)
        other = total(total(np.swapaxes(terms, 0, 1)))
        assert (other != expected).any()  # the operands can tell


def test_gradient_of_an_embedding_computes_its_cotangent_once() -> None:
    """Each row of the table reads it; XLA might compute it again for each."""
    back = jax.vjp(lambda t: portable.embed(t, jnp.array([0, 2])), jnp.ones((3, 4)))[1]
    assert " cond[" in str(jax.make_jaxpr(back)(jnp.ones((2, 4))))


@pytest.mark.long
def test_gelu_multiplies_its_cube_from_the_right() -> None:
    """Beside x the cube loses its last bits: it takes many operands to see another order."""
    x = np.linspace(-6, 6, 4001, dtype=np.float32)
    y, back = jax.vjp(portable.gelu, jnp.asarray(x))
    for got, expected in zip((y, *back(jnp.ones(4001))), gelu_bits(x, single(1)), strict=True):
        assert_same_bits(got, expected + single(0))  # -0 is flushed


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
def test_gradient_of_an_embedding_takes_tokens_of_any_integers(dtype: str) -> None:
    """The rows of repeated tokens are dropped beyond the table, whose size uint8 does not have."""
    tokens = jnp.array([0, 5, 5, 255, 1, 0], dtype)
    g = jnp.arange(12.0).reshape(6, 2)
    (found,) = jax.vjp(lambda t: portable.embed(t, tokens), jnp.ones((256, 2)))[1](g)
    expected = np.zeros((256, 2), np.float32)
    np.add.at(expected, np.asarray(tokens, int), np.asarray(g))
    np.testing.assert_array_equal(found, expected)
