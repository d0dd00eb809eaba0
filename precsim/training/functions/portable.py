"""The functions of a network with the same bits on every device, forward and backward.

Each is a composition of the operations of `precsim.arithmetic.portable` in the order in which it
is written here: one rounding to nearest in float32 per operation, sums pairwise, exp, log, tanh and
roots correctly rounded. So are the gradients: JAX's own would use the platform's arithmetic. One
operation of JAX cannot be replaced: where a value is used twice, it adds the two gradients. Such a
value goes through `fork`.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.arithmetic import portable as p

LAYER_NORM_EPSILON = np.float32(1e-5)
_GELU_INNER = np.float32(math.sqrt(2 / math.pi))
_GELU_CUBIC = np.float32(0.044715)
_HALF = np.float32(0.5)
_ONE = np.float32(1)

flush = p.flush


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def fork(x: Array, count: int = 2) -> tuple[Array, ...]:
    """Return an array once for each of its uses; backward the gradients are added in this order."""
    return (x,) * count


def _fork_forward(x: Array, count: int) -> tuple[tuple[Array, ...], None]:
    return (x,) * count, None


def _fork_backward(count: int, _: None, gs: tuple[Array, ...]) -> tuple[Array]:
    total = gs[0]
    for g in gs[1:]:
        total = p.add(total, g)
    return (total,)


fork.defvjp(_fork_forward, _fork_backward)


def add(x: Array, y: Array) -> Array:
    """Return x + y; `y` may lack leading axes. Its gradient is summed over them in order."""
    return _add(x, y, x.ndim - y.ndim)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _add(x: Array, y: Array, missing: int) -> Array:
    return p.add(x, jnp.broadcast_to(y, x.shape))


def _add_forward(x: Array, y: Array, missing: int) -> tuple[Array, None]:
    return _add(x, y, missing), None


def _add_backward(missing: int, _: None, g: Array) -> tuple[Array, Array]:
    dy = g
    for _axis in range(missing):
        dy = p.sum(dy, 0)
    return g, dy


_add.defvjp(_add_forward, _add_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def scale(x: Array, factor: float) -> Array:
    """Return x times a constant, rounded to float32 first."""
    return p.multiply(x, np.float32(factor))


def _scale_forward(x: Array, factor: float) -> tuple[Array, None]:
    return p.multiply(x, np.float32(factor)), None


def _scale_backward(factor: float, _: None, g: Array) -> tuple[Array]:
    return (p.multiply(g, np.float32(factor)),)


scale.defvjp(_scale_forward, _scale_backward)


@jax.custom_vjp
def relu(x: Array) -> Array:
    """Return max(x, 0); the gradient at 0 is 0."""
    return jnp.where(x > 0, x, 0)


def _relu_forward(x: Array) -> tuple[Array, Array]:
    return relu(x), x > 0


def _relu_backward(is_positive: Array, g: Array) -> tuple[Array]:
    return (jnp.where(is_positive, g, 0),)


relu.defvjp(_relu_forward, _relu_backward)


@jax.custom_vjp
def gelu(x: Array) -> Array:
    """Return ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``."""
    return _gelu_forward(x)[0]


def _gelu_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    cubic = p.multiply(_GELU_CUBIC, p.multiply(x, p.multiply(x, x)))
    t = p.tanh(p.multiply(_GELU_INNER, p.add(x, cubic)))
    return p.multiply(p.multiply(_HALF, x), p.add(_ONE, t)), (x, t)


def _gelu_backward(residuals: tuple[Array, Array], g: Array) -> tuple[Array]:
    x, t = residuals
    inner = p.add(_ONE, p.multiply(np.float32(3) * _GELU_CUBIC, p.multiply(x, x)))
    inner = p.multiply(p.multiply(_GELU_INNER, inner), p.subtract(_ONE, p.multiply(t, t)))
    slope = p.multiply(_HALF, p.add(p.add(_ONE, t), p.multiply(x, inner)))
    return (p.multiply(g, slope),)


gelu.defvjp(_gelu_forward, _gelu_backward)


@jax.custom_vjp
def softmax(x: Array) -> Array:
    """Return ``exp(x - max) * (1 / sum(exp(x - max)))`` over the last axis; -infinity gives 0."""
    powers, total = _powers(x)
    return p.multiply(powers, p.divide(_ONE, total))


def _powers(x: Array) -> tuple[Array, Array]:
    powers = p.exp(p.subtract(x, jnp.max(x, axis=-1, keepdims=True)))
    return powers, p.sum(powers, -1)[..., None]


def _softmax_forward(x: Array) -> tuple[Array, Array]:
    y = softmax(x)
    return y, y


def _softmax_backward(y: Array, g: Array) -> tuple[Array]:
    inner = p.sum(p.multiply(g, y), -1)[..., None]
    return (p.multiply(y, p.subtract(g, inner)),)


softmax.defvjp(_softmax_forward, _softmax_backward)


@jax.custom_vjp
def cross_entropy(logits: Array, labels: Array) -> Array:
    """Return the mean of ``log(sum(exp(x - max))) - (x[label] - max)``; shapes (N, C) and (N,).

    Logits below `portable.SMALLEST` count as 0.
    """
    return _cross_entropy_forward(logits, labels)[0]


def _cross_entropy_forward(
    logits: Array, labels: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    logits = p.flush(logits)
    powers, total = _powers(logits)
    of_label = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    own = p.subtract(of_label, jnp.max(logits, axis=-1, keepdims=True))
    return p.mean(p.subtract(p.log(total), own)[:, 0], 0), (powers, total, labels)


def _cross_entropy_backward(residuals: tuple[Array, Array, Array], g: Array) -> tuple[Array, None]:
    powers, total, labels = residuals
    y = p.multiply(powers, p.divide(_ONE, total))
    is_label = labels[:, None] == jnp.arange(y.shape[-1], dtype=labels.dtype)[None]
    share = p.multiply(g, np.float32(1 / y.shape[0]))
    return p.multiply(p.subtract(y, is_label.astype(jnp.float32)), share), None


cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)


@jax.custom_vjp
def layer_norm(x: Array, gain: Array, bias: Array) -> Array:
    """Normalise the last axis, then multiply and add.

    The result is ``(x - mean) * (variance + 1e-5)**-0.5 * gain + bias``.
    `gain` and `bias` broadcast to `x`; those of shape (..., 1) belong to rows.
    """
    return _layer_norm_forward(x, gain, bias)[0]


def _layer_norm_forward(
    x: Array, gain: Array, bias: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    centred = p.subtract(x, p.mean(x, -1)[..., None])
    variance = p.mean(p.multiply(centred, centred), -1)[..., None]
    root = p.reciprocal_sqrt(p.add(variance, LAYER_NORM_EPSILON))
    normal = p.multiply(centred, root)
    scaled = p.multiply(normal, jnp.broadcast_to(gain, normal.shape))
    return p.add(scaled, jnp.broadcast_to(bias, normal.shape)), (normal, root, gain)


def _layer_norm_backward(
    residuals: tuple[Array, Array, Array], g: Array
) -> tuple[Array, Array, Array]:
    normal, root, gain = residuals
    inner = p.multiply(g, jnp.broadcast_to(gain, g.shape))
    dx = p.subtract(inner, p.mean(inner, -1)[..., None])
    dx = p.subtract(dx, p.multiply(normal, p.mean(p.multiply(inner, normal), -1)[..., None]))
    dx = p.multiply(root, dx)
    return dx, _sum_to(p.multiply(g, normal), gain.shape), _sum_to(g, gain.shape)


def _sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the leading axes that a shape lacks, and over those where it has 1."""
    while x.ndim > len(shape):
        x = p.sum(x, 0)
    for axis, size in enumerate(shape):
        if size == 1 != x.shape[axis]:
            x = jnp.expand_dims(p.sum(x, axis), axis)
    return x


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


