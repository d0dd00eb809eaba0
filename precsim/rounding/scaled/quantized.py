"""`Quantized`: the codes and scales of an array, and how they come from and go back to numbers."""

from dataclasses import dataclass

import numpy as np

from precsim._arrays import Array, bitcast
from precsim._calls import has_jax
from precsim.formats.affine import Granularity
from precsim.formats.block import BlockFormat
from precsim.formats.carrier import FLOAT32, FLOAT64, Carrier
from precsim.formats.codec import code_dtype, decode_bits, encode_bits
from precsim.formats.dynamic import DynamicFormat
from precsim.formats.scaled import ScaledFormat, scaled_format
from precsim.formats.tile import TileFormat
from precsim.rounding.scaled import affine, block, dynamic, grouping, tile
from precsim.rounding.spec import RoundingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """An array as the codes of a block, affine or tile format. A JAX pytree.

    Parameters
    ----------
    codes : ndarray or jax.Array of int, shape (...)
        Codes of the elements, in the shape of the array: uint8 to uint32 in block and tile formats;
        int8, int16, uint8 or uint16 in affine ones; uint8 in those of a table.
    scales : ndarray or jax.Array
        Block formats: codes of `format.scale` (uint8 or uint16). Others: numbers, in the dtype of
        the array. The shape is that of the array, except: along `axis` it has one
        entry per block (granularity "block"); it is 1 along all axes other than `axis` ("channel"),
        or 1 along all axes ("tensor"). Tiles have one entry each.
    tensor_scale : ndarray or jax.Array of float32, shape (), or None
        NVFP4: the scale of the whole array.
    zero_points : ndarray or jax.Array of int32, or None
        Affine formats: the zero points, in the shape of `scales`.
    format : BlockFormat, AffineFormat, TileFormat or that of a table
        What the codes mean.
    axis : int
        The axis along which the blocks run or the channels lie; negative, counted from the last
        axis.
    dtype : str
        "float32" or "float64", the carrier that `dequantize` returns.

    Examples
    --------
    >>> import precsim as ps
    >>> q = ps.quantize([1.0, 6.0, -3.0], "mxfp4")
    >>> q.codes.tolist(), q.scales.tolist(), q.shape
    ([2, 7, 13], [127], (3,))
    """

    codes: Array
    scales: Array
    tensor_scale: Array | None
    zero_points: Array | None
    format: ScaledFormat
    axis: int
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self.codes.shape)


if has_jax():
    import jax

    jax.tree_util.register_dataclass(
        Quantized,
        data_fields=["codes", "scales", "tensor_scale", "zero_points"],
        meta_fields=["format", "axis", "dtype"],
    )


def quantize_array(x: Array, random_bits: Array | None, spec: RoundingSpec, axis: int) -> Quantized:
    """Quantize an array of carrier values; `axis` is negative."""
    carrier = _carrier(str(x.dtype))
    fmt = scaled_format(spec.format)
    assert fmt is not None
    ndim, shape = x.ndim, x.shape
    groups = grouping.to_groups(bitcast(x, carrier.uint_dtype), fmt, axis)
    if random_bits is not None:
        random_bits = grouping.to_groups(random_bits, fmt, axis)
    tensor_scale = zero_points = None
    if isinstance(fmt, BlockFormat):
        blocks = block.quantize_blocks(groups, random_bits, spec, carrier)
        codes, scales = blocks.codes, blocks.scales
        if blocks.tensor_scale is not None:
            tensor_scale = bitcast(blocks.tensor_scale, np.float32)
    elif isinstance(fmt, TileFormat):
        tiles = tile.round_tiles(groups, random_bits, spec, carrier)
        codes = encode_bits(tiles.elements, fmt.element, carrier).astype(code_dtype(fmt.element))
        scales = bitcast(tiles.scales, carrier.float_dtype)
    elif isinstance(fmt, DynamicFormat):
        found = dynamic.quantize_blocks(groups, spec, carrier)
        codes, scales = found.codes, bitcast(found.scales, carrier.float_dtype)
    else:
        quantized = affine.quantize_groups(groups, random_bits, spec, carrier)
        codes, scales = quantized.codes, bitcast(quantized.scales, carrier.float_dtype)
        zero_points = grouping.scales_to_array(quantized.zero_points, fmt, axis, ndim)
    return Quantized(
        codes=grouping.from_groups(codes, fmt, axis, shape),
        scales=grouping.scales_to_array(scales, fmt, axis, ndim),
        tensor_scale=tensor_scale,
        zero_points=zero_points,
        format=fmt,
        axis=axis,
        dtype=carrier.name,
    )


def dequantize_array(q: Quantized) -> Array:
    """Return the numbers that codes and scales stand for."""
    carrier, fmt = _carrier(q.dtype), q.format
    codes, scales, zero_points = q.codes, q.scales, q.zero_points
    in_blocks = grouping.granularity(fmt) is Granularity.BLOCK
    # Scales of channels and tensors broadcast to the codes as they are, whatever axes were added.
    if in_blocks:
        codes = grouping.to_groups(codes, fmt, q.axis)
        scales = grouping.blocks_of_scales(scales, fmt, q.axis)
        if zero_points is not None:
            zero_points = grouping.blocks_of_scales(zero_points, fmt, q.axis)
    if isinstance(fmt, BlockFormat):
        tensor_scale = q.tensor_scale
        if tensor_scale is not None:
            added = tensor_scale.shape
            tensor_scale = bitcast(tensor_scale, np.uint32)
            tensor_scale = tensor_scale.reshape(added + (1,) * (codes.ndim - len(added)))
        bits = block.dequantize_blocks(block.Blocks(codes, scales, tensor_scale), fmt, carrier)
    elif isinstance(fmt, TileFormat):
        elements = decode_bits(codes.astype(carrier.uint_dtype), fmt.element, carrier)
        bits = tile.times_scales(elements, bitcast(scales, carrier.uint_dtype), carrier)
    elif isinstance(fmt, DynamicFormat):
        patterns = bitcast(scales, carrier.uint_dtype)
        bits = dynamic.dequantize_blocks(codes, patterns, fmt, carrier)
    else:
        assert zero_points is not None
        patterns = bitcast(scales, carrier.uint_dtype)
        bits = affine.dequantize_groups(affine.Groups(codes, patterns, zero_points), carrier)
    if in_blocks:
        bits = grouping.from_groups(bits, fmt, q.axis, q.shape)
    return bitcast(bits, carrier.float_dtype)


def _carrier(dtype: str) -> Carrier:
    return FLOAT32 if dtype == FLOAT32.name else FLOAT64
