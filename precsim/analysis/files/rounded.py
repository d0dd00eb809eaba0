"""What a rounding does to pieces of a tensor: rounded numbers, and a byte of range events each."""

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from precsim._arrays import Array
from precsim._calls import call, call_elementwise
from precsim.analysis.files.extent import Extent, numbers_of_codes
from precsim.formats.affine import AffineFormat, Granularity
from precsim.formats.block import BlockFormat
from precsim.formats.dynamic import DynamicFormat
from precsim.formats.scaled import ScaledFormat, scaled_format
from precsim.formats.tile import TileFormat
from precsim.rounding.events import Events, classify
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.scaled import grouping
from precsim.rounding.scaled.measures import classify_scaled
from precsim.rounding.scaled.quantized import dequantize_array, quantize_array
from precsim.rounding.spec import RoundingSpec

EVENTS: tuple[str, ...] = ("underflowed", "subnormal", "overflowed", "saturated")
"""The events of a byte, from its lowest bit on."""

_GROUPED = 1 << 17
"""Numbers that a block or affine format rounds at a time."""

_LENGTH = 1 << 10
"""Numbers of a row, where one scale is that of the whole tensor."""

_SPECIALS = 5
"""Numbers at the end of such a row: lowest, highest, NaN and both infinities, as far as occurring.

They give each row the scale that the whole tensor has."""


class Rounded(NamedTuple):
    """Numbers before and after a rounding, and a byte of events for each; flat.

    There may be more numbers than events: zeros that fill up the last block of a row.
    """

    before: np.ndarray
    after: np.ndarray
    events: np.ndarray


def round_numbers(x: np.ndarray, spec: RoundingSpec) -> Rounded:
    """Round to a format of single numbers."""
    after, events = call_elementwise(_rounded, spec, x.reshape(-1))
    return Rounded(x.reshape(-1), np.asarray(after), np.asarray(events))


def _rounded(spec: RoundingSpec, x: Array) -> tuple[Array, Array]:
    after = round_array(x, None, spec)
    return after, _byte(classify(x, after, spec)).reshape(x.shape)


def _byte(events: Events) -> Array:
    """Return a byte for each element, with one bit for each event."""
    bits = [mask.astype(np.uint8) * np.uint8(1 << k) for k, mask in enumerate(event_masks(events))]
    return bits[0] | bits[1] | bits[2] | bits[3]


def event_masks(events: Events) -> list[Array]:
    """Return which elements each of `EVENTS` happened to."""
    return [getattr(events, name) for name in EVENTS]


@lru_cache(maxsize=64)
def rounded_codes(dtype: Any, spec: RoundingSpec, exponent: int, wide: bool) -> Rounded:
    """Round the number of every code of a dtype, times ``2**exponent``."""
    return round_numbers(times_power(numbers_of_codes(dtype), exponent, wide=wide), spec)


def times_power(x: np.ndarray, exponent: int, *, wide: bool) -> np.ndarray:
    """Return ``x * 2**exponent``, in float64 on request."""
    with np.errstate(over="ignore", invalid="ignore"):  # codes that no tensor has; NaN
        x = x.astype(np.float64) if wide else x
        if abs(exponent) < -np.finfo(x.dtype).minexp:  # `ldexp` takes ten times as long
            return np.multiply(x, x.dtype.type(2.0**exponent)) if exponent else x
        scaled: np.ndarray = np.ldexp(x, exponent)
        return scaled


