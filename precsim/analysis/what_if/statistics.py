"""What is kept of a tensor, in order to predict what any format would make of it."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import numpy as np

from precsim._arrays import Array, ArrayLike, bitcast, is_jax, namespace
from precsim._calls import has_jax, on_cpu, with_automatic_axes
from precsim.analysis.ranges import ExponentHistogram
from precsim.analysis.what_if.block_statistics import (
    BlockStatistics,
    of_blocks,
    register,
    to_blocks,
)
from precsim.analysis.what_if.cells import num_cells, num_columns, places
from precsim.formats.arguments import axis_of, integer
from precsim.formats.carrier import FLOAT32, FLOAT64, Carrier, as_carrier, is_narrow_float, select

PIECES = 1 << 17, 1 << 20
"""Elements that a compiled program counts at a time, of large NumPy arrays and of larger ones."""

COMPILED_FROM = 1 << 16
"""Elements from which a NumPy array is large."""

SPECIALS = ("zero", "positive infinity", "negative infinity", "NaN")
"""What is counted apart, in the order of `TensorStatistics.specials`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorStatistics:
    """Counts of a tensor's values by exponent and leading bits. A JAX pytree; counts add.

    Parameters
    ----------
    counts : ndarray or jax.Array of int, shape (n, columns)
        A row for each exponent from `first_exponent` on; columns are those of
        `precsim.analysis.what_if.cells`.
    specials : ndarray or jax.Array of int, shape (4,)
        Zeros (of either sign), infinities, minus infinities, NaN.
    amax : ndarray or jax.Array of float, shape ()
        The largest finite magnitude, exactly.
    blocks : BlockStatistics or None
        Counts relative to blocks, if asked for.
    first_exponent : int
        The exponent of the first row.
    carrier : str
        "float32" or "float64", the dtype of the values.

    Examples
    --------
    >>> import precsim as ps
    >>> first, second = ps.errors.statistics([1.0, 0.1]), ps.errors.statistics([0.0, 3.0])
    >>> both = first.merge(second)
    >>> both.elements, both.nonzero, float(both.amax)
    (4, 3, 3.0)
    """

    counts: Array
    specials: Array
    amax: Array
    blocks: BlockStatistics | None
    first_exponent: int
    carrier: str

    def __post_init__(self) -> None:
        """Make JAX know the class."""
        register(TensorStatistics, ("first_exponent", "carrier"))

    @property
    def layout(self) -> Carrier:
        """The layout of the values."""
        return FLOAT32 if self.carrier == FLOAT32.name else FLOAT64

    @property
    def elements(self) -> int:
        """All elements."""
        return int(np.sum(self._cells)) + int(np.sum(np.asarray(self.specials)))

    @property
    def nonzero(self) -> int:
        """Elements that are neither zero nor NaN."""
        return self.elements - int(self.specials[0]) - int(self.specials[3])

    @property
    def _cells(self) -> np.ndarray:
        counts = np.asarray(self.counts)[:, : 2 * num_cells(self.layout)]
        return counts.astype(np.int64)

    @property
    def exponents(self) -> ExponentHistogram:
        """How often each exponent occurs, from the smallest that does to the largest."""
        binades = self._cells.sum(axis=1)
        there = np.flatnonzero(binades)
        here = slice(there[0], there[-1] + 1) if there.size else slice(0)
        zeros, *others = (int(n) for n in np.asarray(self.specials))
        exponents = np.arange(binades.size) + self.first_exponent
        return ExponentHistogram(exponents[here], binades[here], zeros, sum(others))

    def merge(self, other: "TensorStatistics") -> "TensorStatistics":
        """Return the statistics of both tensors together: exact, associative, commutative.

        Under jit both must have come from JAX arrays, whose tables have one size.
        """
        if not isinstance(other, TensorStatistics):
            raise TypeError(f"other is {type(other).__name__}; allowed is what statistics returns")
        if other.carrier != self.carrier:
            raise ValueError(
                f"other has statistics of {other.carrier} values, but these are of {self.carrier}; "
                "allowed is one dtype"
            )
        blocks = None
        if self.blocks is not None and other.blocks is not None:
            blocks = self.blocks.merge(other.blocks)
        elif self.blocks is not other.blocks:
            raise ValueError(
                "other has blocks or has none, unlike these statistics; allowed is both"
            )
        counts, first = self.counts, self.first_exponent
        if counts.shape == other.counts.shape and first == other.first_exponent:
            counts = counts + other.counts
        else:
            first, counts = _over_both(self, other)
        return TensorStatistics(
            counts=counts,
            specials=self.specials + other.specials,
            amax=_larger(self.amax, other.amax, self.layout),
            blocks=blocks,
            first_exponent=first,
            carrier=self.carrier,
        )

    def all_reduce(self, axis_name: str | tuple[str, ...]) -> "TensorStatistics":
        """Return the statistics over a mapped axis of devices, inside `jax.shard_map` or vmap."""
        from jax import lax

        add, largest = cast("Any", lax.psum), cast("Any", lax.pmax)
        amax = largest(bitcast(self.amax, self.layout.uint_dtype), axis_name)
        tables = add((self.counts, self.specials, self.blocks), axis_name)
        names = "counts", "specials", "blocks"
        added = replace(self, **dict(zip(names, tables, strict=True)))
        return replace(added, amax=bitcast(amax, self.layout.float_dtype))


