"""How an array is cut into the groups of elements that share a scale.

Groups come last, as (..., groups, group_size). Blocks run along an axis, the last one filled up
with zeros (as cuBLAS has it); a channel is all that has one index along the axis; a tensor is one
group.
"""

import math

from precsim._arrays import Array, namespace
from precsim.formats.affine import AffineFormat, Granularity
from precsim.formats.scaled import ScaledFormat


def granularity(fmt: ScaledFormat) -> Granularity:
    """Return which elements share a scale; block formats have blocks."""
    return fmt.granularity if isinstance(fmt, AffineFormat) else Granularity.BLOCK


def to_groups(x: Array, fmt: ScaledFormat, axis: int) -> Array:
    """Return the elements of an array by groups."""
    xp = namespace(x)
    match granularity(fmt):
        case Granularity.TENSOR:
            return x.reshape(1, x.size)
        case Granularity.CHANNEL:
            channels = x.shape[axis]
            others = math.prod(x.shape) // channels if channels else 0
            return xp.moveaxis(x, axis, 0).reshape(channels, others)
        case Granularity.BLOCK:
            size = fmt.block_size or 1
            x = xp.moveaxis(x, axis, -1)
            missing = -x.shape[-1] % size
            x = xp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])
            return x.reshape(*x.shape[:-1], x.shape[-1] // size, size)


def from_groups(groups: Array, fmt: ScaledFormat, axis: int, shape: tuple[int, ...]) -> Array:
    """Return the array of a shape from its elements by groups."""
    xp = namespace(groups)
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
    match granularity(fmt):
        case Granularity.TENSOR:
            return scales.reshape((1,) * ndim)
        case Granularity.CHANNEL:
            shape = [1] * ndim
            shape[axis] = scales.shape[0]
            return scales.reshape(shape)
        case Granularity.BLOCK:
            return namespace(scales).moveaxis(scales, -1, axis)


def blocks_of_scales(scales: Array, axis: int) -> Array:
    """Return the scales of blocks, (..., blocks, 1), beside which `to_groups` puts the elements."""
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
    expected[axis] = -(-shape[axis] // (fmt.block_size or 1))
    return scales == tuple(expected)
