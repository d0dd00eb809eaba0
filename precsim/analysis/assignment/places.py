"""What each place of a training computes: operations, and the bits of what they compute with."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from precsim.analysis.cost.operations import multiply_adds, other_operations, product_of
from precsim.analysis.cost.program import flat_program
from precsim.formats.storage import element_bits
from precsim.transform.emulate import trace
from precsim.transform.policy import Policy


class Work(NamedTuple):
    """The operations of a place, and their bits."""

    operations: int
    """Two for each multiply-add of a product, one for each element of another result."""
    bits: float
    """Sum over the operations of the bits of a number: of a product's operands on average, of
    another operation's result."""


def work_by_place(
    fun: Callable[..., Any], args: tuple[Any, ...], policy: Policy, depth: int
) -> dict[str, Work]:
    """Return what the places of a program do under a policy, by the first parts of their scopes."""
    operations: dict[str, int] = defaultdict(int)
    bits: dict[str, float] = defaultdict(float)
    for step in flat_program(trace(fun, args, {}, 0), policy).steps:
        place, product = place_of(step.op.scope, depth), product_of(step)
        if product is not None:
            count = 2 * multiply_adds(step)
            sides = [getattr(product.spec, side).format for side in product.sides]
            width = sum(map(element_bits, sides)) / len(sides)
        else:
            count, width = other_operations(step), element_bits(step.op.spec.format)
        operations[place] += count
        bits[place] += count * width
    return {place: Work(operations[place], bits[place]) for place in operations}


def place_of(scope: str, depth: int) -> str:
    """Return the first parts of a scope."""
    return "/".join(scope.split("/")[:depth])
