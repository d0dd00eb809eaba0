"""Dot products as matrix units of AMD and of CPUs add them: the steps of a `StepBlock`."""

import math
from collections.abc import Sequence
from fractions import Fraction

from precsim.analysis.walking.evaluation import ZERO, Evaluation, Walked, exact_total
from precsim.analysis.walking.reasons import explain_rounding
from precsim.analysis.walking.steps import AlignedTerm, Alignment, Rounding
from precsim.formats.reals import Real, real
from precsim.formats.written import exact_text
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import (
    DescendingBlock,
    DotBlock,
    EvenOddBlock,
    FlooredBlock,
    PairwiseBlock,
)
from precsim.products.tensor_core.step_block_oracle import (
    COARSE,
    Pairs,
    Stage,
    block_dot_by,
    chain_sums,
    floored_stages,
    products_of,
    step_exact,
)
from precsim.rounding.spec import RoundingSpec

_OPERATION = "matrix unit"
_MOST_WRITTEN = 4
"""Products of a step that are written one by one."""


def walk_steps(
    of: Evaluation, a: Sequence[Walked], b: Sequence[Walked], c: Walked, spec: MatmulSpec
) -> Walked:
    """Walk through a dot product in steps; the bits are those of `block_dot_exact`."""
    names = {"last": c.name}

    def step(total: float, products: Pairs) -> float:
        match spec.order:
            case PairwiseBlock():
                names["last"] = _pairs(of, total, products, spec)
            case FlooredBlock():
                names["last"] = _floored(of, total, products, spec)
            case DescendingBlock():
                first = Walked("the accumulator", total, real(total, "x"))
                names["last"] = _chain(of, first, products[::-1], spec).name
            case EvenOddBlock():
                names["last"] = _even_odd(of, total, products, spec)
            case DotBlock():
                names["last"] = _dot(of, total, products, spec)
            case _:
                exact = exact_total([*products_of(products, spec.product), real(total, "x")])
                names["last"] = _sum(of, exact, *_texts(products, total), spec)
        return step_exact(total, products, spec)

    def add(x: float, y: float) -> float:
        first, second = Walked("the total", x, real(x, "x")), Walked(names["last"], y, real(y, "x"))
        sums = RoundingSpec.parse(chain_sums(spec))
        found = of.apply("add", first, second, letter="t", spec=sums)
        names["last"] = found.name
        return found.value

    operands = [x.value for x in a], [y.value for y in b]
    value = block_dot_by(*operands, c.value, spec, step=step, add=add)
    return Walked(names["last"], value, ZERO.exact)


def _texts(products: Pairs, total: float) -> tuple[str, str]:
    """Return what a step adds, in words and in numbers."""
    count = f"{len(products)} product" + "s" * (len(products) != 1)
    written = " + ".join(f"{exact_text(x)} * {exact_text(y)}" for x, y in products)
    listed = written if len(products) <= _MOST_WRITTEN else count
    return f"{count} and the accumulator", f"{listed} and {exact_text(total)}"


def _sum(of: Evaluation, exact: Real, formula: str, numbers: str, spec: MatmulSpec) -> str:
    """Write an exact number that is rounded to the accumulator, the last thing that a step does."""
    name = of.name("s")
    rounding = explain_rounding(exact, spec.accumulator)
    of.write(_OPERATION, name, formula, numbers, rounding, spec.accumulator)
    return name


def _pairs(of: Evaluation, total: float, products: Pairs, spec: MatmulSpec) -> str:
    """Write rounded products, their sums in pairs, and the sum with the accumulator."""
    rounding = spec.accumulator if spec.product is None else spec.product
    level = []
    for pair in products:
        x, y = (Walked(exact_text(v), v, real(v, "x")) for v in (number or 0.0 for number in pair))
        level.append(of.apply("multiply", x, y, letter="p", spec=rounding))
    while len(level) > 1:
        # Of an odd number the last one meets products of +0.
        pairs = [level[k : k + 2] for k in range(0, len(level), 2)]
        level = [
            of.apply("add", *pair, letter="d", spec=spec.accumulator) if len(pair) == 2 else pair[0]
            for pair in pairs
        ]
    first = Walked("the accumulator", total, real(total, "x"))
    return of.apply("add", first, level[0], letter="s", spec=spec.accumulator).name


def _chain(of: Evaluation, first: Walked, products: Pairs, spec: MatmulSpec) -> Walked:
    """Write multiply-adds, one after the other."""
    for pair in products:
        x, y = (Walked(exact_text(v), v, real(v, "x")) for v in pair)
        if spec.product is None:
            first = of.apply("fma", x, y, first, letter="s", spec=spec.accumulator)
        else:
            product = of.apply("multiply", x, y, letter="p", spec=spec.product)
            first = of.apply("add", first, product, letter="s", spec=spec.accumulator)
    return first


