"""Rows of a table by index, with the gradient of the table added up in a stated order."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from precsim._arrays import Array, ArrayLike, as_integers, is_jax, namespace, within
from precsim._calls import call
from precsim.arithmetic.sums.segments import segment_sum
from precsim.formats.carrier import as_carrier
from precsim.rounding.kernel.limits import limits
from precsim.rounding.random_bits import as_random_bits
from precsim.rounding.spec import RoundingSpec, SpecLike


def embedding(
    table: ArrayLike, ids: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None
) -> Array:
    """Return ``table[ids]``, with a gradient of the table that is summed in a stated order.

    Parameters
    ----------
    table : array_like of float, shape (rows, features)
        Rows, float32 or float64.
    ids : array_like of int, shape (...)
        Indices of rows.
    spec : str, Format or RoundingSpec
        Format and rule of every partial sum of the table's gradient.
    random_bits : array_like of int, shape (..., features), optional
        For mode sr: one integer per element of the result.

    Returns
    -------
    ndarray or jax.Array, shape (..., features)
        Copies of the rows, exact; NaN for indices outside 0 to rows - 1. Jax if an argument is.

    Raises
    ------
    ValueError
        If the table has not two dimensions, the carrier cannot hold the format, or `random_bits`
        are missing in mode sr.
    TypeError
        If `table` has a dtype that `round_to` does not take, or `ids` or `random_bits` are not
        integers.

    Notes
    -----
    Gradient of the table: ``segment_sum(g, ids, spec)`` over all positions in row-major order, the
    same bits on every device; see there for its error and cost. Indices outside the table
    contribute nothing. Tangent: the same rows of the table's tangent, exact, and zero for such
    indices.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, precsim as ps
    >>> table, ids = jnp.ones((2, 1)), jnp.zeros(300, jnp.int32)
    >>> loss = lambda table, fmt: ps.embedding(table, ids, fmt).sum()
    >>> [jax.grad(loss)(table, fmt)[0].item() for fmt in ("bf16", "fp16")]
    [256.0, 300.0]
    """
    spec = RoundingSpec.parse(spec)
    table, carrier = as_carrier(table, "table")
    limits(spec, carrier)
    ids = as_integers(ids, "ids")
    if table.ndim != 2:
        raise ValueError(f"table has shape {table.shape}; allowed is (rows, features)")
    result = np.broadcast_to(np.zeros((), table.dtype), (*ids.shape, table.shape[1]))
    bits = as_random_bits(random_bits, (result,), carrier, spec, "element of the result")
    if not is_jax(ids) and ids.dtype.itemsize == 8:
        # JAX may have 32 bits only; what they do not hold is no row.
        ids = within(ids, table.shape[0])
    if not any(map(is_jax, (table, ids, bits))):
        return _rows(table, ids, np.nan)
    return call(_embed, spec, table, ids, bits)


def _embed(spec: RoundingSpec, table: Array, ids: Array, bits: Array | None) -> Array:
    from precsim._lax_arrays import plain

    return _with_gradient()(*plain((table, ids, bits)), spec)


def _rows(table: Array, ids: Array, elsewhere: float) -> Array:
    xp = namespace(table, ids)
    missing = table.dtype.type(elsewhere)
    if not table.shape[0]:
        return xp.full((*ids.shape, table.shape[1]), missing, table.dtype)
    is_inside = (ids >= 0) & (ids < table.shape[0])
    rows = xp.take(table, ids, axis=0, mode="clip")
    if is_jax(rows):
        return xp.where(is_inside[..., None], rows, missing)
    rows[~is_inside] = missing
    return rows


@cache
def _with_gradient() -> Callable[..., Array]:
    import jax

    from precsim._linear import linear_map, tangent_sum

    @partial(jax.custom_jvp, nondiff_argnums=(3,))
    def gather(table: Array, ids: Array, bits: Array | None, spec: RoundingSpec) -> Array:
        return _rows(table, ids, np.nan)

    @partial(gather.defjvp, symbolic_zeros=True)
    def tangent(spec: RoundingSpec, primals: Any, tangents: Any) -> tuple[Array, Array]:
        table, ids, bits = primals
        y = gather(table, ids, bits, spec)
        add_up = partial(_add_up, spec, table.shape[0])
        pick = partial(linear_map, _pick, add_up, (ids, bits), like=y)
        return y, tangent_sum(y, [(tangents[0], pick)])

    return gather


def _pick(residuals: tuple[Array, Array | None], table: Array) -> Array:
    return _rows(table, residuals[0], 0.0)


def _add_up(
    spec: RoundingSpec, rows: int, residuals: tuple[Array, Array | None], g: Array
) -> Array:
    ids, bits = residuals
    flat = g.reshape(ids.size, g.shape[-1])
    noise = None if bits is None else bits.reshape(flat.shape)
    return segment_sum(flat, ids.reshape(-1), spec, num_segments=rows, random_bits=noise)
