"""What is kept of a tensor's blocks: exponents of their largest numbers, and numbers beside these.

In a block format of rule "floor" a number is rounded relative to the exponent of the largest number
of its block. So numbers are counted in the cells of `precsim.analysis.what_if.cells` by how many
binades they are below that exponent; and their energies are added up by the same, for the errors.
"""

from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np

from precsim._arrays import Array, bitcast, count_true, is_jax, namespace
from precsim._calls import has_jax
from precsim.analysis.what_if.cells import FIRST, Places, num_cells
from precsim.formats.carrier import FLOAT32, Carrier, floor_log2, select

BELOW = 48
"""Rows of the counts: numbers further below their block's exponent are in the last one."""

ENERGY_BELOW = 17
"""Rows of the energies."""

ENERGY_EXPONENTS = -63, 50
"""Energies are float32 powers of 4: smaller ones are lost, larger ones clipped."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockStatistics:
    """Counts of a tensor's values relative to their blocks. A JAX pytree; all arrays add.

    Parameters
    ----------
    counts : ndarray or jax.Array of int, shape (48, cells)
        Row n: numbers n binades below the exponent of their block's largest number.
    energies : ndarray or jax.Array of float, shape (17, 2048)
        Sums of 4**exponent, by the same rows and by the first ten bits of the significands.
    exponents : ndarray or jax.Array of int, shape (n,)
        Blocks by the exponent of their largest number, from `first_exponent` on.
    specials : ndarray or jax.Array of int, shape (4,)
        Blocks of zeros, blocks with NaN or infinity; of the latter the zeros and the finite
        numbers.
    block_size : int
        Elements of a block.
    first_exponent : int
        The smallest exponent of the carrier.

    Examples
    --------
    >>> import precsim as ps
    >>> stats = ps.errors.statistics([1.0, 0.25, 0.0, 0.0, 8.0, 6.0], block_size=2)
    >>> stats.blocks.specials.tolist()
    [1, 0, 0, 0]
    >>> stats.blocks.by_exponent()
    {0: 1, 3: 1}
    """

    counts: Array
    energies: Array
    exponents: Array
    specials: Array
    block_size: int
    first_exponent: int

    def __post_init__(self) -> None:
        """Make JAX know the class."""
        register(BlockStatistics, ("block_size", "first_exponent"))

    def by_exponent(self) -> dict[int, int]:
        """Return the number of blocks for each exponent of their largest number."""
        counts = np.asarray(self.exponents)
        return {int(n) + self.first_exponent: int(counts[n]) for n in np.flatnonzero(counts)}

    def merge(self, other: "BlockStatistics") -> "BlockStatistics":
        """Return the statistics of both tensors together."""
        if other.block_size != self.block_size:
            raise ValueError(
                f"other has blocks of {other.block_size}, these statistics of {self.block_size}; "
                "allowed is one size"
            )
        return BlockStatistics(
            counts=self.counts + other.counts,
            energies=self.energies + other.energies,
            exponents=self.exponents + other.exponents,
            specials=self.specials + other.specials,
            block_size=self.block_size,
            first_exponent=self.first_exponent,
        )


@cache
def register(kind: type, static: tuple[str, ...]) -> None:
    """Make a dataclass a JAX pytree when the first one is made, since loading JAX takes long."""
    if has_jax():
        import jax

        names = [each.name for each in fields(kind)]
        jax.tree_util.register_dataclass(
            kind, data_fields=[n for n in names if n not in static], meta_fields=static
        )


def to_blocks(x: Array, block_size: int, axis: int) -> Array:
    """Return the blocks along an axis, (blocks, block_size); zeros fill up the last of a row."""
    xp = namespace(x)
    x = xp.moveaxis(x, axis, -1)
    x = xp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % block_size)])
    return x.reshape(-1, block_size)


def of_blocks(bits: Array, at: Places, is_number: Array, carrier: Carrier) -> BlockStatistics:
    """Count patterns of shape (blocks, block_size), of which the places are known."""
    u, i, xp = carrier.uint, carrier.signed, namespace(bits)
    magnitude = bits & u(carrier.sign_bit - 1)
    is_special = magnitude >= u(carrier.infinity)
    is_lost = xp.any(is_special, axis=-1)
    amax: Any = select(is_lost[:, None], u(0), magnitude)
    amax = amax.max(axis=-1, initial=u(0))
    top = floor_log2(amax, carrier)
    is_counted = is_number & ~is_lost[:, None]
    below = select(is_counted, top[:, None] - at.exponent, i(0))
    cells, seen = i(2 * num_cells(carrier)), i(2 << FIRST)
    place = xp.minimum(below, i(BELOW - 1)) * cells + at.cell
    leading = xp.minimum(below, i(ENERGY_BELOW - 1)) * seen + at.leading
    is_block = amax != u(0)
    in_lost = is_lost[:, None] & ~is_special
    lost_zeros, lost_numbers = count_true(in_lost & ~is_number, in_lost & is_number)
    zero_blocks, lost_blocks = count_true(~is_block & ~is_lost, is_lost)
    return BlockStatistics(
        counts=_count(place, is_counted, (BELOW, int(cells))),
        energies=_add_energies(leading, at.exponent, is_counted, (ENERGY_BELOW, int(seen))),
        exponents=_count(top - i(carrier.lsb_min), is_block, (carrier.bias - carrier.lsb_min + 1,)),
        specials=xp.stack([zero_blocks, lost_blocks, lost_zeros, lost_numbers]),
        block_size=bits.shape[1],
        first_exponent=carrier.lsb_min,
    )


def _count(place: Array, is_counted: Array, shape: tuple[int, ...]) -> Array:
    """Count the places in a table."""
    size = int(np.prod(shape))
    place = select(is_counted, place, place.dtype.type(size)).reshape(-1)
    if not is_jax(place):
        return np.bincount(place, minlength=size + 1)[:-1].reshape(shape)
    import jax.numpy as jnp

    table = jnp.zeros(size + 1, np.int32).at[place].add(np.int32(1), mode="promise_in_bounds")
    return table[:-1].reshape(shape)


def _add_energies(
    place: Array, exponent: Array, is_counted: Array, shape: tuple[int, ...]
) -> Array:
    """Add 4**exponent at each place of a table."""
    size = int(np.prod(shape))
    least, most = map(exponent.dtype.type, ENERGY_EXPONENTS)
    double = namespace(place).minimum(exponent, most).astype(np.int32) * np.int32(2)
    pattern = ((double + np.int32(FLOAT32.bias)) << np.int32(FLOAT32.trailing)).astype(np.uint32)
    pattern = select(is_counted & (exponent >= least), pattern, FLOAT32.uint(0))
    energy, place = bitcast(pattern, np.float32).reshape(-1), place.reshape(-1)
    if not is_jax(place):
        return np.bincount(place, weights=energy, minlength=size).reshape(shape)
    import jax.numpy as jnp

    table = jnp.zeros(size, np.float32).at[place].add(energy, mode="promise_in_bounds")
    return table.reshape(shape)
