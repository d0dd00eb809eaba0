"""What a fused block can compute exactly: checks of its formats, and the words that a sum needs."""

from typing import NamedTuple

from precsim.formats.block import BlockFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.layout import BINARY32
from precsim.products.specs.core import Core, CoreOperand
from precsim.products.specs.fused_block import (
    FLAT,
    Flat,
    FusedBlock,
    Promote,
    Schedule,
    SplitK,
)
from precsim.products.specs.scaling import element_rounding
from precsim.products.specs.step_block import DotBlock, FlooredBlock, StepBlock
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec

WORD, TWO_WORDS = 1 << 32, 1 << 62
"""The sum of a step stays below the first in one word, below the second in two words."""
_FP32 = RoundingSpec.parse("fp32")
_PRODUCT_BITS = 30
"""A term's significand is a signed integer of 32 bits."""


class SumRoundings(NamedTuple):
    """How a product's sums are rounded."""

    accumulator: RoundingSpec
    product: RoundingSpec | None
    adder: RoundingSpec | None


def check_fused(
    order: FusedBlock, lhs: RoundingSpec | None, rhs: RoundingSpec | None, accumulator: RoundingSpec
) -> Core:
    """Return the typed problem; refuse what a fused block cannot do exactly in two words."""
    sums = _numbers("accumulator", accumulator).element
    if order.zero_exponent is not None and order.zero_exponent > sums.emin:
        raise ValueError(
            f"zero_exponent is {order.zero_exponent}; allowed for '{accumulator}' is up to {sums.emin}, "
            "the exponent of its smallest normal value"
        )
    is_scaled = [x is not None and isinstance(x.format, BlockFormat) for x in (lhs, rhs)]
    if any(is_scaled):
        if not all(is_scaled):
            raise ValueError(
                f"lhs is '{lhs or 'raw'}', rhs '{rhs or 'raw'}'; allowed are two block formats, or none"
            )
        if not _keeps_blocks(order.schedule):
            raise ValueError(
                f"schedule is '{order.schedule}'; allowed for block formats are flat, promoteN, "
                "splitkSxG"
            )
    operands = _operand("lhs", lhs, order), _operand("rhs", rhs, order)
    if order.group > 1 and not any(is_scaled):
        raise ValueError(
            f"group is {order.group}; allowed for '{lhs}' is 1: only the terms of block formats have "
            "an exponent of their own, their scales'"
        )
    core = Core(*operands, accumulator, sums, order)
    _check_size(core)
    return core


def check_step_block(
    order: StepBlock, lhs: RoundingSpec | None, rhs: RoundingSpec | None, sums: SumRoundings
) -> None:
    """Refuse what the steps of an order have no rule for."""
    if sums.accumulator.mode is RoundingMode.STOCHASTIC:
        raise ValueError(
            f"accumulator is '{sums.accumulator}'; allowed with order '{order}' are modes other "
            "than 'sr'"
        )
    if sums.adder is not None:
        raise ValueError(f"adder is '{sums.adder}'; allowed with order '{order}' is None")
    if isinstance(order, FlooredBlock):
        if sums.product is not None:
            raise ValueError(f"product is '{sums.product}'; allowed with order '{order}' is None")
        if sums.accumulator != _FP32:
            raise ValueError(
                f"accumulator is '{sums.accumulator}'; allowed with order '{order}' is '{_FP32}'"
            )
        _check_products(lhs, rhs)
    if isinstance(order, DotBlock):
        for name in ("accumulator", "product"):
            part = getattr(sums, name)
            if part is not None and part.format != _FP32.format:
                raise ValueError(
                    f"{name} is '{part}'; allowed with order '{order}' is '{_FP32}' with any rounding"
                )
        if sums.product is None:
            _check_products(lhs, rhs)


