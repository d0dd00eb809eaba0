"""Textbook algorithms of linear algebra, and reductions, as plain functions of JAX.

`emulate` interprets them in place of the platform's routines, operation by operation. Matrices are
the last two axes. Step k of a factorisation updates all later elements, so that an element takes
its updates in the order of ascending k: a_ij - l_i1 u_1j - l_i2 u_2j - ..., as in every textbook,
whatever the order of its loops.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from precsim._arrays import Array

Combine = Callable[[list[Array], list[Array]], list[Array]]
"""An operation on two rows of numbers, elementwise."""


def reduced(combine: Combine, rows: Sequence[Array], *, is_chain: bool) -> list[Array]:
    """Combine along the first axis, not empty: one after the other, or neighbours first."""
    level = list(rows)
    if is_chain:
        step = lambda total, row: (combine(total, row), None)
        total: list[Array] = lax.scan(step, [x[0] for x in level], [x[1:] for x in level])[0]
        return total
    while (count := level[0].shape[0]) > 1:
        even = count // 2 * 2
        pairs = combine([x[0:even:2] for x in level], [x[1:even:2] for x in level])
        tails = [x[even:] for x in level]
        level = [jnp.concatenate(both) for both in zip(pairs, tails, strict=True)]
    return [x[0] for x in level]


def rows_over(x: Array, axes: Sequence[int]) -> Array:
    """Return the numbers over some axes along a new first axis, in row-major order."""
    kept = [n for n in range(x.ndim) if n not in axes]
    count = math.prod(x.shape[n] for n in axes)  # which a -1 would not tell of empty arrays
    return x.transpose(*sorted(axes), *kept).reshape(count, *(x.shape[n] for n in kept))


def windows(
    x: Array,
    start: Any,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Array:
    """Return the numbers of each window, along a new first axis in row-major order.

    What the padding and the dilation of `x` put in is `start`.
    """
    ones = [1] * x.ndim
    base, dilation = base_dilation or ones, window_dilation or ones
    config = [(low, high, d - 1) for (low, high), d in zip(padding, base, strict=True)]
    x = lax.pad(x, jnp.asarray(start, x.dtype), config)
    spans = [(size - 1) * d + 1 for size, d in zip(window_dimensions, dilation, strict=True)]
    counts = [
        max((size - span) // stride + 1, 0)
        for size, span, stride in zip(x.shape, spans, window_strides, strict=True)
    ]
    if 0 in counts or 0 in window_dimensions:
        return jnp.zeros((math.prod(window_dimensions), *counts), x.dtype)
    found = []
    for offset in itertools.product(*map(range, window_dimensions)):
        first = [o * d for o, d in zip(offset, dilation, strict=True)]
        last = [f + (n - 1) * s + 1 for f, n, s in zip(first, counts, window_strides, strict=True)]
        found.append(lax.slice(x, first, last, window_strides))
    return jnp.stack(found)


def applied(
    function: Callable[[Array], Array], target: Array, indices: Array, updates: Array, params: Any
) -> Array:
    """Apply a function of a row of numbers to those where a scatter would write.

    A number that it would write to more than once is taken as often.
    """
    places = scattered_places(target, indices, updates, params).reshape(-1)
    places = jnp.where(places < 0, target.size, places)
    times = jnp.zeros(target.size, jnp.int32).at[places].add(1, mode="drop")

    def step(n: Any, x: Array) -> Array:
        return jnp.where(n < times, function(x), x)

    most = 1 if params["unique_indices"] else math.prod(indices.shape[:-1])
    row = target.reshape(-1)
    row = step(0, row) if most == 1 else lax.fori_loop(0, most, step, row)
    return row.reshape(target.shape)


def scattered_places(target: Array, indices: Array, updates: Array, params: Any) -> Array:
    """Return the flat index in the target of each update, -1 where it falls outside.

    A gather of the target's own indices finds them: it reads where the scatter would write.
    """
    dims = params["dimension_numbers"]
    sizes = [1] * target.ndim
    hidden = {*dims.inserted_window_dims, *dims.operand_batching_dims}
    shown = [n for n in range(target.ndim) if n not in hidden]
    for n, axis in zip(shown, dims.update_window_dims, strict=True):
        sizes[n] = updates.shape[axis]
    numbers = lax.GatherDimensionNumbers(
        offset_dims=dims.update_window_dims,
        collapsed_slice_dims=dims.inserted_window_dims,
        start_index_map=dims.scatter_dims_to_operand_dims,
        operand_batching_dims=dims.operand_batching_dims,
        start_indices_batching_dims=dims.scatter_indices_batching_dims,
    )
    own = lax.iota(jnp.int32, target.size).reshape(target.shape)
    mode = params["mode"]
    clips = mode is not None and mode == lax.GatherScatterMode.CLIP
    found: Array = lax.gather(
        own,
        indices,
        numbers,
        slice_sizes=tuple(sizes),
        mode=lax.GatherScatterMode.CLIP if clips else lax.GatherScatterMode.FILL_OR_DROP,
        fill_value=-1,
    )
    return found


def _column(a: Array, k: Array) -> Array:
    column: Array = lax.dynamic_index_in_dim(a, k, -1)
    return column


def _row(a: Array, k: Array) -> Array:
    row: Array = lax.dynamic_index_in_dim(a, k, -2)
    return row


def _places(a: Array) -> tuple[Array, Array]:
    """Return the numbers of the rows as a column, and of the columns as a row."""
    rows, columns = a.shape[-2:]
    return jnp.arange(rows, dtype=jnp.int32)[:, None], jnp.arange(columns, dtype=jnp.int32)


def cholesky(a: Array) -> Array:
    """Return the lower factor of a symmetric matrix; NaN if a pivot is not positive."""
    i, j = _places(a)

    def step(a: Array, k: Array) -> tuple[Array, None]:
        root = jnp.sqrt(_column(_row(a, k), k))
        below = jnp.where(i > k, _column(a, k) / root, 0)
        changed = a - below * jnp.swapaxes(below, -1, -2)
        a = jnp.where((j > k) & (i >= j), changed, a)
        return jnp.where(j == k, jnp.where(i == k, root, below), a), None

    a, _ = lax.scan(step, a, jnp.arange(a.shape[-1]))
    is_positive = jnp.all(jnp.where(i == j, a > 0, True), axis=(-2, -1), keepdims=True)
    return jnp.where(is_positive, a, jnp.nan)


def lu(a: Array) -> tuple[Array, Array, Array]:
    """Return the factors in one matrix, the row exchanged at each step, and the permutation.

    The pivot is the first element of the largest magnitude. A column of zeros is left.
    """
    i, j = _places(a)
    rows = jnp.broadcast_to(i[:, 0], a.shape[:-1])

    def step(state: Any, k: Array) -> tuple[Any, Array]:
        a, order = state
        size = jnp.where(i >= k, jnp.abs(_column(a, k)), -1)[..., 0]
        largest = jnp.argmax(size, axis=-1).astype(jnp.int32)
        at = largest[..., None]
        exchanged = jnp.where(rows == k, at, jnp.where(rows == at, k, rows))
        a = jnp.take_along_axis(a, exchanged[..., None], -2)
        order = jnp.take_along_axis(order, exchanged, -1)
        row = _row(a, k)
        pivot = _column(row, k)
        below = jnp.where(i > k, _column(a, k) / jnp.where(pivot == 0, 1, pivot), 0)
        changed = a - below * jnp.where(j > k, row, 0)
        a = jnp.where((i > k) & (j > k), changed, jnp.where((i > k) & (j == k), below, a))
        return (a, order), largest

    steps = jnp.arange(min(a.shape[-2:]), dtype=jnp.int32)
    (a, order), pivots = lax.scan(step, (a, rows), steps)
    return a, jnp.moveaxis(pivots, 0, -1), order


def triangular_solve(
    a: Array,
    b: Array,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    unit_diagonal: bool,
    **_: Any,
) -> Array:
    """Return x of a triangular system, by substitution: divided once, by the diagonal."""
    if not left_side:
        back = jnp.swapaxes(b, -1, -2)
        options = {"lower": lower, "unit_diagonal": unit_diagonal}
        x = triangular_solve(a, back, left_side=True, transpose_a=not transpose_a, **options)
        return jnp.swapaxes(x, -1, -2)
    if transpose_a:
        a, lower = jnp.swapaxes(a, -1, -2), not lower
    i, _j = _places(b)

    def step(b: Array, k: Array) -> tuple[Array, None]:
        column, x = _column(a, k), _row(b, k)
        if not unit_diagonal:
            x = x / _row(column, k)
        is_left = i > k if lower else i < k
        changed = b - jnp.where(is_left, column, 0) * x
        return jnp.where(is_left, changed, jnp.where(i == k, x, b)), None

    x, _last = lax.scan(step, b, jnp.arange(a.shape[-1]), reverse=not lower)
    return x


def geqrf(a: Array) -> tuple[Array, Array]:
    """Return the triangle with the reflectors below it, and their factors tau, as LAPACK does.

    A reflector is I - tau v v^T, v_k = 1. Squares and inner products are sums over whole columns,
    whose elements before k count as 0.
    """
    i, j = _places(a)

    def step(a: Array, k: Array) -> tuple[Array, Array]:
        column = _column(a, k)
        first = _row(column, k)
        tail = jnp.where(i > k, column, 0)
        is_zero = jnp.all(tail == 0, axis=-2, keepdims=True)
        squares = jnp.sum(jnp.square(jnp.where(i >= k, column, 0)), axis=-2, keepdims=True)
        norm = jnp.sqrt(jnp.where(is_zero, 1, squares))
        last = jnp.where(first < 0, norm, -norm)
        tau = jnp.where(is_zero, 0, (last - first) / last)
        v = jnp.where(i == k, 1, jnp.where(is_zero, 0, tail / (first - last)))
        a = jnp.where(j > k, _reflected(a, v, tau), a)
        own = jnp.where(i > k, v, jnp.where((i == k) & ~is_zero, last, column))
        return jnp.where(j == k, own, a), tau[..., 0, 0]

    a, taus = lax.scan(step, a, jnp.arange(min(a.shape[-2:])))
    return a, jnp.moveaxis(taus, 0, -1)


def _reflected(a: Array, v: Array, tau: Array) -> Array:
    """Return a - v (tau (v^T a))."""
    return a - v * (tau * jnp.sum(v * a, axis=-2, keepdims=True))


def reflected_by_all(a: Array, taus: Array, c: Array, *, transpose: bool) -> Array:
    """Return Q c or Q^T c, for the reflectors and factors of `geqrf`."""
    i, _ = _places(a)

    def step(c: Array, k: Array) -> tuple[Array, None]:
        v = jnp.where(i == k, 1, jnp.where(i > k, _column(a, k), 0))
        return _reflected(c, v, _column(taus, k)[..., None]), None

    return lax.scan(step, c, jnp.arange(taus.shape[-1]), reverse=not transpose)[0]


def householder_product(a: Array, taus: Array) -> Array:
    """Return the first columns of Q."""
    eye = jnp.broadcast_to(jnp.eye(a.shape[-2], a.shape[-1], dtype=a.dtype), a.shape)
    return reflected_by_all(a, taus, eye, transpose=False)


def ormqr(a: Array, taus: Array, c: Array, *, left: bool, transpose: bool) -> Array:
    """Return Q c, Q^T c, c Q or c Q^T."""
    if left:
        return reflected_by_all(a, taus, c, transpose=transpose)
    turned = reflected_by_all(a, taus, jnp.swapaxes(c, -1, -2), transpose=not transpose)
    return jnp.swapaxes(turned, -1, -2)


def qr(a: Array, *, full_matrices: bool) -> tuple[Array, Array]:
    """Return Q and R."""
    rows, columns = a.shape[-2:]
    count = rows if full_matrices else min(rows, columns)
    packed, taus = geqrf(a)
    missing = [(0, 0)] * (a.ndim - 1) + [(0, max(count - columns, 0))]
    q = householder_product(jnp.pad(packed, missing)[..., :count], taus)
    return q, jnp.triu(packed[..., :count, :])


def prefixes(
    combine: Callable[[Array, Array], Array], x: Array, *, axis: int, reverse: bool
) -> Array:
    """Combine the first numbers, for all counts of them, in the tree of `lax.associative_scan`.

    That one puts results together by additions, so that -0 becomes +0.
    """

    def tree(rows: Array) -> Array:
        count = rows.shape[0]
        if count < 2:
            return rows
        odd = tree(combine(rows[: count - 1 : 2], rows[1::2]))
        even = combine(odd[: (count - 1) // 2], rows[2::2]) if count > 2 else rows[:0]
        even = jnp.concatenate([rows[:1], even])
        pairs = jnp.stack([even[: count // 2], odd], axis=1).reshape(
            count // 2 * 2, *rows.shape[1:]
        )
        return jnp.concatenate([pairs, even[count // 2 :]])

    rows = jnp.moveaxis(x, axis, 0)
    found = tree(rows[::-1])[::-1] if reverse else tree(rows)
    return jnp.moveaxis(found, 0, axis)