def batch_norm(x: Array, gain: Array, bias: Array) -> Array:
    """Normalise over all axes but the last, by this batch's statistics, then multiply and add."""
    rows = x.reshape(-1, x.shape[-1])
    # As reshapes: the gradient of `gain[:, None]` would be a sum, of one number, in XLA's hands.
    columns = gain.reshape(-1, 1), bias.reshape(-1, 1)
    return layer_norm(rows.T, *columns).T.reshape(x.shape)


@jax.custom_vjp
def embed(table: Array, tokens: Array) -> Array:
    """Return a row of the table (V, D) for each token, shape (*tokens.shape, D).

    The gradient of a row is the pairwise sum over all tokens, those of other rows counting +0.
    """
    return table[tokens]


def _embed_forward(table: Array, tokens: Array) -> tuple[Array, tuple[Array, Array]]:
    return table[tokens], (tokens, jnp.zeros(table.shape[0], jnp.float32))


def _embed_backward(residuals: tuple[Array, Array], g: Array) -> tuple[Array, None]:
    tokens, rows = residuals
    flat, gradients = tokens.reshape(-1, 1), p.settle(g).reshape(-1, 1, g.shape[-1])
    if len(rows) <= len(flat):
        return _sum_of_rows(flat == jnp.arange(len(rows), dtype=tokens.dtype), gradients), None
    # Only rows of the table that a token names have more than zeros to add. Each is summed at the
    # place of its first token.
    is_same = flat == flat.T
    own = jnp.arange(len(flat), dtype=np.int32)
    is_first = jnp.argmax(is_same, 0) == own
    where = jnp.where(is_first, flat[:, 0].astype(np.int32), len(rows) + own)  # beyond: dropped
    table, sums = jnp.zeros((len(rows), g.shape[-1]), g.dtype), _sum_of_rows(is_same, gradients)
    return table.at[where].set(sums, mode="drop", unique_indices=True), None


def _sum_of_rows(is_row: Array, gradients: Array) -> Array:
    """Return (rows, D): gradients (tokens, 1, D), added up where a token is of a row."""
    return p.sum(jnp.where(is_row[..., None], gradients, 0), 0)


embed.defvjp(_embed_forward, _embed_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def dropout(x: Array, random_bits: Array, rate: float) -> Array:
    """Zero elements with 32 random bits below rate * 2**32; multiply others by 1 / (1 - rate)."""
    return _dropout_forward(x, random_bits, rate)[0]


def _dropout_forward(x: Array, random_bits: Array, rate: float) -> tuple[Array, Array]:
    keep = random_bits >= jnp.uint32(round(rate * 2.0**32))
    return _kept(x, keep, rate), keep


def _kept(x: Array, keep: Array, rate: float) -> Array:
    return jnp.where(keep, p.multiply(x, np.float32(1 / (1 - rate))), 0)


def _dropout_backward(rate: float, keep: Array, g: Array) -> tuple[Array, None]:
    return _kept(g, keep, rate), None


dropout.defvjp(_dropout_forward, _dropout_backward)
