"""`Core`: a tensor core's product as its steps take it, every format narrowed to its type."""

from dataclasses import dataclass
from functools import reduce
from operator import mul

from precsim.formats.block import BlockFormat
from precsim.formats.floating import FloatFormat
from precsim.products.specs.fused_block import FusedBlock
from precsim.rounding.spec import RoundingSpec


@dataclass(frozen=True, slots=True)
class CoreOperand:
    """One operand of a tensor core."""

    rounding: RoundingSpec
    element: FloatFormat
    """The format of its numbers; of a block format the format of the elements."""
    blocks: BlockFormat | None = None
    """The block format whose scales take part in the product; None for plain numbers."""


@dataclass(frozen=True, slots=True)
class Core:
    """The operands, sums and steps of a `MatmulSpec` whose order is a `FusedBlock`."""

    lhs: CoreOperand
    rhs: CoreOperand
    accumulator: RoundingSpec
    sums: FloatFormat
    """The accumulator's format."""
    block: FusedBlock

    @property
    def terms(self) -> int:
        """Number of terms that a step adds to the accumulator: products, or groups of them."""
        return self.block.length // self.block.group

    @property
    def is_block_scaled(self) -> bool:
        """Whether the operands are block formats."""
        return self.lhs.blocks is not None

    @property
    def term_bits(self) -> int:
        """Number of fraction bits of a term's significand."""
        if self.block.group == 1:
            return self.lhs.element.precision + self.rhs.element.precision - 2
        return sum(_scale_precision(x) - 1 - _place(x) for x in (self.lhs, self.rhs))

    @property
    def largest_term(self) -> int:
        """The largest significand of a term."""
        operands = self.lhs, self.rhs
        if self.block.group == 1:
            return reduce(mul, ((1 << x.element.precision) - 1 for x in operands))
        # A group is an integer in units of the products' smallest place, times the significands
        # of the scales.
        factors = (
            int(x.element.max_finite / 2.0 ** _place(x)) * ((1 << _scale_precision(x)) - 1)
            for x in operands
        )
        return reduce(mul, factors, self.block.group)


def _place(operand: CoreOperand) -> int:
    """Return the exponent of the last place of an element's smallest values."""
    return operand.element.emin - operand.element.precision + 1


def _scale_precision(operand: CoreOperand) -> int:
    return 1 if operand.blocks is None else operand.blocks.scale.precision
