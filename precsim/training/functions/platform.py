"""The functions of a network as XLA computes them on this platform, with JAX's own gradients."""

import jax
import jax.numpy as jnp
import optax

from precsim._arrays import Array, bitcast
from precsim.formats.carrier import FLOAT32
from precsim.training.functions.portable import LAYER_NORM_EPSILON


def flush(x: Array) -> Array:
    """Return the numbers as they are."""
    return x


def fork(x: Array, count: int = 2) -> tuple[Array, ...]:
    """Return an array once for each of its uses."""
    return (x,) * count


def add(x: Array, y: Array) -> Array:
    """Return x + y; `y` may lack leading axes."""
    return x + y


def scale(x: Array, factor: float) -> Array:
    """Return x times a constant."""
    product: Array = x * jnp.float32(factor)
    return product


def relu(x: Array) -> Array:
    """Return max(x, 0); the gradient at 0 is 0. NaN stays, and has gradient 0.

    From bit patterns: in a floating-point comparison a CPU counts subnormal numbers as 0.
    """
    is_positive = bitcast(x, jnp.uint32) - jnp.uint32(1) < jnp.uint32(FLOAT32.infinity)
    return jnp.where(is_positive, x, jnp.where(jnp.isnan(x), jax.lax.stop_gradient(x), 0))


def gelu(x: Array) -> Array:
    """Return the Gaussian error linear unit in its tanh form."""
    return jax.nn.gelu(x, approximate=True)


def softmax(x: Array) -> Array:
    """Return the softmax over the last axis."""
    return jax.nn.softmax(x, axis=-1)


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Return the mean cross-entropy of logits (N, C) and labels (N,), always in float32."""
    loss: Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss


def layer_norm(x: Array, gain: Array, bias: Array) -> Array:
    """Normalise the last axis, then multiply and add."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON) * gain + bias


def batch_norm(x: Array, gain: Array, bias: Array) -> Array:
    """Normalise over all axes but the last, by this batch's statistics, then multiply and add."""
    rows = x.reshape(-1, x.shape[-1])
    return layer_norm(rows.T, gain[:, None], bias[:, None]).T.reshape(x.shape)


def embed(table: Array, tokens: Array) -> Array:
    """Return a row of the table (V, D) for each token, shape (*tokens.shape, D)."""
    return table[tokens]


def dropout(x: Array, random_bits: Array, rate: float) -> Array:
    """Zero elements whose 32 random bits are below rate * 2**32; divide others by 1 - rate."""
    keep = random_bits >= jnp.uint32(round(rate * 2.0**32))
    return jnp.where(keep, x / jnp.float32(1 - rate), 0)
