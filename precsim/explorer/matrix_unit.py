"""The steps of a matrix unit by other rules than a tensor core's: what a walk writes down."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from precsim.analysis.walking.evaluation import ZERO, Evaluation, Walked
from precsim.analysis.walking.grammar import Dot
from precsim.analysis.walking.step_blocks import walk_steps
from precsim.analysis.walking.steps import Alignment, Step
from precsim.explorer.aligned import rows
from precsim.explorer.said import near, short
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import (
    DescendingBlock,
    DotBlock,
    EvenOddBlock,
    ExactBlock,
    FlooredBlock,
    PairwiseBlock,
)
from precsim.products.tensor_core.oracle import Aligned, Term


def told_steps(
    a: Sequence[float], b: Sequence[float], c: float, spec: MatmulSpec
) -> tuple[list[dict[str, Any]], float]:
    """Compute c + a . b by the definition; return what each step does, and the result."""
    of = Evaluation(spec.accumulator, _no_dot)
    x, y = ([Walked(near(v), v, ZERO.exact) for v in side] for side in (a, b))
    found = walk_steps(of, x, y, Walked(near(c), c, ZERO.exact), spec)
    return [_told(step) for step in of.steps], found.value


def _no_dot(_of: Evaluation, dot: Dot) -> Walked:
    raise AssertionError(dot)


def _told(step: Step) -> dict[str, Any]:
    rounding = step.rounding
    said: dict[str, Any] = {
        "kind": "told",
        "name": step.name,
        "formula": step.formula,
        "result": short(rounding.value),
        "why": rounding.reason,
    }
    if step.alignment is None:
        return said | {"exact": near(rounding.exact)}
    how = "rounded down" if step.alignment.rounds_down else "cut off"
    texts = [term.text for term in step.alignment.terms]
    return said | {"how": how} | rows(_aligned(step.alignment), texts, rounding.value)


def _aligned(given: Alignment) -> Aligned:
    terms = tuple([Term(Fraction(term.value), term.exponent) for term in given.terms])
    kept = tuple([term.kept for term in given.terms])
    return Aligned(terms, given.largest, given.unit, kept)


def facts(spec: MatmulSpec) -> list[list[str]]:
    """Say in short what a step does."""
    match spec.order:
        case ExactBlock(length=length):
            does = "the exact sum, rounded once"
        case PairwiseBlock(length=length):
            does = "rounded products, added in pairs, then to the accumulator"
        case FlooredBlock(length=length, fraction_bits=f):
            does = f"products cut off at {f} fraction bits; sums rounded down, then to nearest"
        case DescendingBlock(length=length):
            does = "multiply-adds to the accumulator, the last product first"
        case EvenOddBlock(length=length):
            does = "multiply-adds of even and of odd products apart, then both to the accumulator"
        case DotBlock(length=length):
            does = "the sum of two products, then the sum with the accumulator"
        case _:
            raise AssertionError(spec)
    sums = spec.accumulator
    return [
        ["products of a step", str(length)],
        ["a step is", does],
        ["accumulator", str(sums)],
    ]
