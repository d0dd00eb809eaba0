"""Operands with scales: which elements share one, and what is multiplied apart from the scales."""

import re
from dataclasses import dataclass, replace

from precsim.formats.affine import AffineFormat, Granularity
from precsim.formats.arguments import shown
from precsim.formats.block import BlockFormat
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.scaled import scaled_format
from precsim.formats.tile import TileFormat
from precsim.rounding.modes import OverflowMode, RoundingMode
from precsim.rounding.spec import RoundingSpec

LARGEST_REGISTER = 32
"""Bits of the widest integer accumulator."""

_REGISTER = re.compile(r"int([1-9]\d?)(?::(wrap|saturate))?")


@dataclass(frozen=True, slots=True)
class Scaling:
    """Which elements of an operand share a scale that multiplies sums of products.

    As in a `TileFormat`: `across` vectors by `along` elements of each, None for all.
    """

    across: int | None
    along: int | None


def scaling_of(operand: RoundingSpec | None) -> Scaling | None:
    """Return how the scales of an operand that multiply sums lie; None if it has none.

    The scales of block formats are part of their elements, except that of a whole array.
    """
    match None if operand is None else operand.format:
        case TileFormat(across=across, along=along):
            return Scaling(across, along)
        case AffineFormat(granularity=Granularity.TENSOR):
            return Scaling(None, None)
        case AffineFormat(block_size=size):
            return Scaling(1, size)
        case BlockFormat(tensor_scale=FloatFormat()):
            return Scaling(None, None)
        case _:
            return None


def element_rounding(operand: RoundingSpec | None) -> RoundingSpec | None:
    """Return the rounding of what is multiplied: elements, of blocks elements times scales."""
    if operand is None or (fmt := scaled_format(operand.format)) is None:
        return operand
    if isinstance(fmt, BlockFormat):
        factor = fmt.scale.precision if fmt.scale.precision > 1 else 0
        precision = fmt.element_precision + factor
        values = FloatFormat(name=f"{fmt}_values", precision=precision, exponent_bits=None)
        return RoundingSpec(format=values)
    if isinstance(fmt, AffineFormat):
        return RoundingSpec(format=fmt.element)
    return replace(operand, format=fmt.element)


def common_length(lhs: RoundingSpec | None, rhs: RoundingSpec | None) -> int | None:
    """Return how many products in a row have the same scales; None if all have.

    Raises
    ------
    ValueError
        If the blocks of one operand do not lie inside those of the other.
    """
    found = [scaling.along for x in (lhs, rhs) if (scaling := scaling_of(x)) is not None]
    lengths = sorted({length for length in found if length is not None})
    if len(lengths) == 2 and lengths[1] % lengths[0]:
        raise ValueError(
            f"lhs is '{lhs}', rhs '{rhs}', with scales for {lengths[0]} and {lengths[1]} products; "
            "allowed are multiples of each other"
        )
    return lengths[0] if lengths else None


def is_register(accumulator: RoundingSpec) -> bool:
    """Return whether an accumulator holds integers, as sums of affine codes are."""
    fmt = accumulator.format
    return (
        isinstance(fmt, FixedPointFormat)
        and fmt.is_signed
        and fmt.fraction_bits == 0
        and fmt.width <= LARGEST_REGISTER
        and accumulator.mode is RoundingMode.TIES_TO_EVEN
    )


def parse_register(text: object) -> RoundingSpec | None:
    """Return the accumulator ``intN[:wrap|:saturate]``, None for anything else; it wraps."""
    match = _REGISTER.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    bits = int(match[1])
    if not 2 <= bits <= LARGEST_REGISTER:
        raise ValueError(
            f"accumulator is {shown(text)}; allowed are integers of 2 to {LARGEST_REGISTER} bits"
        )
    fmt = FixedPointFormat(name=f"q{bits - 1}.0", integer_bits=bits - 1, fraction_bits=0)
    return RoundingSpec(format=fmt, overflow=OverflowMode(match[2] or "wrap"))


def register_name(accumulator: RoundingSpec) -> str:
    """Return the string of an integer accumulator."""
    name = f"int{accumulator.format.width}"
    wraps = accumulator.overflow is OverflowMode.WRAP
    return name if wraps else f"{name}[{accumulator.overflow}]"


def check_register(
    lhs: RoundingSpec | None, rhs: RoundingSpec | None, accumulator: RoundingSpec
) -> None:
    """Refuse what integer accumulators do not add."""
    formats = [None if x is None else x.format for x in (lhs, rhs)]
    if not all(isinstance(fmt, AffineFormat) for fmt in formats):
        raise ValueError(
            f"accumulator is '{register_name(accumulator)}', lhs '{lhs or 'raw'}', rhs "
            f"'{rhs or 'raw'}'; an integer accumulator takes two affine operands, for example int8"
        )
    if accumulator.overflow not in (OverflowMode.WRAP, OverflowMode.SATURATE):
        raise ValueError(
            f"overflow of the accumulator is '{accumulator.overflow}'; allowed for integers are "
            "'wrap', 'saturate'"
        )
    bits = sum(fmt.bits for fmt in formats if isinstance(fmt, AffineFormat))
    if accumulator.overflow is OverflowMode.SATURATE and bits > LARGEST_REGISTER - 2:
        raise ValueError(
            f"accumulator is '{register_name(accumulator)}' for '{lhs}' and '{rhs}'; allowed with "
            f"saturation are operands of {LARGEST_REGISTER - 2} bits together"
        )
