"""An operand with scales: the elements that are multiplied, and what their sums are scaled by."""

from typing import NamedTuple

import numpy as np

from precsim._arrays import Array, bitcast, namespace
from precsim._loops import computed_once, traced_once
from precsim.formats.affine import AffineFormat
from precsim.formats.block import BlockFormat
from precsim.formats.carrier import Carrier, as_carrier
from precsim.formats.scaled import scaled_format
from precsim.formats.tile import TileFormat
from precsim.products.specs.scaling import Scaling, scaling_of
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.scaled import affine, block, grouping, tile
from precsim.rounding.scaled.scale import Scale, with_scale
from precsim.rounding.spec import RoundingSpec


class Scaled(NamedTuple):
    """Elements as numbers of the carrier, or as integers; scales for each stretch of K.

    Both have the vectors of the operand first and K last: rows of the left operand, columns of the
    right one.
    """

    elements: Array
    """(..., vectors, K)."""
    scales: Array | None
    """(..., vectors or 1, stretches or 1) float32; None where there are none."""


@traced_once("rounding", "as_integers", "stretch")
def scaled_operand(
    x: Array,
    rounding: RoundingSpec | None,
    given: Scale | None,
    *,
    as_integers: bool,
    stretch: int | None,
    random_bits: Array | None = None,
) -> Scaled:
    """Quantize an operand whose K is last; `stretch` products in a row have the same scales.

    `given`: the scale of the whole array, which is chosen from it otherwise.
    """
    if rounding is None:
        return Scaled(x, None)
    fmt = scaled_format(rounding.format)
    if fmt is None:
        return Scaled(round_array(x, random_bits, rounding), None)
    if isinstance(fmt, BlockFormat):
        return _times_block_scales(x, random_bits, rounding, fmt)
    scaling = scaling_of(rounding)
    assert scaling is not None
    carrier = as_carrier(x)[1]
    if given is not None:
        elements, scales = with_scale(x, rounding, given, random_bits)
        if not as_integers:
            elements = elements.astype(carrier.float_dtype)
        return Scaled(elements, scales.reshape((1,) * x.ndim))
    groups = _to_groups(bitcast(x, carrier.uint_dtype), scaling)
    bits = None if random_bits is None else _to_groups(random_bits, scaling)
    if isinstance(fmt, TileFormat):
        tiles = tile.round_tiles(groups, bits, rounding, carrier)
        elements, patterns = bitcast(tiles.elements, carrier.float_dtype), tiles.scales
    else:
        assert isinstance(fmt, AffineFormat)
        elements, patterns = _codes(groups, bits, rounding, fmt, carrier)
        if not as_integers:
            elements = elements.astype(carrier.float_dtype)
    elements, patterns = computed_once(elements), computed_once(patterns)
    scales = bitcast(patterns, carrier.float_dtype)
    return Scaled(
        _from_groups(elements, scaling, x.shape), _spread(scales, scaling, x.shape, stretch)
    )


def _times_block_scales(
    x: Array, random_bits: Array | None, rounding: RoundingSpec, fmt: BlockFormat
) -> Scaled:
    """Return elements times the scales of their blocks, and the scale of the array, if any."""
    carrier = as_carrier(x)[1]
    groups = grouping.to_groups(bitcast(x, carrier.uint_dtype), fmt, -1)
    bits = None if random_bits is None else grouping.to_groups(random_bits, fmt, -1)
    elements, scales, whole = block.round_blocks(groups, bits, rounding, carrier)
    elements, scales = computed_once(elements), computed_once(scales)[..., None]
    values = computed_once(block.values_of(block.Rounded(elements, scales, None), fmt, carrier))
    values = bitcast(grouping.from_groups(values, fmt, -1, x.shape), carrier.float_dtype)
    if whole is None:
        return Scaled(values, None)
    return Scaled(values, bitcast(whole, carrier.float_dtype).reshape((1,) * x.ndim))


def _codes(
    groups: Array, bits: Array | None, rounding: RoundingSpec, fmt: AffineFormat, carrier: Carrier
) -> tuple[Array, Array]:
    """Return codes minus zero points, int32, and the patterns of scales."""
    quantized = affine.quantize_groups(groups, bits, rounding, carrier)
    steps = quantized.codes.astype(np.int32) - quantized.zero_points[..., None]
    return steps, quantized.scales


def _to_groups(x: Array, scaling: Scaling) -> Array:
    """Cut (..., vectors, K) into groups with one scale: (..., groups, elements)."""
    if scaling.across is None:
        return x.reshape(1, x.size)
    return grouping.to_tiles(x, scaling.across, scaling.along)


def _from_groups(groups: Array, scaling: Scaling, shape: tuple[int, ...]) -> Array:
    if scaling.across is None:
        return groups.reshape(shape)
    return grouping.from_tiles(groups, scaling.across, shape)


def _spread(scales: Array, scaling: Scaling, shape: tuple[int, ...], stretch: int | None) -> Array:
    """Return one scale per vector and stretch, or 1 where all have the same."""
    if scaling.across is None:
        return scales.reshape((1,) * len(shape))
    xp = namespace(scales)
    if scaling.across > 1:
        scales = xp.repeat(scales, scaling.across, axis=-2)[..., : shape[-2], :]
    if scaling.along is not None and stretch is not None and scaling.along > stretch:
        count = -(-shape[-1] // stretch)
        scales = xp.repeat(scales, scaling.along // stretch, axis=-1)[..., :count]
    return scales
