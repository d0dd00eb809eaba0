"""Shapes of products of matrices, or of batches of them: (..., M, K) times (..., K, N)."""

import numpy as np

from precsim._arrays import Array, namespace


def result_shape(a: Array, b: Array) -> tuple[int, ...]:
    """Return (..., M, N); batch dimensions broadcast."""
    return (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])


def with_one_batch(a: Array, b: Array) -> tuple[Array, Array]:
    """Give both operands the batch dimensions of the result."""
    xp, batch = namespace(a, b), result_shape(a, b)[:-2]
    left, right = (xp.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (a, b))
    return left, right


def with_k_first(a: Array, b: Array) -> tuple[Array, Array]:
    """Return columns and rows, (K, ..., M, 1) and (K, ..., 1, N), whose products broadcast."""
    xp = namespace(a, b)
    return xp.moveaxis(a, -1, 0)[..., None], xp.moveaxis(b, -2, 0)[..., None, :]


def first_value(a: Array, b: Array, c: Array | None) -> Array:
    """Return what an accumulator begins with, of the result's shape: c, or +0."""
    xp, shape = namespace(a, b, c), result_shape(a, b)
    return xp.zeros(shape, a.dtype) if c is None else xp.broadcast_to(xp.asarray(c), shape)
