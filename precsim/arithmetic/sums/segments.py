"""Sums of rows by segment, in a stated order: a scatter-add with the same bits on every device."""

from precsim._arrays import (
    Array,
    ArrayLike,
    as_integers,
    entry,
    is_jax,
    namespace,
    with_entry,
    within,
)
from precsim._calls import call
from precsim._loops import repeat
from precsim.arithmetic.elementwise import add
from precsim.formats.arguments import integer
from precsim.formats.carrier import as_carrier
from precsim.rounding.kernel.limits import limits
from precsim.rounding.random_bits import as_random_bits, beside
from precsim.rounding.spec import RoundingSpec, SpecLike


def segment_sum(
    data: ArrayLike,
    segment_ids: ArrayLike,
    spec: SpecLike,
    *,
    num_segments: int,
    random_bits: ArrayLike | None = None,
) -> Array:
    """Add rows that have the same segment, from the first to the last, rounding every partial sum.

    Parameters
    ----------
    data : array_like of float, shape (N, ...)
        Rows, float32 or float64, taken as they are.
    segment_ids : array_like of int, shape (N,)
        Segment of each row, in any order; rows outside 0 to num_segments - 1 are dropped.
    spec : str, Format or RoundingSpec
        Format and rule of every partial sum.
    num_segments : int
        Number of sums.
    random_bits : array_like of int, shape (N, ...), optional
        For mode sr: one integer per element of `data`.

    Returns
    -------
    ndarray or jax.Array, shape (num_segments, ...)
        ``s = fl(s + data[n])`` for ascending n with segment_ids[n] = segment, from +0; library and
        dtype as `data`.

    Raises
    ------
    ValueError
        If shapes do not fit, the carrier cannot hold the format, or `random_bits` are missing in
        mode sr.
    TypeError
        If `data` has a dtype that `round_to` does not take, or `segment_ids` or `random_bits` are
        not integers.

    Notes
    -----
    Error: ``gamma(n, u) * sum|x|`` for a segment of n rows, to nearest. Gradient: each row has the
    cotangent of its segment, exactly (straight-through). Special values: as in `add`.

    Cost: N additions of a row, one after the other, of about 150 integer operations per element. So
    the bits are the same on every device; on a GPU those of `jax.ops.segment_sum` are not (atomic
    additions).

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> rows = np.array([[2048.0], [1.0], [1.0], [3.0]], np.float32)
    >>> ps.segment_sum(rows, [1, 0, 1, 1], "fp16", num_segments=2).tolist()
    [[1.0], [2052.0]]
    """
    spec = RoundingSpec.parse(spec)
    data, carrier = as_carrier(data, "data")
    limits(spec, carrier)
    ids = beside(as_integers(segment_ids, "segment_ids"), (data,), carrier)
    if data.ndim == 0 or ids.shape != data.shape[:1]:
        raise ValueError(
            f"segment_ids has shape {ids.shape}; allowed for data of shape {data.shape} is one axis, its first"
        )
    num_segments = integer(num_segments, "num_segments", 0)
    bits = as_random_bits(random_bits, (data,), carrier, spec, "element of data")
    if not is_jax(ids) and ids.dtype.itemsize == 8:
        # JAX may have 32 bits only; what they do not hold is no segment.
        ids = within(ids, num_segments)
    return call(_add_rows, (spec, num_segments), data, ids, bits, steps=data.shape[0])


def _add_rows(
    option: tuple[RoundingSpec, int], data: Array, ids: Array, bits: Array | None
) -> Array:
    """Run over the rows; each is added to its segment's sum."""
    spec, count = option
    xp = namespace(data)
    totals = xp.zeros((count, *data.shape[1:]), data.dtype)
    if not count or not data.shape[0]:
        return totals
    is_kept = (ids >= 0) & (ids < count)
    places = xp.where(is_kept, ids, 0)

    def add_row(n: ArrayLike, totals: Array) -> Array:
        place = entry(places, n)
        old = entry(totals, place)
        new = add(old, entry(data, n), spec, random_bits=None if bits is None else entry(bits, n))
        return with_entry(totals, place, xp.where(entry(is_kept, n), new, old))

    return repeat(data.shape[0], add_row, totals)