def _even_odd(of: Evaluation, total: float, products: Pairs, spec: MatmulSpec) -> str:
    """Write two chains from +0, their sum, and the sum with the accumulator."""
    zero = Walked("0", 0.0, real(0.0, "x"))
    even, odd = (_chain(of, zero, products[part::2], spec) for part in (0, 1))
    both = of.apply("add", even, odd, letter="d", spec=spec.accumulator)
    first = Walked("the accumulator", total, real(total, "x"))
    return of.apply("add", first, both, letter="s", spec=spec.accumulator).name


def _dot(of: Evaluation, total: float, products: Pairs, spec: MatmulSpec) -> str:
    """Write the sum of two products, and the sum with the accumulator."""
    result = step_exact(total, products, spec)
    if not math.isfinite(result):  # rounding to odd alone would not overflow
        return _sum(of, result, *_texts(products, total), spec)
    if spec.product is None:
        exact = exact_total(products_of(products, None))
        rounding = explain_rounding(exact, spec.accumulator)
        formula, numbers = (text.partition(" and ")[0] for text in _texts(products, total))
        both = Walked(of.name("d"), rounding.value, exact)
        of.write(_OPERATION, both.name, formula, numbers, rounding, spec.accumulator)
    else:
        walked = [[Walked(exact_text(v), v, real(v, "x")) for v in pair] for pair in products]
        terms = [of.apply("multiply", *pair, letter="p", spec=spec.product) for pair in walked]
        both = terms[0]
        if len(terms) > 1:
            both = of.apply("add", *terms, letter="d", spec=spec.accumulator)
    first = Walked("the accumulator", total, real(total, "x"))
    return of.apply("add", first, both, letter="s", spec=spec.accumulator).name


def _floored(of: Evaluation, total: float, products: Pairs, spec: MatmulSpec) -> str:
    """Write each stage, and the rounding of the last one's total."""
    stages = floored_stages(total, products, spec)
    if isinstance(stages, float):
        return _sum(of, stages, *_texts(products, total), spec)
    name = ""
    for stage in stages:
        alignment = _alignment(stage, products)
        if stage.what == "total" and not alignment.terms[0].lost:
            continue
        name = of.name("d")
        exact = sum((term.value for term in alignment.terms), Fraction(0))
        numbers = " + ".join(exact_text(term.value) for term in alignment.terms)
        rounding = _on_grid(stage, exact, alignment)
        formula = _FORMULAS[stage.what]
        of.write(_OPERATION, name, formula, numbers, rounding, spec.accumulator, alignment)
    exact_total_of_step = stages[-1].total or 0.0
    formula = f"{name} in {spec.accumulator.format}"
    return _sum(of, exact_total_of_step, formula, exact_text(exact_total_of_step), spec)


_FORMULAS = {
    "products": "sum of products",
    "even products": "sum of even products",
    "odd products": "sum of odd products",
    "both sums": "both sums",
    "accumulator": "the products' sum and the accumulator",
    "total": "total",
}
_TERMS = {
    "both sums": ("sum of even products", "sum of odd products"),
    "accumulator": ("sum of products", "accumulator"),
    "total": ("total",),
}
_CUT = ("products", "even products", "odd products")
"""Stages that cut off toward zero; the others round down."""


def _alignment(stage: Stage, products: Pairs) -> Alignment:
    """Return a stage's terms with their numbers."""
    unit = Fraction(2) ** stage.unit
    texts = list(_TERMS.get(stage.what, ["" for _ in stage.parts]))
    if stage.what == "accumulator":
        texts[1] += f" (to a multiple of 2**{stage.unit + COARSE})"
    for n, part in enumerate(stage.parts):
        if part.place is not None:
            texts[n] = " * ".join(map(exact_text, products[part.place]))
    terms = [
        AlignedTerm(
            text=text,
            value=part.value,
            exponent=part.exponent,
            kept=part.kept,
            lost=part.value - part.kept * unit,
        )
        for text, part in zip(texts, stage.parts, strict=True)
    ]
    is_down = stage.what not in _CUT
    return Alignment(
        terms=tuple(terms), largest=stage.largest, unit=stage.unit, rounds_down=is_down
    )


def _on_grid(stage: Stage, exact: Fraction, alignment: Alignment) -> Rounding:
    """Return what a stage does to its exact sum, as a rounding."""
    value = float(stage.total)
    is_exact = not any(term.lost for term in alignment.terms)
    how = "each rounded down" if alignment.rounds_down else "each cut off toward zero"
    return Rounding(
        spec=f"multiples of 2**{stage.unit}",
        exact=exact,
        value=value,
        bits="",
        below=None,
        above=None,
        below_bits="",
        above_bits="",
        position=None,
        is_tie=False,
        reason="exact" if is_exact else f"{how} to a multiple of 2**{stage.unit}, then added",
        flags=() if is_exact else ("inexact",),
    )