def _check_products(lhs: RoundingSpec | None, rhs: RoundingSpec | None) -> None:
    """Refuse operands whose products are too long to be added exactly."""
    parts = [_numbers(name, element_rounding(part)) for name, part in (("lhs", lhs), ("rhs", rhs))]
    if (bits := sum(part.element.precision for part in parts)) > _PRODUCT_BITS:
        raise ValueError(
            f"a product of {lhs} and {rhs} has {bits} bits; allowed are {_PRODUCT_BITS}"
        )


def _check_size(core: Core) -> None:
    """Refuse terms and sums that the integers of the steps cannot hold."""
    lhs, rhs = core.lhs.element.name, core.rhs.element.name
    if core.largest_term >= 1 << _PRODUCT_BITS:
        raise ValueError(
            f"a term of {lhs} and {rhs} has a significand of up to {core.largest_term}; allowed are "
            f"{_PRODUCT_BITS} bits"
        )
    if (total := max_total(core)) >= TWO_WORDS:
        raise ValueError(
            f"a step of {core.block.length} products of {lhs} and {rhs} with "
            f"{core.block.fraction_bits} fraction bits can reach {total}, beyond the 62 bits of the sum"
        )


def max_total(core: Core) -> int:
    """Return a bound of the sum of one step, in units of the last place that is kept."""
    up = core.block.fraction_bits - core.term_bits
    term = core.largest_term << up if up > 0 else core.largest_term >> -up
    return core.terms * term + (1 << (core.block.fraction_bits + 1))


def needs_two_words(core: Core) -> bool:
    """Return whether a step needs two words: long sums, a sticky bit, random bits, scales."""
    block = core.block
    is_stochastic = core.accumulator.mode is RoundingMode.STOCHASTIC
    if block.sticky or is_stochastic or core.is_block_scaled:
        return True
    # In one word, steps of zeros fill up K; they must not cut off what the accumulator holds.
    if block.schedule != FLAT and block.fraction_bits < core.sums.precision - 1:
        return True
    return max_total(core) >= WORD or core.largest_term >= 1 << 24


def _keeps_blocks(schedule: Schedule) -> bool:
    """Return whether the steps of a schedule take products in order, no left-over ones first."""
    match schedule:
        case Flat() | Promote() | SplitK(residue=0):
            return True
        case _:
            return False


def _numbers(name: str, part: RoundingSpec | None) -> CoreOperand:
    """Return numbers of a format that a step takes as they are."""
    if (
        part is not None
        and isinstance(part.format, FloatFormat)
        and part.format.fits(BINARY32)
        and part.format.exponent_bits is not None
        and part.format.emin >= BINARY32.emin
    ):
        return CoreOperand(part, part.format)
    raise ValueError(
        f"{name} is '{part or 'raw'}'; a fused block takes floats that float32 holds, whose exponents "
        f"start at {BINARY32.emin} or above"
    )


def _operand(name: str, part: RoundingSpec | None, order: FusedBlock) -> CoreOperand:
    """Return an operand; refuse formats that a step cannot multiply."""
    if part is None or not isinstance(part.format, BlockFormat):
        return _numbers(name, part)
    fmt = part.format
    if not isinstance(fmt.element, FloatFormat) or fmt.element.emin < BINARY32.emin:
        raise ValueError(f"{name} is '{part}'; a fused block takes floating-point elements")
    if fmt.across > 1:
        raise ValueError(
            f"{name} is '{part}', whose blocks have {fmt.across} vectors; allowed for a tensor core are "
            "blocks of one vector"
        )
    if order.group == 1 and fmt.scale.precision != 1:
        raise ValueError(
            f"{name} is '{part}', whose scales are {fmt.scale}; allowed without groups are powers of two "
            "(e8m0), which are added to the products' exponents"
        )
    if fmt.block_size % order.group:
        raise ValueError(
            f"group is {order.group}; allowed for blocks of {fmt.block_size} ({part}) are its divisors"
        )
    return CoreOperand(part, fmt.element, fmt)
