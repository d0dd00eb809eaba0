"""Gaussian elimination with every operation rounded: LU and triangular solves in batches."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

import precsim as ps

DIRECTED = "directed"
"""A mode beside those of `RoundingSpec`: up with a given chance, else down.

With chance 1/2 it is mode 6 of `chop`.
"""


def _rounded(operation: Any, x: Any, y: Any, spec: str, noise: Any) -> Any:
    """Return fl(x op y) for a spec "FORMAT:MODE"; the noise serves the modes that need some."""
    name, _, mode = spec.partition(":")
    x, y = jnp.broadcast_arrays(x, y)
    if mode == DIRECTED:
        # Down is up for the opposite number: x y and x / y change sign with x, x - y with both.
        y = noise * y if operation is ps.subtract else y
        return noise * operation(noise * x, y, f"{name}:rtp")
    return operation(x, y, spec, random_bits=noise)


def _minus_product(z: Any, x: Any, y: Any, spec: str, noise: Any, fused: bool = False) -> Any:
    """Return fl(z - fl(x y)), or fl(z - x y) where it is fused."""
    if fused:
        return ps.fma(-x, y, z, spec)
    return _rounded(ps.subtract, z, _rounded(ps.multiply, x, y, spec, noise[0]), spec, noise[1])


def _draw(key: Any, chance: Any, spec: str, *shapes: tuple[int, ...]) -> list[Any]:
    """Return noise of these shapes from one call: random bits (sr), signs (directed) or nothing."""
    if not spec.endswith((":sr", DIRECTED)):
        return [(None, None) for _ in shapes]
    sizes = [math.prod(shape) for shape in shapes]
    noise = jax.random.bits(key, (sum(sizes),))
    if spec.endswith(DIRECTED):
        is_up = (noise >> 8).astype(jnp.float32) < chance * 2**24
        noise = jnp.where(is_up, jnp.float32(1), jnp.float32(-1))
    parts = jnp.split(noise, [sum(sizes[:k]) for k in range(1, len(sizes))])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


@partial(jax.jit, static_argnames=("spec", "fused", "by_reciprocal"))
def factorise(
    a: Any, key: Any, chance: Any, *, spec: str, fused: bool = False, by_reciprocal: bool = False
) -> tuple[Any, Any]:
    """Return L and U in one array, and the order of the rows, of matrices of shape (..., n, n).

    The key and the chance of rounding up serve the modes that need them. Partial pivoting; step k
    computes l = fl(a_ik / a_kk) and a_ij <- fl(a_ij - fl(l a_kj)). To nearest, the second line may
    be fused into one rounding, and l may be fl(a_ik fl(1 / a_kk)).
    """
    n = a.shape[-1]
    index = jnp.arange(n)

    def eliminate(k: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
        a, order = state
        pivot = jnp.argmax(jnp.where(index < k, -1, jnp.abs(a[..., k])), axis=-1)[..., None]
        rows = jnp.where(index == k, pivot, jnp.where(index == pivot, k, index))
        a = jnp.take_along_axis(a, rows[..., None], axis=-2)
        order = jnp.take_along_axis(order, rows, axis=-1)
        row, column, is_below = a[..., k, :], a[..., k], index > k
        noise = _draw(jax.random.fold_in(key, k), chance, spec, (1, *row.shape), (2, *a.shape))
        pivot_value = row[..., k, None]
        if by_reciprocal:
            inverse = ps.reciprocal(pivot_value, spec)
            factors = _rounded(ps.multiply, column, inverse, spec, noise[0][0])
        else:
            factors = _rounded(ps.divide, column, pivot_value, spec, noise[0][0])
        factors = jnp.where(is_below, factors, column)
        outer = factors[..., None], row[..., None, :]
        left = _minus_product(a, *outer, spec, noise[1], fused)
        a = jnp.where(is_below[:, None] & is_below, left, a)
        return a.at[..., k].set(factors), order

    order = jnp.broadcast_to(index, a.shape[:-1])
    result: tuple[Any, Any] = lax.fori_loop(0, n - 1, eliminate, (a, order))
    return result


@partial(jax.jit, static_argnames="spec")
def solve(factors: Any, order: Any, b: Any, key: Any, chance: Any, *, spec: str) -> Any:
    """Return x with L U x = b (rows of b taken in `order`), shape (..., n).

    By columns: as soon as x_k is known, b_i <- fl(b_i - fl(x_k a_ik)) for the rows that are left.
    """
    n = b.shape[-1]
    index = jnp.arange(n)

    def substitute(j: Any, x: Any) -> Any:
        is_back = j >= n
        k = jnp.where(is_back, 2 * n - 1 - j, j)
        diagonal = jnp.where(is_back, factors[..., k, k], 1)  # that of L is 1
        noise = _draw(jax.random.fold_in(key, j), chance, spec, (1, *x.shape[:-1]), (2, *x.shape))
        known = _rounded(ps.divide, x[..., k], diagonal, spec, noise[0][0])
        x = x.at[..., k].set(known)
        left = _minus_product(x, known[..., None], factors[..., k], spec, noise[1])
        return jnp.where(jnp.where(is_back, index < k, index > k), left, x)

    # Forward with L, then back with U.
    return lax.fori_loop(0, 2 * n, substitute, jnp.take_along_axis(b, order, axis=-1))


@partial(jax.jit, static_argnames="spec")
def cholesky(a: Any, *, spec: str) -> Any:
    """Return R, upper triangular, with R^T R the matrix, shape (n, n); NaN if a pivot is negative.

    Step k computes r_kk = fl(sqrt(a_kk)), r_kj = fl(a_kj / r_kk), a_ij <- fl(a_ij - fl(r_ki r_kj)).
    """
    index = jnp.arange(a.shape[-1])

    def eliminate(k: Any, a: Any) -> Any:
        pivot = ps.sqrt(a[k, k], spec)
        row = jnp.where(index > k, ps.divide(a[k], pivot, spec), jnp.where(index == k, pivot, 0))
        left = _minus_product(a, row[:, None], row, spec, (None, None))
        a = jnp.where((index > k)[:, None] & (index > k), left, a)
        return a.at[k].set(row)

    return lax.fori_loop(0, a.shape[-1], eliminate, a)
