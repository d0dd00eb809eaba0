"""Products whose columns are shared out among devices; the sum of an element is never divided.

This is tensor parallelism with the bits of one device: each device multiplies by its columns of the
right operand, and all of them gather the result.
"""

from collections.abc import Callable
from typing import Any

import jax

from precsim._arrays import Array

COLUMNS = "precsim_columns"
"""The axis of a mesh: inside `jax.shard_map` over it, products are shared out."""

lax: Any = jax.lax
"""JAX's collectives have no types."""

LEAST_COLUMNS = 8
"""Of a device. Kernels of GPUs have the bits of their models from so many columns on."""


def in_columns(
    run: Callable[..., Any], a: Array, b: Array, c: Array | None, random_bits: Array | None
) -> Any:
    """Return ``run(a, b, c, random_bits)``, its columns shared out where a mesh says so.

    Shapes (..., M, K), (..., K, N), and (..., M, N) where not None. `run` returns an array with N
    columns; scalars beside it, which count, are added up. Where the devices have too few columns,
    or not the same number, each computes all.
    """
    if COLUMNS not in jax.sharding.get_abstract_mesh().manual_axes:
        return run(a, b, c, random_bits)
    devices = lax.axis_size(COLUMNS)
    share, rest = divmod(b.shape[-1], devices)
    if devices == 1 or rest or share < LEAST_COLUMNS:
        return run(a, b, c, random_bits)
    first = lax.axis_index(COLUMNS) * share

    def own(x: Array | None) -> Array | None:
        return None if x is None else lax.dynamic_slice_in_dim(x, first, share, axis=x.ndim - 1)

    def joined(y: Array) -> Any:
        if y.ndim == 0:
            return lax.psum(y, COLUMNS)
        return lax.all_gather(y, COLUMNS, axis=y.ndim - 1, tiled=True)

    return jax.tree.map(joined, run(a, own(b), own(c), own(random_bits)))
