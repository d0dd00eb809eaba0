"""What a fused block can compute exactly: checks of a spec, and which kernel has enough bits for it."""

from typing import TYPE_CHECKING, NamedTuple

from precsim.formats.block import BlockFormat
from precsim.formats.carrier import FLOAT32
from precsim.formats.floating import FloatFormat
from precsim.products.specs.fused_block import FLAT, FusedBlock
from precsim.products.tensor_core.step import max_total
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec

if TYPE_CHECKING:
    from precsim.products.specs.spec import MatmulSpec

WORD, TWO_WORDS = 1 << 32, 1 << 62
"""The sum of a step stays below the first in `fused_step`, below the second in `wide_step`."""
_WHOLE_STEPS = ("promote", "splitk")
_PRODUCT_BITS = 30
"""Product of two significands, a signed integer of 32 bits."""


class Products(NamedTuple):
    """What the significands of one step's terms are made of."""

    lhs: FloatFormat
    rhs: FloatFormat
    fraction_bits: int
    """Fraction bits of a term's significand."""
    largest: int
    """The largest significand of a term."""


def is_block_scaled(spec: "MatmulSpec") -> bool:
    """Tell whether the operands of a spec are block formats, whose scales take part in the product."""
    return spec.lhs is not None and isinstance(spec.lhs.format, BlockFormat)


def has_tensor_scale(spec: "MatmulSpec") -> bool:
    """Tell whether an operand has a scale of the whole array, which multiplies the finished sums."""
    formats = [part.format for part in (spec.lhs, spec.rhs) if part is not None]
    return any(isinstance(f, BlockFormat) and f.tensor_scale is not None for f in formats)


def products_of(spec: "MatmulSpec") -> Products:
    """Return what a spec's terms are made of; block formats count by their elements."""
    order = spec.order
    assert isinstance(order, FusedBlock)
    assert spec.lhs is not None
    assert spec.rhs is not None
    formats = spec.lhs.format, spec.rhs.format
    lhs, rhs = (f.element if isinstance(f, BlockFormat) else f for f in formats)
    assert isinstance(lhs, FloatFormat)
    assert isinstance(rhs, FloatFormat)
    if order.group == 1:
        largest = ((1 << lhs.precision) - 1) * ((1 << rhs.precision) - 1)
        return Products(lhs, rhs, lhs.precision + rhs.precision - 2, largest)
    # A group is an integer in units of the products' smallest place, times the scales' significands.
    largest, fraction_bits = order.group, 0
    for fmt, element in zip(formats, (lhs, rhs), strict=True):
        assert isinstance(fmt, BlockFormat)
        place = element.emin - element.precision + 1
        largest *= int(element.max_finite / 2.0**place) * ((1 << fmt.scale.precision) - 1)
        fraction_bits += fmt.scale.precision - 1 - place
    return Products(lhs, rhs, fraction_bits, largest)


def needs_two_words(spec: "MatmulSpec") -> bool:
    """Tell whether a spec needs `wide_step`: longer sums than a word, a sticky bit, random bits, scales."""
    order = spec.order
    assert isinstance(order, FusedBlock)
    is_stochastic = spec.accumulator.mode is RoundingMode.STOCHASTIC
    if order.sticky or is_stochastic or is_block_scaled(spec):
        return True
    # Steps of zeros, with which `tensor_core` fills up K, must not cut off what the accumulator holds.
    assert isinstance(spec.accumulator.format, FloatFormat)
    if order.schedule != FLAT and order.fraction_bits < spec.accumulator.format.precision - 1:
        return True
    products = products_of(spec)
    total = max_total(products.lhs, products.rhs, order.length, order.fraction_bits)
    return total >= WORD or products.largest >= 1 << 24


def check_fused(spec: "MatmulSpec") -> None:
    """Refuse what a fused block cannot do exactly in two words."""
    order = spec.order
    assert isinstance(order, FusedBlock)
    for name in ("product", "adder"):
        if getattr(spec, name) is not None:
            raise ValueError(f"{name} is '{getattr(spec, name)}'; a fused block has none")
    _check_float("accumulator", spec.accumulator)
    assert isinstance(spec.accumulator.format, FloatFormat)
    lowest = spec.accumulator.format.emin
    if order.zero_exponent is not None and order.zero_exponent > lowest:
        raise ValueError(
            f"zero_exponent is {order.zero_exponent}; allowed for '{spec.accumulator}' is up to {lowest}, the "
            "exponent of its smallest normal value"
        )
    blocks = [
        part is not None and isinstance(part.format, BlockFormat) for part in (spec.lhs, spec.rhs)
    ]
    if any(blocks):
        _check_blocks(spec, all(blocks))
    else:
        _check_float("lhs", spec.lhs)
        _check_float("rhs", spec.rhs)
        if order.group > 1:
            raise ValueError(
                f"group is {order.group}; allowed for '{spec.lhs}' is 1: only the terms of block formats have "
                "an exponent of their own, their scales'"
            )
    products = products_of(spec)
    if products.largest >= 1 << _PRODUCT_BITS:
        raise ValueError(
            f"a term of {products.lhs.name} and {products.rhs.name} has a significand of up to "
            f"{products.largest}; allowed are {_PRODUCT_BITS} bits"
        )
    terms = order.length // order.group
    up = order.fraction_bits - products.fraction_bits
    largest = products.largest << up if up > 0 else products.largest >> -up
    total = terms * largest + (1 << (order.fraction_bits + 1))
    if total >= TWO_WORDS:
        raise ValueError(
            f"a step of {order.length} products of {products.lhs.name} and {products.rhs.name} with "
            f"{order.fraction_bits} fraction bits can reach {total}, beyond the 62 bits of the sum"
        )


def _check_float(name: str, part: RoundingSpec | None) -> None:
    fmt = None if part is None else part.format
    is_narrow = isinstance(fmt, FloatFormat) and fmt.fits(FLOAT32) and fmt.exponent_bits is not None
    if not is_narrow or fmt.emin < FLOAT32.emin:  # type: ignore[union-attr]
        raise ValueError(
            f"{name} is '{part or 'raw'}'; a fused block takes floats that float32 holds, whose exponents "
            f"start at {FLOAT32.emin} or above"
        )


def _check_blocks(spec: "MatmulSpec", both: bool) -> None:
    """Refuse block formats that a step cannot multiply."""
    order = spec.order
    assert isinstance(order, FusedBlock)
    if not both:
        raise ValueError(
            f"lhs is '{spec.lhs or 'raw'}', rhs '{spec.rhs or 'raw'}'; allowed are two block formats, or none"
        )
    if order.schedule != FLAT and str(order.schedule).rstrip("0123456789x") not in _WHOLE_STEPS:
        raise ValueError(
            f"schedule is '{order.schedule}'; allowed for block formats are flat, promoteN, splitkSxG"
        )
    for name in ("lhs", "rhs"):
        part = getattr(spec, name)
        fmt = part.format
        if not isinstance(fmt.element, FloatFormat) or fmt.element.emin < FLOAT32.emin:
            raise ValueError(f"{name} is '{part}'; a fused block takes floating-point elements")
        if order.group == 1 and fmt.scale.precision != 1:
            raise ValueError(
                f"{name} is '{part}', whose scales are {fmt.scale}; allowed without groups are powers of two "
                "(e8m0), which are added to the products' exponents"
            )
        if fmt.block_size % order.group:
            raise ValueError(
                f"group is {order.group}; allowed for blocks of {fmt.block_size} ({part}) are its divisors"
            )