def _over_both(x: TensorStatistics, y: TensorStatistics) -> tuple[int, np.ndarray]:
    """Return the first exponent of both tables, and their sum."""
    tables = [t for t in (x, y) if t.counts.shape[0]]
    if len(tables) < 2:
        table = tables[0] if tables else x
        return table.first_exponent, np.asarray(table.counts)
    first = min(t.first_exponent for t in tables)
    end = max(t.first_exponent + t.counts.shape[0] for t in tables)
    counts = np.zeros((end - first, x.counts.shape[1]), np.int64)
    for t in tables:
        start = t.first_exponent - first
        counts[start : start + t.counts.shape[0]] += np.asarray(t.counts)
    return first, counts


def _larger(x: Array, y: Array, carrier: Carrier) -> Array:
    """Return the larger of two magnitudes; a comparison of floats under XLA may flush."""
    u = carrier.uint_dtype
    bits, others = bitcast(x, u), bitcast(y, u)
    return bitcast(select(bits < others, others, bits), carrier.float_dtype)


def statistics(x: ArrayLike, *, block_size: int | None = None, axis: int = -1) -> TensorStatistics:
    """Count the values of a tensor, so that what formats make of it can be predicted.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64; narrower floats count as float32.
    block_size : int, optional
        Count relative to blocks of so many elements, too: 32 for the MX formats.
    axis : int
        The axis along which blocks run.

    Returns
    -------
    TensorStatistics
        Tables of fixed size (1.3 MB for float32) for JAX arrays, inside `jax.jit` too; for NumPy
        arrays of the exponents that occur.

    Raises
    ------
    TypeError
        If `x` is of another dtype.
    ValueError
        If `block_size` is no positive integer, or `axis` is out of range.

    Notes
    -----
    Special values: zeros (of either sign), infinities and NaN are counted apart. Error: none. The
    counts are integers, found by integer operations; for JAX arrays they are int32, so a cell holds
    up to 2**31 - 1 elements, summed over all that is merged. The energies of blocks are float32
    sums, of up to 10**7 elements without harm.

    Cost: about 15 ns per element on one core, 20 ns with blocks. Narrow floats in NumPy take 6 ns:
    their codes are counted first. NumPy arrays of 65,536 elements and more are counted by a
    compiled program.

    Examples
    --------
    >>> import precsim as ps
    >>> stats = ps.errors.statistics([1e-3, 3e-6, 2e-8, 1e-9])
    >>> prediction = ps.errors.predict(stats, "fp16")
    >>> prediction.underflowed, prediction.subnormal
    (2, 1)
    >>> ps.errors.predict(stats, "fp16", scale=1024).underflowed
    0
    """
    given, (x, carrier) = x, as_carrier(x)
    if block_size is None and isinstance(given, np.ndarray) and is_narrow_float(given.dtype):
        return _of_codes(given)
    if block_size is None:
        return with_automatic_axes(lambda x: _of_elements(x, carrier), x)
    size, axis = integer(block_size, "block_size", 1), axis_of(axis, x.shape)
    return with_automatic_axes(lambda x: _in_blocks(x, size, axis, carrier), x)


