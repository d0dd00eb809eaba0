"""Operands of `wide_step`: numbers, or the elements and scales of block formats, as integers."""

from typing import NamedTuple

from precsim._arrays import Array, namespace
from precsim.formats.block import BlockFormat
from precsim.formats.carrier import FLOAT32, floor_log2, select
from precsim.formats.codec import decode_bits
from precsim.formats.floating import FloatFormat
from precsim.products.tensor_core.step import NAN, decode_operand
from precsim.products.tensor_core.two_word_step import NO_EXPONENT

_U, _I = FLOAT32.uint_dtype, FLOAT32.int_dtype
_ONE = FLOAT32.pattern(1, 0)


class Factor(NamedTuple):
    """An operand, K first. A term takes `group` significands and one entry of each of the others."""

    significand: Array
    """int32, signed."""
    exponent: Array
    scale: Array | None
    """int32: what a group's sum is multiplied by; None without groups."""
    bits: Array
    """float32 patterns, which say where NaN and infinities are."""


def numbers(bits: Array, fmt: FloatFormat) -> Factor:
    """Return float32 patterns of values of a format as a factor."""
    decoded = decode_operand(bits, fmt)
    return Factor(decoded.significand, decoded.exponent, None, bits)


def scaled(codes: Array, scales: Array, fmt: BlockFormat, group: int) -> Factor:
    """Return codes and the scales of their blocks, both K first, as a factor."""
    element = fmt.element
    assert isinstance(element, FloatFormat)
    xp = namespace(codes, scales)
    bits = decode_bits(codes.astype(_U), element, FLOAT32)
    scale_bits = decode_bits(scales.astype(_U), fmt.scale, FLOAT32)
    significand, exponent, _ = decode_operand(bits, element)
    is_nan = scale_bits > _U(FLOAT32.infinity)
    if fmt.scale.precision == 1:
        # No zero; and 2**-127 is a subnormal of float32.
        multiplier = xp.ones_like(scale_bits).astype(_I)
        power = floor_log2(scale_bits, FLOAT32)
    else:
        multiplier, power, _ = decode_operand(scale_bits, fmt.scale)
    power = select(is_nan, _I(0), power)
    # From one entry to a block to one entry to a term.
    terms_per_block, terms = fmt.block_size // group, codes.shape[0] // group
    multiplier, power, is_nan = (
        xp.repeat(part, terms_per_block, axis=0)[:terms] for part in (multiplier, power, is_nan)
    )
    if group == 1:
        exponent = xp.maximum(exponent + power, _I(NO_EXPONENT))
        return Factor(significand, exponent, None, select(is_nan, _U(NAN), bits))
    up = xp.maximum(exponent - _I(element.emin), _I(0))
    return Factor(significand << up, power, multiplier, select(is_nan, _U(NAN), _U(_ONE)))
