"""How many bits numbers of a format need, and take in memory, their scales included."""

from fractions import Fraction

from precsim.formats.affine import AffineFormat, Granularity
from precsim.formats.block import BlockFormat
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.registry import AnyFormat, Format
from precsim.formats.scaled import ScaledFormat
from precsim.formats.tile import TileFormat

_SCALE_BITS = 32
"""A scale of a whole array, row or channel is a float32."""


def significand_bits(fmt: Format) -> int:
    """Return the number of significand bits that values of a format need."""
    if isinstance(fmt, FixedPointFormat):
        return fmt.integer_bits + fmt.fraction_bits
    return fmt.precision


def element_bits(fmt: AnyFormat) -> Fraction:
    """Return the bits of an element, its part of the scale of a block or tile included.

    Exact for blocks of up to 2**24 elements.
    """
    bits = fmt.bits_per_element if isinstance(fmt, ScaledFormat) else fmt.width
    if bits is None:
        raise ValueError(
            f"format is {fmt}, whose exponents have no limit; allowed are formats with a width"
        )
    return Fraction(bits).limit_denominator(2**24)


def scale_bits(fmt: AnyFormat, groups: int) -> int:
    """Return the bits of the scales of a whole array, or of each of its rows or channels."""
    if isinstance(fmt, BlockFormat):
        return 0 if fmt.tensor_scale is None else _SCALE_BITS
    if isinstance(fmt, AffineFormat):
        zero_point = 0 if fmt.is_symmetric else fmt.bits
        return 0 if fmt.granularity is Granularity.BLOCK else groups * (_SCALE_BITS + zero_point)
    if isinstance(fmt, TileFormat):
        return 0 if fmt.along is not None else groups * _SCALE_BITS
    return 0


def has_one_scale(fmt: AnyFormat) -> bool:
    """Return whether a format has one scale for a whole array, and none for parts of it."""
    if isinstance(fmt, TileFormat):
        return fmt.across is None
    return isinstance(fmt, AffineFormat) and fmt.granularity is Granularity.TENSOR


def in_bytes(bits: Fraction | int) -> int:
    """Return the bytes that bits need."""
    return -(-bits // 8)
