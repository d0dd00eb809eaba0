"""Scales and codes of dynamic formats, on bit patterns; arrays are (..., blocks, block_size).

With amax the largest magnitude of a block: factor = fl(1 / amax), the largest float32 if that is
infinite; code = that of the table's value nearest to fl(x * factor), the smaller one of two; scale
= amax. A block of zeros has the scale 0. Source: bitsandbytes, backends/default/ops.py
(quantize_blockwise), whose `torch.argmin` takes the first of two equal distances.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from precsim._arrays import Array, namespace, on_plain_arrays
from precsim._loops import computed_once
from precsim.formats.carrier import Carrier, select
from precsim.formats.dynamic import DynamicFormat
from precsim.rounding.scaled import float_steps
from precsim.rounding.scaled.block import set_specials_apart
from precsim.rounding.scaled.tile import times_scales
from precsim.rounding.spec import RoundingSpec


class Codes(NamedTuple):
    """Codes, uint8, and for each block the pattern of its scale."""

    codes: Array
    scales: Array


@on_plain_arrays
def quantize_blocks(bits: Array, spec: RoundingSpec, carrier: Carrier) -> Codes:
    """Choose the scales of blocks and the codes of their elements."""
    u, xp, fmt = carrier.uint, namespace(bits), spec.format
    assert isinstance(fmt, DynamicFormat)
    bits, is_lost = set_specials_apart(bits, spec, carrier)
    magnitude = bits & u(carrier.sign_bit - 1)
    amax = magnitude.max(axis=-1, initial=carrier.uint_dtype(0))
    one = float_steps.constant(amax, carrier.pattern(1, 0), carrier)
    divisor = select(amax == u(0), one, amax)
    factor = computed_once(float_steps.divide(one, divisor, carrier, float_steps.SATURATE))
    scaled = float_steps.multiply(bits, factor[..., None], carrier, float_steps.SATURATE)
    starts = xp.asarray(_in_order(_starts(fmt).view(np.uint32), carrier))
    codes = xp.searchsorted(starts, _in_order(scaled, carrier), side="right")
    return Codes(codes.astype(np.uint8), select(is_lost, u(carrier.quiet_nan), amax))


@on_plain_arrays
def dequantize_blocks(codes: Array, scales: Array, fmt: DynamicFormat, carrier: Carrier) -> Array:
    """Return the patterns of value * scale, the exact product rounded once."""
    table = namespace(codes).asarray(np.array(fmt.table, np.float32).view(np.uint32))
    return times_scales(table[codes.astype(np.int32)], scales, carrier)


@lru_cache(maxsize=2)
def _starts(fmt: DynamicFormat) -> Any:
    """Return, for each code but the first, the smallest float32 nearer to it than to the last.

    A number in the middle of two values goes to the smaller one.
    """
    table = np.array(fmt.table)
    middles = (table[1:] + table[:-1]) / 2  # exact
    nearest = middles.astype(np.float32)
    return np.where(nearest > middles, nearest, np.nextafter(nearest, np.float32(2)))


def _in_order(bits: Any, carrier: Carrier) -> Any:
    """Return integers that are in the order of the numbers; both zeros are 0."""
    magnitude = (bits & carrier.uint(carrier.sign_bit - 1)).astype(carrier.int_dtype)
    return select(bits >= carrier.uint(carrier.sign_bit), -magnitude, magnitude)
