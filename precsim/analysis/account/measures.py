"""What is measured of operations: their own error, the inherited one, what left the range.

All operations of a program are measured at once: their numbers lie one after the other in one
array, so that the compiler meets each measure once and not once an operation.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array, bitcast
from precsim.formats.fixed_point import FixedPointFormat
from precsim.transform.values import Format

SUMMED = (
    *("error2", "size2", "inherited2", "total2", "exact2"),
    *("underflowed", "subnormal", "overflowed", "saturated", "nan", "not_finite", "differing"),
)
LARGEST = ("max_relative", "max_ulps")
FIELDS = (*SUMMED, *LARGEST)
_BLOCK = 256
"""Numbers that are summed together; an operation has a whole number of such blocks."""

_AT_A_TIME = 128
"""Blocks that are measured at a time, so that what lies between fits in a cache."""


class Item(NamedTuple):
    """A result to be measured."""

    key: str
    """Of the operation."""
    emulated: Any
    local: Any
    """The exact result for the emulated operands."""
    exact: Any
    """The result of the exact program."""
    format: Format | None
    """To which it was rounded; None: it was only compared or chosen."""


def over_turns(found: Array) -> Array:
    """Return the measures of all turns of a loop together."""
    count = len(SUMMED)
    return jnp.concatenate([found[..., :count].sum(0), found[..., count:].max(0, initial=0)], -1)


def error_of(emulated: Array, local: Array) -> Array:
    """Return what an operation errs by; 0 where one of the numbers is not finite."""
    both = jnp.isfinite(emulated) & jnp.isfinite(local)
    return jnp.where(both, emulated - local, jnp.zeros((), local.dtype))


def distance(results: list[Any], emulated: list[Any], exact: list[Any]) -> Array:
    """Return how far results are from the exact ones, along the error of the emulated ones.

    That is infinite where a number of the exact results has become infinite or NaN.
    """
    steps = [error_of(x, y) for x, y in zip(emulated, exact, strict=True)]
    size = jnp.sqrt(sum(jnp.sum(jnp.abs(s) ** 2) for s in steps))
    unit = jnp.where(size > 0, size, 1)
    every = zip(steps, results, exact, strict=True)
    parts = [jnp.sum((jnp.conj(s) * error_of(x, y)).real) for s, x, y in every]
    pairs = zip(results, exact, strict=True)
    lost = [jnp.any(jnp.isfinite(y) & ~jnp.isfinite(x)) for x, y in pairs]
    return jnp.where(jnp.any(jnp.stack(lost)), jnp.inf, sum(parts[1:], parts[0]) / unit)


def by_size(items: list[Item]) -> list[Item]:
    """Return results in an order in which those of as many blocks follow each other."""
    return sorted(items, key=_blocks)


def measured(items: list[Item], dtype: Any) -> Array:
    """Return the measures of some results, shape (results, fields); they are sorted by size."""
    if not items:
        return jnp.zeros((0, len(FIELDS)), dtype)
    blocks = np.array([_blocks(item) for item in items])
    count = int(blocks.sum())
    added = -count % _AT_A_TIME if count > _AT_A_TIME else 0
    of_block = np.pad(np.repeat(np.arange(len(items)), blocks), (0, added), mode="edge")
    ends = np.stack([_ends(item.format) for item in items])
    with np.errstate(over="ignore"):  # of float32, if that is the reference
        ends = np.maximum(ends, [0, 0, 0, 0, np.finfo(dtype).tiny / ends.min(0)[3], 0])
    is_choice = np.array([item.format is None for item in items])
    arrays = [_joined([x[n] for x in items], dtype, added) for n in (1, 2, 3)]
    arrays += [jnp.asarray(ends.astype(dtype)[of_block]), jnp.asarray(is_choice[of_block])]
    if count <= _AT_A_TIME:
        found = _of_blocks(*arrays)
    else:
        parts = [x.reshape(-1, _AT_A_TIME, *x.shape[1:]) for x in arrays]
        found = jax.lax.map(lambda part: _of_blocks(*part), parts)
        found = found.reshape(-1, len(FIELDS))[:count]
    return jnp.concatenate(list(_by_result(found, blocks)))


def _of_blocks(emulated: Array, local: Array, exact: Array, ends: Array, is_choice: Array) -> Array:
    """Return the measures of blocks of numbers, shape (blocks, fields)."""
    least, largest, beyond, ulp, smallest, top = (ends[:, n, None] for n in range(6))
    error = error_of(emulated, local)
    size, was = jnp.abs(emulated), jnp.abs(local)
    squares = [
        error * error,
        _finite_square(local),
        error_of(local, exact) ** 2,
        error_of(emulated, exact) ** 2,
        _finite_square(exact),
    ]
    differs = (emulated != exact) & ~(jnp.isnan(emulated) & jnp.isnan(exact))
    events = [
        (size == 0) & (was > 0) & (was < least),
        (size > 0) & (size < least) & (top == jnp.inf),
        jnp.isfinite(local) & (size == jnp.inf),
        (was >= beyond) & (size <= largest),
        jnp.isnan(emulated) & ~jnp.isnan(local),
        ~(size < jnp.inf) & jnp.isfinite(exact),
        differs & is_choice[:, None],
    ]
    maxima = [
        jnp.where(was > 0, jnp.abs(error) / jnp.where(was > 0, was, 1), 0),
        jnp.abs(error) / (jnp.clip(_power_below(local), smallest, top) * ulp),
    ]
    counts, largest_ones = _counted(events, maxima)
    added = [*(x.sum(1) for x in squares), *(x.astype(emulated.dtype) for x in counts)]
    return jnp.stack([*added, *largest_ones], -1)


def _by_result(found: Array, blocks: np.ndarray) -> Iterator[Array]:
    """Yield the measures of results, as many as have the same number of blocks at a time."""
    start = 0
    for count, results in zip(*np.unique(blocks, return_counts=True), strict=True):
        end = start + count * results
        yield over_turns(jnp.swapaxes(found[start:end].reshape(results, count, len(FIELDS)), 0, 1))
        start = end


def _counted(events: Sequence[Array], numbers: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """Return how many there are of each event, and the largest numbers, of each row.

    They are the same in any order, so one pass finds all; sums of squares are not.
    """
    every = [*(x.astype(np.int32) for x in events), *numbers]
    count = len(events)

    def joined(x: Sequence[Array], y: Sequence[Array]) -> list[Array]:
        combine = [jnp.add] * count + [jnp.maximum] * len(numbers)
        return [both(a, b) for both, a, b in zip(combine, x, y, strict=True)]

    found = jax.lax.reduce(every, [np.zeros((), x.dtype) for x in every], joined, (1,))
    return found[:count], found[count:]


def _blocks(item: Item) -> int:
    """Return how many blocks a result has."""
    numbers = item.emulated.size * (1 + jnp.issubdtype(item.emulated.dtype, jnp.complexfloating))
    return int(-(-numbers // _BLOCK))


def _joined(arrays: Sequence[Any], dtype: Any, added: int) -> Array:
    """Return arrays as rows of blocks, each filled up with zeros, and some blocks more."""
    parts: list[Array] = []
    for x in arrays:
        is_complex = jnp.issubdtype(x.dtype, jnp.complexfloating)
        flat = jnp.ravel(jnp.stack([x.real, x.imag]) if is_complex else x).astype(dtype)
        parts += [flat, jnp.zeros(-flat.size % _BLOCK, dtype)]
    return jnp.concatenate([*parts, jnp.zeros(added * _BLOCK, dtype)]).reshape(-1, _BLOCK)


def _finite_square(x: Array) -> Array:
    return jnp.where(jnp.isfinite(x), x * x, 0)


def _power_below(x: Array) -> Array:
    """Return the largest power of two that is not above the magnitude of a number."""
    limits = np.finfo(x.dtype)
    uint = np.dtype(f"uint{limits.bits}").type
    return bitcast(bitcast(x, uint) & uint((2**limits.nexp - 1) << limits.nmant), x.dtype)


def _ends(fmt: Format | None) -> np.ndarray:
    """Return what tells the events of a format.

    These are the least normal number (of fixed point, the step), the largest number, what rounds to
    more than that, an ulp of the numbers from 1 to 2, and the powers of two below and above which
    ulps stay the same.
    """
    inf = np.inf
    if fmt is None:
        return np.array([0.0, inf, inf, 1.0, 1.0, inf])
    if isinstance(fmt, FixedPointFormat):
        step = 2.0**-fmt.fraction_bits
        largest = 2.0**fmt.integer_bits - step
        return np.array([step, largest, largest + step / 2, step, 1.0, 1.0])
    ulp = 2.0 ** (1 - fmt.precision)
    if fmt.exponent_bits is None:
        return np.array([0.0, inf, inf, ulp, 2.0**-1000, inf])
    half = 2.0 ** (fmt.emax - fmt.precision) if fmt.emax < 1023 else inf
    least, largest = fmt.min_normal, fmt.max_finite
    return np.array([least, largest, largest + half, ulp, least, inf])
