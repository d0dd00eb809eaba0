"""Tiles of columns: a layout that keeps the rows that one step reads in the fastest cache.

A step reads L rows of the right operand once for each row of the result. Unless they stay in the
first-level cache meanwhile, the step is bound by memory: on one core a product of 512 columns took
1.5 to 2 times as long.
"""

from typing import Any, NamedTuple

from precsim._arrays import Array, is_jax, namespace, on_plain_arrays

_STEP_ELEMENTS = 2048
"""Elements of one array that a step reads again and again: 8 KiB of the 32 that the cache has."""
_VECTOR = 16
"""Elements; a tile is a multiple of this, so that no vector is broken."""


class Tiles(NamedTuple):
    """How the columns of a result are split."""

    number: int
    width: int
    columns: int

    def split(self, x: Array) -> Array:
        """Reshape (..., rows, columns) to (number, ..., rows, width), filled up with zeros."""
        xp = namespace(x)
        fill = self.number * self.width - self.columns
        if fill:
            x = xp.concatenate([x, xp.zeros((*x.shape[:-1], fill), x.dtype)], axis=-1)
        return xp.moveaxis(x.reshape(*x.shape[:-1], self.number, self.width), -2, 0)

    def join(self, x: Array) -> Array:
        """Undo `split`."""
        x = namespace(x).moveaxis(x, 0, -2)
        return x.reshape(*x.shape[:-2], self.number * self.width)[..., : self.columns]


def tiles_of(columns: int, rows_a_step: int, *, is_compiled: bool) -> Tiles:
    """Choose tiles of about equal width; NumPy takes whole rows."""
    limit = max(_STEP_ELEMENTS // rows_a_step, _VECTOR)
    count = -(-columns // limit) if is_compiled else 1
    if count <= 1:
        return Tiles(1, columns, columns)
    width = -(-columns // (count * _VECTOR)) * _VECTOR
    return Tiles(count, width, columns)


@on_plain_arrays
def row(x: Array, k: Any) -> Array:
    """Return row k of (..., rows, width) as (..., 1, width); a slice under JAX, for its loops."""
    if not is_jax(x):
        one: Array = x[..., k, None, :]
        return one
    from jax import lax

    return lax.dynamic_slice_in_dim(x, k, 1, x.ndim - 2)