def _of_elements(x: Array, carrier: Carrier) -> TensorStatistics:
    return _found(bitcast(x, carrier.uint_dtype).reshape(-1, 1), False, carrier)


def _in_blocks(x: Array, size: int, axis: int, carrier: Carrier) -> TensorStatistics:
    bits = bitcast(to_blocks(x, size, axis), carrier.uint_dtype)
    return _without_fill(_found(bits, True, carrier), bits, x.shape[axis], carrier)


def _found(bits: Any, has_blocks: bool, carrier: Carrier) -> TensorStatistics:
    """Count patterns of shape (blocks, block_size)."""
    if is_jax(bits):
        found: TensorStatistics = _compiled(has_blocks, carrier)(bits)
        return found
    if bits.size >= COMPILED_FROM and bits.shape[1] <= PIECES[0] and has_jax():
        return _in_pieces(bits, has_blocks, carrier)
    return _in_numpy(bits, has_blocks, carrier)


def _without_fill(
    found: TensorStatistics, bits: Any, length: int, carrier: Carrier
) -> TensorStatistics:
    """Take out the zeros that fill up the last block of each row of so many elements."""
    size = bits.shape[1]
    fill = -length % size
    if not fill:
        return found
    assert found.blocks is not None
    last = bits.reshape(-1, -(-length // size), size)[:, -1]
    is_special = (last & carrier.uint(carrier.sign_bit - 1)) >= carrier.uint(carrier.infinity)
    lost = namespace(last).sum(namespace(last).any(is_special, axis=-1))
    dtype, zero = found.specials.dtype, found.specials.dtype.type(0)
    zeros = namespace(last).stack([dtype.type(last.shape[0] * fill), zero, zero, zero])
    lost_zeros = namespace(last).stack([zero, zero, (lost * fill).astype(dtype), zero])
    blocks = replace(found.blocks, specials=found.blocks.specials - lost_zeros)
    return replace(found, specials=found.specials - zeros, blocks=blocks)


def _of_patterns(bits: Array, has_blocks: bool, carrier: Carrier) -> TensorStatistics:
    """Count patterns of a JAX array, (blocks, block_size), in a table of all exponents."""
    import jax.numpy as jnp

    first, columns = carrier.lsb_min, num_columns(carrier)
    rows = carrier.bias - first + 1
    i, size = carrier.signed, rows * columns
    at, is_number = places(bits, carrier), _is_number(bits, carrier)
    row = (at.exponent - i(first)) * i(columns)
    # What is no number goes to entries of its own behind the table.
    others = [i(size) + _special(bits, carrier), *[i(size + len(SPECIALS))] * len(at.windows)]
    counts = jnp.zeros(size + len(SPECIALS) + 1, np.int32)
    for column, other in zip((at.cell, *at.windows), others, strict=True):
        index = select(is_number, row + column, other)
        counts = counts.at[index.reshape(-1)].add(np.int32(1), mode="promise_in_bounds")
    return TensorStatistics(
        counts=counts[:size].reshape(rows, columns),
        specials=counts[size:-1],
        amax=_amax(bits, is_number, carrier),
        blocks=of_blocks(bits, at, is_number, carrier) if has_blocks else None,
        first_exponent=first,
        carrier=carrier.name,
    )


def _in_numpy(
    bits: Any, has_blocks: bool, carrier: Carrier, times: np.ndarray | None = None
) -> TensorStatistics:
    """Count patterns in a table of the exponents that occur, each as often as is said."""
    at, is_number = places(bits, carrier), _is_number(bits, carrier)
    exponent, columns = at.exponent[is_number], num_columns(carrier)
    first = int(exponent.min(initial=carrier.bias)) if exponent.size else 0
    rows = int(exponent.max(initial=carrier.lsb_min)) - first + 1 if exponent.size else 0
    row = (exponent.astype(np.int64) - first) * columns

    def count(index: Any, chosen: Any, size: int) -> Any:
        weights = None if times is None else times[chosen]
        return np.bincount(index, weights, minlength=size).astype(np.int64)

    counts = sum(
        count(row + column[is_number], is_number, rows * columns)
        for column in (at.cell, *at.windows)
    )
    return TensorStatistics(
        counts=np.reshape(counts, (rows, columns)),
        specials=count(_special(bits, carrier)[~is_number], ~is_number, len(SPECIALS)),
        amax=_amax(bits, is_number, carrier),
        blocks=of_blocks(bits, at, is_number, carrier) if has_blocks else None,
        first_exponent=first,
        carrier=carrier.name,
    )


def _of_codes(x: np.ndarray) -> TensorStatistics:
    """Count the codes of an array of narrow floats first, of which there are few."""
    codes = x.reshape(-1).view(f"u{x.dtype.itemsize}")
    times = np.bincount(codes)
    there = np.flatnonzero(times)
    numbers, carrier = as_carrier(there.astype(codes.dtype).view(x.dtype))
    bits: Any = bitcast(numbers, carrier.uint_dtype).reshape(-1, 1)
    return _in_numpy(bits, False, carrier, times[there].reshape(-1, 1))


def _in_pieces(bits: np.ndarray, has_blocks: bool, carrier: Carrier) -> TensorStatistics:
    """Count patterns by a compiled program, piece by piece, the last one filled up with zeros."""
    import jax

    run, size = _compiled(has_blocks, carrier), PIECES[bits.size >= PIECES[1]] // bits.shape[1]
    total: Any = None
    with on_cpu(carrier is FLOAT64):
        for start in range(0, len(bits), size):
            piece = bits[start : start + size]
            if len(piece) < size:
                piece = np.pad(piece, [(0, size - len(piece)), (0, 0)])
            found = jax.tree.map(_widened, run(piece))
            total = found if total is None else total.merge(found)
    missing = -len(bits) % size
    total.specials[0] -= missing * bits.shape[1]
    if has_blocks:
        total.blocks.specials[0] -= missing
    rows = np.flatnonzero(total.counts.any(axis=1))
    first, end = (int(rows[0]), int(rows[-1]) + 1) if rows.size else (0, 0)
    return replace(  # type: ignore[no-any-return]
        total,
        counts=total.counts[first:end],
        first_exponent=total.first_exponent + first if rows.size else 0,
    )


def _widened(x: Any) -> np.ndarray:
    """Return counts as int64 and sums as float64, in NumPy; a single number as it is."""
    array = np.array(x)
    return array.astype("i8" if array.dtype.kind == "i" else "f8") if array.ndim else array


@cache
def _compiled(has_blocks: bool, carrier: Carrier) -> Any:
    import jax

    return jax.jit(lambda bits: _of_patterns(bits, has_blocks, carrier))


def _is_number(bits: Array, carrier: Carrier) -> Array:
    """Return which patterns are of finite numbers other than zero."""
    u = carrier.uint
    return (bits & u(carrier.sign_bit - 1)) - u(1) < u(carrier.infinity - 1)


def _special(bits: Array, carrier: Carrier) -> Array:
    """Return the entry of `SPECIALS` of patterns that are of no number."""
    u, i = carrier.uint, carrier.signed
    magnitude, infinity = bits & u(carrier.sign_bit - 1), u(carrier.infinity)
    infinite = i(1) + (bits >> u(carrier.width - 1)).astype(carrier.int_dtype)
    return select(magnitude == u(0), i(0), select(magnitude > infinity, i(3), infinite))


def _amax(bits: Array, is_number: Array, carrier: Carrier) -> Array:
    u = carrier.uint
    magnitude: Any = select(is_number, bits & u(carrier.sign_bit - 1), u(0))
    return bitcast(magnitude.max(initial=u(0)), carrier.float_dtype)
