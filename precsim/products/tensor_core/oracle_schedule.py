"""The definition of schedules: which steps are chained, and how chains are added, one by one.

`plan` says the same for whole arrays, and does not share this text.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from precsim.products.specs.fused_block import (
    FusedBlock,
    PairInterleaved,
    Promote,
    ResidueFirst,
    SplitK,
    ceil_div,
)
from precsim.products.specs.step_block import StepBlock

Pair = TypeVar("Pair")
Step: TypeAlias = Callable[[float, Sequence[Pair], int], float]
"""``step(total, products, place)``: up to L products; their place in the order of the schedule."""
Add: TypeAlias = Callable[[float, float], float]

CHAINED = Promote, PairInterleaved, SplitK
"""Schedules whose chains are added to a total."""


def scheduled(
    pairs: Sequence[Pair], c: float, block: FusedBlock | StepBlock, step: Step[Pair], add: Add
) -> float:
    """Return the total after all steps: chains of `step` from c or 0, added by `add`.

    There are no steps without products.
    """
    length = block.length

    def chain(total: float, products: Sequence[Pair], place: int) -> float:
        for k in range(0, len(products), length):
            total = step(total, products[k : k + length], place + k)
        return total

    def residue_first(total: float, products: Sequence[Pair], place: int, granule: int) -> float:
        count = len(products) % granule if granule else 0
        total = chain(total, products[:count], place)
        return chain(total, products[count:], place + ceil_div(count, length) * length)

    match block.schedule:
        case Promote(interval=n):
            for k in range(0, len(pairs), n):
                c = add(c, chain(0.0, pairs[k : k + n], k))
            return c
        case PairInterleaved():
            for k in range(0, len(pairs), 32):
                of_block = pairs[k : k + 32]
                halves = [
                    [p for i, p in enumerate(of_block) if (i % 4 < 2) is low]
                    for low in (True, False)
                ]
                c = add(c, chain(chain(0.0, halves[0], k), halves[1], k + 16))
            return c
        case SplitK(splits=s, granule=g, residue=n):
            part = ceil_div(ceil_div(len(pairs), g), s) * g
            steps = ceil_div(part, length)
            c = residue_first(c, pairs[:part], 0, n)
            for j in range(1, s):
                ours = pairs[j * part : (j + 1) * part]
                c = add(c, residue_first(0.0, ours, j * steps * length, n))
            return c
        case ResidueFirst(granule=g):
            return residue_first(c, pairs, 0, g)
        case _:
            return chain(c, pairs, 0)
