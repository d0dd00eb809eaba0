"""Error bounds of sums that a tensor core or a matrix unit takes in steps.

Step j adds L products with the sum B_j to the total c: ``c_j = c_(j-1) + B_j + cut_j + round_j``.
With M the sum of all magnitudes, let each step have ``|cut_j| <= p P_j + t |c_(j-1)|`` and
``|round_j| <= u |c_j|``, where P_j is the largest magnitude of its products. All |c_j| are at most
(1 + e) M if e M bounds the errors of all of them, and the P_j sum to M at most. So after S steps
from zero ``e <= q (1 + e)`` with ``q = p + S (t + u)``, and the bound is ``e = q / (1 - q)``.

* `FusedBlock`: every term is cut off below 2**-F times the largest power of two among them, which
  P_j + |c| is not below: ``p = t = (L + 1) 2**-F``.
* `FlooredBlock`: products are cut off beside the largest product only, their sum (with two parts
  both, before they are joined) and the total are rounded down: ``t = (1 + 2**-8) 2**-F`` and
  ``p = L 2**-F + t``, ``(L + 2) 2**-F + t`` with two parts; the rounding before the last adds less
  than ``2**-(F + 6)`` to u.
* `ExactBlock`: nothing is cut off, p = t = 0.
* `PairwiseBlock`: the same; each B_j has passed log2(L) roundings before.
* `EvenOddBlock`: the same; each B_j has passed L / 2 + 1 roundings before. `DotBlock`: one.
* `DescendingBlock`: the same, in steps of one product.

The power of two of a product is that of its operands, and subnormal operands have the exponent of
the smallest normal number. So magnitudes of operands count as that number at least (`least_sizes`).

C chains of S steps are added in C roundings more. The absolute part counts every rounding that may
underflow, and what is cut off beside subnormal totals.
"""

import math

from precsim.analysis.bounds.units import Unit, bound_of_sum, unit_of
from precsim.formats.floating import FloatFormat
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import (
    DescendingBlock,
    DotBlock,
    EvenOddBlock,
    ExactBlock,
    FlooredBlock,
    PairwiseBlock,
    StepBlock,
)
from precsim.products.tensor_core.plan import Plan, chain_sums, plan
from precsim.rounding.spec import RoundingSpec


def step_unit(spec: MatmulSpec, n: int) -> Unit:
    """Return the error of n products added in steps, relative to the sum of magnitudes.

    Infinite where K is too large for any bound.
    """
    block = spec.order
    assert isinstance(block, FusedBlock | StepBlock)
    where = plan(block, n)
    one = unit_of(spec.accumulator)
    chain = _quotient(_chain(block, where.steps, one.relative))
    relative = chain
    if where.chains > 1 or not where.starts_from_total:
        added = unit_of(RoundingSpec.parse(chain_sums(spec.accumulator)))
        relative += bound_of_sum(where.chains, added.relative) * (1 + chain)
    absolute = _roundings(block, where) * one.absolute + _cut_beside_subnormal(spec, where)
    return Unit(relative, absolute * (1 + relative))


def _chain(block: FusedBlock | StepBlock, steps: int, u: float) -> float:
    """Return q of a chain of steps."""
    match block:
        case ExactBlock():
            return steps * u
        case PairwiseBlock(length=length):
            return (steps + math.log2(length)) * u
        case EvenOddBlock(length=length):
            return (steps + length / 2 + 1) * u
        case DotBlock():
            return (steps + 1) * u
        case DescendingBlock(length=length):
            return steps * length * u
        case FlooredBlock(length=length, fraction_bits=f, parts=parts):
            t = (1 + 2.0**-8) * 2.0**-f
            p = (length + (2 if parts == 2 else 0)) * 2.0**-f + t
            return p + steps * (t + u + 2.0 ** -(f + 6))
        case FusedBlock(length=length, fraction_bits=f):
            t = (length + 1) * 2.0**-f
            return t + steps * (t + u)


def _quotient(q: float) -> float:
    return q / (1 - q) if q < 1 else math.inf


def _roundings(block: FusedBlock | StepBlock, where: Plan) -> int:
    """Return how many sums are rounded."""
    match block:
        case PairwiseBlock() | DescendingBlock() | DotBlock():
            in_step = block.length
        case EvenOddBlock():
            in_step = block.length + 2
        case _:
            in_step = 1
    return where.chains * (where.steps * in_step + 1)


def _cut_beside_subnormal(spec: MatmulSpec, where: Plan) -> float:
    """Return what is cut off beside totals of zero and subnormal ones."""
    block, sums = spec.order, spec.accumulator.format
    if not isinstance(block, FusedBlock | FlooredBlock) or not isinstance(sums, FloatFormat):
        return 0.0
    each: float = (block.length + 2) * 2.0 ** (sums.emin - block.fraction_bits)
    return where.chains * where.steps * each


def least_sizes(spec: MatmulSpec) -> tuple[float, float]:
    """Return what the magnitudes of nonzero operands count at least."""
    if not isinstance(spec.order, FusedBlock | FlooredBlock):
        return 0.0, 0.0
    lhs, rhs = (None if part is None else part.format for part in (spec.lhs, spec.rhs))
    return _smallest_normal(lhs), _smallest_normal(rhs)


def _smallest_normal(fmt: object) -> float:
    is_limited = isinstance(fmt, FloatFormat) and fmt.exponent_bits is not None
    return 2.0**fmt.emin if is_limited and isinstance(fmt, FloatFormat) else 0.0
