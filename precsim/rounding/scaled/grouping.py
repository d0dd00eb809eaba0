"""How an array is cut into the groups of elements that share a scale.

Groups come last, as (..., groups, group_size). Blocks run along an axis, the last one filled up
with zeros (as cuBLAS has it); a channel is all that has one index along the axis; a tensor is one
group. The vectors of a tile run along the axis too, and lie side by side along the last other axis;
a block of several vectors is such a tile.
"""

import math

from precsim._arrays import Array, namespace
from precsim.formats.affine import AffineFormat, Granularity
from precsim.formats.block import BlockFormat
from precsim.formats.scaled import ScaledFormat
from precsim.formats.tile import TileFormat


def granularity(fmt: ScaledFormat) -> Granularity:
    """Return which elements share a scale; block formats have blocks, and so have tiles."""
    if isinstance(fmt, AffineFormat):
        return fmt.granularity
    is_whole = isinstance(fmt, TileFormat) and fmt.across is None
    return Granularity.TENSOR if is_whole else Granularity.BLOCK


def _tile_of(fmt: ScaledFormat) -> tuple[int, int | None] | None:
    """Return how many vectors, and how many elements of each, a tile has; None without tiles."""
    if isinstance(fmt, BlockFormat) and fmt.across > 1:
        return fmt.across, fmt.block_size
    if isinstance(fmt, TileFormat) and fmt.across is not None:
        return fmt.across, fmt.along
    return None


def to_tiles(x: Array, across: int, along: int | None) -> Array:
    """Cut (..., vectors, elements) into tiles: (..., tiles, tiles, across * along)."""
    along = along or max(x.shape[-1], 1)
    fill = [(0, -x.shape[-2] % across), (0, -x.shape[-1] % along)]
    x = namespace(x).pad(x, [(0, 0)] * (x.ndim - 2) + fill)
    *batch, rows, columns = x.shape
    x = x.reshape(*batch, rows // across, across, columns // along, along)
    x = namespace(x).moveaxis(x, -3, -2)
    return x.reshape(*x.shape[:-2], across * along)


def from_tiles(tiles: Array, across: int, shape: tuple[int, ...]) -> Array:
    """Return the array (..., vectors, elements) of a shape from its tiles."""
    *batch, rows, columns, size = tiles.shape
    x = tiles.reshape(*batch, rows, columns, across, size // across)
    x = namespace(x).moveaxis(x, -3, -2)
    x = x.reshape(*batch, rows * across, columns * (size // across))
    return x[..., : shape[-2], : shape[-1]]


def vectors(x: Array, axis: int) -> Array:
    """Return an array with the vectors of its tiles last, (..., vectors, elements)."""
    if x.ndim == 1:
        return x[None]
    return namespace(x).moveaxis(x, (_other(axis), axis), (-2, -1))


def from_vectors(x: Array, axis: int, ndim: int) -> Array:
    """Undo `vectors`."""
    if ndim == 1:
        return x[0]
    return namespace(x).moveaxis(x, (-2, -1), (_other(axis), axis))


def _other(axis: int) -> int:
    return -2 if axis == -1 else -1


def to_groups(x: Array, fmt: ScaledFormat, axis: int) -> Array:
    """Return the elements of an array by groups."""
    xp = namespace(x)
    if (sides := _tile_of(fmt)) is not None:
        return to_tiles(vectors(x, axis), *sides)
    match granularity(fmt):
        case Granularity.TENSOR:
            return x.reshape(1, x.size)
        case Granularity.CHANNEL:
            channels = x.shape[axis]
            others = math.prod(x.shape) // channels if channels else 0
            return xp.moveaxis(x, axis, 0).reshape(channels, others)
        case Granularity.BLOCK:
            assert not isinstance(fmt, TileFormat)
            size = fmt.block_size or 1
            x = xp.moveaxis(x, axis, -1)
            missing = -x.shape[-1] % size
            x = xp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])
            return x.reshape(*x.shape[:-1], x.shape[-1] // size, size)


def from_groups(groups: Array, fmt: ScaledFormat, axis: int, shape: tuple[int, ...]) -> Array:
    """Return the array of a shape from its elements by groups."""
    xp = namespace(groups)
    if (sides := _tile_of(fmt)) is not None:
        laid = (1, *shape) if len(shape) == 1 else (shape[_other(axis)], shape[axis])
        return from_vectors(from_tiles(groups, sides[0], laid), axis, len(shape))
    axis %= len(shape) or 1
    match granularity(fmt):
        case Granularity.TENSOR:
            return groups.reshape(shape)
        case Granularity.CHANNEL:
            others = shape[:axis] + shape[axis + 1 :]
            return xp.moveaxis(groups.reshape(shape[axis], *others), 0, axis)
        case Granularity.BLOCK:
            *leading, count, size = groups.shape
            rows = groups.reshape(*leading, count * size)[..., : shape[axis]]
            return xp.moveaxis(rows, -1, axis)


def scales_to_array(scales: Array, fmt: ScaledFormat, axis: int, ndim: int) -> Array:
    """Lay out one number per group along the axes of the array."""
    if _tile_of(fmt) is not None:
        return from_vectors(scales, axis, ndim)
    match granularity(fmt):
        case Granularity.TENSOR:
            return scales.reshape((1,) * ndim)
        case Granularity.CHANNEL:
            shape = [1] * ndim
            shape[axis] = scales.shape[0]
            return scales.reshape(shape)
        case Granularity.BLOCK:
            return namespace(scales).moveaxis(scales, -1, axis)


def blocks_of_scales(scales: Array, fmt: ScaledFormat, axis: int) -> Array:
    """Return the scales of blocks, (..., blocks, 1), beside which `to_groups` puts the elements."""
    if _tile_of(fmt) is not None:
        return vectors(scales, axis)[..., None]
    return namespace(scales).moveaxis(scales, axis, -1)[..., None]


def go_together(
    shape: tuple[int, ...], scales: tuple[int, ...], fmt: ScaledFormat, axis: int
) -> bool:
    """Return whether an array of one shape may have scales of the other; `axis` is negative.

    Both may have any number of axes more in front, which `jax.vmap` added.
    """
    if len(shape) != len(scales) or -axis > len(shape):
        return False
    if granularity(fmt) is not Granularity.BLOCK:
        return all(n in (1, size) for n, size in zip(scales, shape, strict=True))
    expected = list(shape)
    if (sides := _tile_of(fmt)) is not None:
        across, along = sides
        expected[axis] = -(-shape[axis] // (along or max(shape[axis], 1)))
        if len(shape) > 1:
            expected[_other(axis)] = -(-shape[_other(axis)] // across)
    else:
        assert not isinstance(fmt, TileFormat)
        expected[axis] = -(-shape[axis] // (fmt.block_size or 1))
    return scales == tuple(expected)
