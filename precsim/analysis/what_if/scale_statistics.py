"""What the scales of a block format are for a tensor, and how far its blocks peak."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from precsim._arrays import Array, ArrayLike, is_traced
from precsim.formats.arguments import axis_of
from precsim.formats.block import BlockFormat
from precsim.formats.carrier import as_carrier
from precsim.formats.codec import decode
from precsim.formats.registry import AnyFormat, get_format
from precsim.rounding.scaled.grouping import to_groups


@dataclass(frozen=True, kw_only=True, eq=False)
class ScaleStatistics:
    """The scales of a tensor's blocks, and how far its blocks peak.

    Blocks are in the order of the array with the axis of the blocks last.

    Parameters
    ----------
    format : BlockFormat
        With the rule of the scales.
    codes : ndarray, shape (blocks,)
        Codes of the scales.
    scales : ndarray, shape (blocks,)
        Their values; NaN where a block has a NaN or an infinity.
    tensor_scale : float, optional
        NVFP4: the scale of the whole tensor, beside those of the blocks.
    amax : ndarray, shape (blocks,)
        Largest magnitudes.
    crest : ndarray, shape (blocks,)
        Crest factors, largest magnitude / root mean square: 1 if all magnitudes of a block are
        equal, the root of the block size if all but one are 0, NaN for a block of zeros.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> x = np.float32([1.0, 6.0] + [0.0] * 14 + [1e-9] * 16)
    >>> scales = ps.errors.scale_statistics(x, "nvfp4")
    >>> scales.scales.tolist(), scales.at_largest, scales.at_smallest
    ([448.0, 0.0], 1, 1)
    """

    format: BlockFormat
    codes: np.ndarray
    scales: np.ndarray
    tensor_scale: float | None
    amax: np.ndarray
    crest: np.ndarray

    @property
    def counts(self) -> dict[float, int]:
        """How many blocks have each scale, from the smallest on; lost blocks are left out."""
        values, counts = np.unique(self.scales[~np.isnan(self.scales)], return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))

    @property
    def at_largest(self) -> int:
        """Blocks whose scale is the largest of its format."""
        return int(np.sum(self.scales == self.format.scale.max_finite))

    @property
    def at_smallest(self) -> int:
        """Blocks, not all zeros, whose scale is 0 or the smallest of its format."""
        return int(np.sum((self.scales <= self.format.scale.min_subnormal) & (self.amax > 0)))

    @property
    def zero_blocks(self) -> int:
        """Blocks of zeros."""
        return int(np.sum(self.amax == 0))

    @property
    def lost_blocks(self) -> int:
        """Blocks that a NaN or an infinity made NaN."""
        return int(np.sum(np.isnan(self.scales)))


def scale_statistics(x: ArrayLike, fmt: str | AnyFormat, *, axis: int = -1) -> ScaleStatistics:
    """Quantize a tensor and return what its scales are.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64.
    fmt : str or BlockFormat
        A block format, for example "mxfp8_e4m3" or "nvfp4".
    axis : int
        The axis along which blocks run.

    Returns
    -------
    ScaleStatistics
        Codes and values of the scales; largest magnitude and crest factor of each block.

    Raises
    ------
    ValueError
        If `fmt` is no block format, or the carrier cannot hold it.
    TypeError
        If `x` is of another dtype, or traced.

    Notes
    -----
    Special values: a block with NaN or infinity has the scale NaN, amax NaN or infinity, and the
    crest factor NaN. The zeros that fill up the last block of a row count in no crest factor.
    Scales are exact; crest factors are float64, with a relative error of some 1e-15.

    Examples
    --------
    >>> import precsim as ps
    >>> scales = ps.errors.scale_statistics([[1.0, -3.0], [0.0, 40.0]], "mxfp4")
    >>> scales.counts, scales.amax.tolist()
    ({0.5: 1, 8.0: 1}, [3.0, 40.0])
    >>> scales.crest.round(2).tolist()
    [1.34, 1.41]
    """
    from precsim.rounding.scaled.quantize import quantize  # which loads JAX

    fmt = _block_format(fmt)
    if is_traced(x):
        raise TypeError("x is a value that JAX traces; allowed is its use outside of jax.jit")
    x = np.asarray(as_carrier(x)[0])
    axis = axis_of(axis, x.shape)
    quantized = quantize(x, fmt, axis=axis)
    codes = np.moveaxis(np.asarray(quantized.scales), axis, -1)
    tensor_scale: Any = quantized.tensor_scale
    magnitude = np.abs(_in_blocks(x, fmt, axis).astype(np.float64))
    amax = magnitude.max(axis=-1, initial=0.0)
    elements = _in_blocks(np.ones(x.shape, np.float32), fmt, axis).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        square = np.square(magnitude / amax[:, None]).sum(axis=-1) / elements
    return ScaleStatistics(
        format=fmt,
        codes=codes.reshape(-1),
        scales=np.asarray(decode(codes.reshape(-1), fmt.scale), np.float64),
        tensor_scale=None if tensor_scale is None else float(tensor_scale),
        amax=amax,
        crest=1 / np.sqrt(square),
    )


def _in_blocks(x: Array, fmt: BlockFormat, axis: int) -> Array:
    """Return the blocks, (blocks, elements); zeros fill up those at the ends."""
    groups = to_groups(x, fmt, axis)
    return groups.reshape(-1, groups.shape[-1])


def _block_format(fmt: str | AnyFormat) -> BlockFormat:
    found = get_format(fmt)
    if isinstance(found, BlockFormat):
        return found
    raise ValueError(f"fmt is {found}; allowed are block formats, for example 'mxfp4'")
