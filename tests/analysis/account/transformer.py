"""A small transformer, its loss and an AdamW step: what the account of a training is tried on.

Nothing names a dtype, so that the same text trains it and is analysed.
"""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

WIDTH, HEADS, WORDS, LENGTH, BATCH = 32, 2, 61, 16, 4


def weights(rng: np.random.RandomState, layers: int) -> Any:
    """Return the weights before training; those of the layers lie one behind the other."""

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return np.asarray(rng.randn(*shape) * scale * float(shape[-2]) ** -0.5, np.float32)

    return {
        "words": normal(WORDS, WIDTH, scale=0.8),
        "places": normal(LENGTH, WIDTH, scale=0.4),
        "head": normal(WIDTH, WORDS),
        "layers": {
            "qkv": normal(layers, WIDTH, 3 * WIDTH),
            "out": normal(layers, WIDTH, WIDTH, scale=0.5),
            "up": normal(layers, WIDTH, 4 * WIDTH),
            "down": normal(layers, 4 * WIDTH, WIDTH, scale=0.5),
            "gains": np.ones((layers, 2, WIDTH), np.float32),
        },
    }


def batch(rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Return sentences in which three words of five follow from the word before."""
    x = rng.randint(0, WORDS, (BATCH, LENGTH + 1))
    follows = rng.rand(BATCH, LENGTH) < 0.6
    x[:, 1:] = np.where(follows, (x[:, :-1] * 7 + 3) % WORDS, x[:, 1:])
    return x[:, :-1], x[:, 1:]


def normalised(x: Any, gain: Any) -> Any:
    """Return numbers of mean 0 and variance 1, times a gain."""
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * gain


def _attention(p: Any, h: Any) -> Any:
    size = WIDTH // HEADS
    heads = (h @ p["qkv"]).reshape(*h.shape[:-1], 3, HEADS, size)
    scores = jnp.einsum("bthd,bshd->bhts", heads[..., 0, :, :], heads[..., 1, :, :]) / size**0.5
    past = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
    mixed = jnp.einsum(
        "bhts,bshd->bthd", jax.nn.softmax(jnp.where(past, scores, -1e4)), heads[..., 2, :, :]
    )
    return mixed.reshape(h.shape) @ p["out"]


def _layer(h: Any, p: Any) -> tuple[Any, None]:
    h = h + _attention(p, normalised(h, p["gains"][0]))
    u = normalised(h, p["gains"][1]) @ p["up"]
    return h + (u * jax.nn.sigmoid(1.702 * u)) @ p["down"], None


def log_probabilities(p: Any, x: Any) -> Any:
    """Return the logarithms of the probabilities of the next words."""
    h = jax.lax.scan(_layer, p["words"][x] + p["places"], p["layers"])[0]
    return jax.nn.log_softmax(h @ p["head"])


def surprise(log_probabilities: Any, y: Any) -> Any:
    """Return the mean negative logarithm of the words that came."""
    return -jnp.mean(jnp.take_along_axis(log_probabilities, y[..., None], -1))


def loss(p: Any, x: Any, y: Any) -> Any:
    """Return the loss."""
    return surprise(log_probabilities(p, x), y)


def adamw(p: Any, m: Any, v: Any, x: Any, y: Any, t: Any) -> tuple[Any, Any, Any]:
    """Return weights and moments after a step."""
    g = jax.grad(loss)(p, x, y)
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    v = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g * g, v, g)
    one, two = 1 - 0.9**t, 1 - 0.99**t
    step = lambda p, m, v: p - 3e-3 * ((m / one) / (jnp.sqrt(v / two) + 1e-8) + 0.01 * p)
    return jax.tree.map(step, p, m, v), m, v


_step = jax.jit(adamw)


@lru_cache
def trained(seed: int, layers: int, steps: int = 300) -> tuple[Any, ...]:
    """Return weights and moments after some steps, and the next batch."""
    rng = np.random.RandomState(seed)
    p = weights(rng, layers)
    m = v = jax.tree.map(jnp.zeros_like, p)
    for t in range(1, steps + 1):
        p, m, v = _step(p, m, v, *batch(rng), float(t))
    return p, m, v, *batch(rng)