def round_groups(x: np.ndarray, spec: RoundingSpec, extent: Extent, amax: float) -> Rounded:
    """Round a piece of a tensor to a format whose elements share scales.

    `x` has the shape (batch, rows, elements), `extent` is that of the tensor, `amax` is what a
    scale of the tensor is chosen by. Blocks and tiles are whole in a piece; a tensor's scale is
    that of the whole tensor, bit for bit.
    """
    fmt = scaled_format(spec.format)
    assert fmt is not None
    if grouping.granularity(fmt) is Granularity.TENSOR:
        groups = _in_rows(x)
        ends = np.asarray(_ends(extent), x.dtype)
        ends = np.broadcast_to(ends, (len(groups), _SPECIALS))
        shape, count = groups.shape, x.size
        groups = np.concatenate([groups, ends], axis=1)
    else:
        in_blocks = np.asarray(grouping.to_groups(x, fmt, -1))
        shape = in_blocks.shape
        groups = in_blocks.reshape(-1, shape[-1])
    spec, axis = replace(spec, format=_of_rows(fmt)), 0 if isinstance(fmt, AffineFormat) else -1
    after, events = _round_rows(groups, spec, axis, amax)
    if grouping.granularity(fmt) is Granularity.TENSOR:
        width = shape[1]
        return Rounded(
            groups[:, :width].reshape(-1),
            after[:, :width].reshape(-1),
            events[:, :width].reshape(-1)[:count],
        )
    kept = np.asarray(grouping.from_groups(events.reshape(shape), fmt, -1, x.shape))
    return Rounded(groups.reshape(-1), after.reshape(-1), kept.reshape(-1))


def _round_rows(
    groups: np.ndarray, spec: RoundingSpec, axis: int, amax: float
) -> tuple[np.ndarray, np.ndarray]:
    """Round rows, each of which has its own scale, as many at a time as a compilation is for."""
    after, events = np.empty_like(groups), np.empty(groups.shape, np.uint8)
    fmt, length = spec.format, groups.shape[1]
    first = np.zeros((1, length), groups.dtype)  # a block that has the largest number of the tensor
    first[0, 0] = amax
    extra = int(isinstance(fmt, BlockFormat) and fmt.tensor_scale is not None)
    most = max(_GROUPED // length, 1)
    for start in range(0, len(groups), most):
        part = groups[start : start + most]
        # Few sizes, so that tensors of all sizes share compilations.
        size = min(most, 1 << (len(part) - 1).bit_length())
        padded = np.zeros((size + extra, length), groups.dtype)
        padded[: len(part)] = part
        padded[size:] = first[:extra]
        found = call(_rounded_rows, (spec, axis), padded, steps=100, patience=16)
        after[start : start + most], events[start : start + most] = (
            np.asarray(result)[: len(part)] for result in found
        )
    return after, events


def _rounded_rows(option: tuple[RoundingSpec, int], x: Array) -> tuple[Array, Array]:
    spec, axis = option[0], option[1] - x.ndim if option[1] >= 0 else option[1]
    after = dequantize_array(quantize_array(x, None, spec, axis))
    return after, _byte(classify_scaled(x, after, spec, axis)).reshape(x.shape)


def _of_rows(fmt: ScaledFormat) -> ScaledFormat:
    """Return the format with one scale, or whole blocks, for each row of a matrix."""
    if isinstance(fmt, AffineFormat):
        return replace(fmt, granularity=Granularity.CHANNEL, block_size=None)
    if isinstance(fmt, DynamicFormat):
        return fmt
    if isinstance(fmt, TileFormat):
        return replace(fmt, across=1, along=None)
    return replace(fmt, across=1, block_size=fmt.across * fmt.block_size)


def _in_rows(x: np.ndarray) -> np.ndarray:
    """Return all numbers in rows of one length, the last row filled up with zeros."""
    flat = x.reshape(-1)
    rows = np.zeros((-(-flat.size // _LENGTH), _LENGTH), x.dtype)
    rows.reshape(-1)[: flat.size] = flat
    return rows


def _ends(extent: Extent) -> list[float]:
    lowest, highest = extent.infinite
    return [
        extent.lowest,
        extent.highest,
        math.nan if extent.nan else 0.0,
        -math.inf if lowest else 0.0,
        math.inf if highest else 0.0,
    ]
