"""Dot products, product by product or as a tensor core adds them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from precsim.analysis.walking.evaluation import (
    QUANTIZE,
    ZERO,
    Evaluation,
    Walked,
    bounded,
    exact_total,
)
from precsim.analysis.walking.grammar import Dot, Node, Number
from precsim.analysis.walking.reasons import code_bits, explain_rounding
from precsim.analysis.walking.step_blocks import walk_steps
from precsim.analysis.walking.steps import AlignedTerm, Alignment
from precsim.arithmetic.oracle import Exact, unrounded
from precsim.arithmetic.sums.order import SEQUENTIAL
from precsim.formats.reals import Real, real
from precsim.formats.written import exact_text
from precsim.products.specs.core import Core, CoreOperand
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import PairwiseBlock, StepBlock
from precsim.products.tensor_core.oracle import (
    Product,
    align,
    fused_dot_by,
    multiply_scales,
    step_exact,
    total_format,
)
from precsim.rounding.scaled.oracle import block_quotients
from precsim.rounding.spec import RoundingSpec

_MOST_WRITTEN = 4
"""Products of a group that are written one by one."""


def walk_dot(of: Evaluation, dot: Dot, default: MatmulSpec | None) -> Walked:
    """Walk through a dot product, by its own spec, the default one, or fused multiply-adds.

    Parameters
    ----------
    of : Evaluation
        Where steps are written down.
    dot : Dot
        The product.
    default : MatmulSpec, optional
        What is taken where the expression names none; None for fused multiply-adds in the format
        of the walk.
    """
    spec = MatmulSpec.parse(dot.product) if dot.product else default
    if spec is None:
        spec = MatmulSpec(accumulator=of.spec)
    check_walkable(spec)
    a = [_operand(of, node, _rounding(spec, "lhs")) for node in dot.a]
    b = [_operand(of, node, _rounding(spec, "rhs")) for node in dot.b]
    c = ZERO
    if dot.c is not None:
        spec.check_first_value()
        c = _operand(of, dot.c, _rounding_of_first(spec))
    ideal = _ideal(a, b, c, of.spec)
    walk_sum = _sequential
    if isinstance(spec.order, FusedBlock | StepBlock):
        walk_sum = _fused if isinstance(spec.order, FusedBlock) else walk_steps
    total = walk_sum(of, a, b, c, spec)
    if spec.output is not None:
        total = _rounded_again(of, total, spec.output, "output", "output")
    return Walked(total.name, total.value, ideal)


def check_walkable(spec: MatmulSpec) -> None:
    """Refuse products whose sums are not in sequence and not those of a tensor core."""
    if spec.order != SEQUENTIAL and not isinstance(spec.order, FusedBlock | StepBlock):
        raise ValueError(
            f"product is '{spec}' of order {spec.order}; allowed in dot are sums in sequence and "
            "those of tensor cores"
        )
    if spec.adder is not None or spec.rotation is not None or spec.has_scales:
        raise ValueError(
            f"product is '{spec}'; allowed in dot are products without adder=, rht= and operands "
            "that are scaled outside a tensor core"
        )


def _rounding_of_first(spec: MatmulSpec) -> RoundingSpec:
    """Return how the first value becomes one of the accumulator."""
    if isinstance(spec.order, PairwiseBlock):
        return spec.accumulator
    is_fused = isinstance(spec.order, FusedBlock)
    return RoundingSpec(format=total_format(spec.core) if is_fused else spec.accumulator.format)


def _rounding(spec: MatmulSpec, side: str) -> RoundingSpec | None:
    """Return how numbers become operands; block formats, which quantize arrays, take float32."""
    if isinstance(spec.order, FusedBlock):
        operand = spec.core.lhs if side == "lhs" else spec.core.rhs
        return RoundingSpec.parse("fp32") if operand.blocks is not None else operand.rounding
    rounding: RoundingSpec | None = spec.lhs if side == "lhs" else spec.rhs
    return rounding


def _operand(of: Evaluation, node: Node, rounding: RoundingSpec | None) -> Walked:
    """Evaluate an element of a list; a number is rounded to the operand's format right away."""
    if rounding is None or rounding == of.spec:
        return of.node(node)
    if isinstance(node, Number):
        return of.input(node, rounding)
    return _rounded_again(of, of.node(node), rounding, "input", "x")


def _rounded_again(
    of: Evaluation, x: Walked, spec: RoundingSpec, operation: str, letter: str
) -> Walked:
    """Round a result to another format."""
    rounding = of.round(Exact(real(x.value, "x")), spec)
    name = of.name(letter)
    of.write(operation, name, x.name, exact_text(x.value), rounding, spec)
    return Walked(name, rounding.value, x.exact)


def _ideal(a: Sequence[Walked], b: Sequence[Walked], c: Walked, spec: RoundingSpec) -> Real:
    """Return the product of the numbers as they are written."""
    terms = [
        unrounded("multiply", x.exact, y.exact, spec=spec).value for x, y in zip(a, b, strict=True)
    ]
    return bounded(exact_total([*terms, c.exact]))


def _sequential(
    of: Evaluation, a: Sequence[Walked], b: Sequence[Walked], c: Walked, spec: MatmulSpec
) -> Walked:
    total = c
    for x, y in zip(a, b, strict=True):
        if spec.product is None:
            total = of.apply("fma", x, y, total, letter="s", spec=spec.accumulator)
            continue
        product = of.apply("multiply", x, y, letter="p", spec=spec.product)
        total = of.apply("add", total, product, letter="s", spec=spec.accumulator)
    return total


def _fused(
    of: Evaluation, a: Sequence[Walked], b: Sequence[Walked], c: Walked, spec: MatmulSpec
) -> Walked:
    names = {"last": c.name}

    def step(total: float, products: Sequence[Product], core: Core, draw: int) -> float:
        found = align(total, products, core)
        value = step_exact(total, products, core, draw)
        alignment, exact = None, real(value, "x")
        if not isinstance(found, float):
            alignment = _alignment(total, products, core)
            exact = sum(found.kept) * Fraction(2) ** found.unit or 0.0
        rounding = explain_rounding(exact, core.accumulator, draw)
        if rounding.value != value and math.isinf(value):
            reason = f"beyond the range of {core.sums.name}: a tensor core gives infinity"
            bits = code_bits(value, core.sums)
            rounding = replace(rounding, value=value, bits=bits, reason=reason)
        names["last"] = of.name("s")
        count = f"{len(products)} product" + "s" * (len(products) != 1)
        of.write(
            "tensor core",
            names["last"],
            f"{count} and the accumulator",
            f"{count} and {exact_text(total)}",
            rounding,
            core.accumulator,
            alignment,
        )
        return value

    def add(fmt: str, x: float, y: float) -> float:
        first, second = Walked("the total", x, x), Walked(names["last"], y, y)
        found = of.apply("add", first, second, letter="t", spec=RoundingSpec.parse(fmt))
        names["last"] = found.name
        return found.value + 0.0

    for given, operand, side in ((a, spec.core.lhs, "a"), (b, spec.core.rhs, "b")):
        _write_elements(of, given, operand, side)
    operands = [x.value for x in a], [y.value for y in b]
    value, scale = fused_dot_by(*operands, c.value, spec.core, of.seed, step=step, add=add)
    if scale is not None:
        single = RoundingSpec.parse("fp32")
        rounding = of.round(unrounded("multiply", value, scale, spec=single), single)
        numbers = f"{exact_text(value)} * {exact_text(scale)}"
        value = multiply_scales(value, scale)
        name = of.name("r")
        formula = f"{names['last']} * scales of the arrays"
        of.write("scale", name, formula, numbers, rounding, single)
        names["last"] = name
    return Walked(names["last"], value, ZERO.exact)


def _write_elements(
    of: Evaluation, given: Sequence[Walked], operand: CoreOperand, side: str
) -> None:
    """Write down how the numbers of an operand become elements of its blocks."""
    if operand.blocks is None:
        return
    size, values = operand.blocks.block_size, [x.value for x in given]
    blocks = [values[k : k + size] for k in range(0, len(values), size)]
    quotients, scales, array_scale = block_quotients(blocks, operand.rounding)
    element = replace(operand.rounding, format=operand.blocks.element)
    by = by_number = ""
    if array_scale is not None:
        by, by_number = f" / scale of {side}", f" / {exact_text(array_scale)}"
    seen = set()
    for k, x in enumerate(given):
        block, place = divmod(k, size)
        formula = f"{x.name} / scale of block {block + 1} of {side}{by}"
        if formula in seen:
            continue
        seen.add(formula)
        numbers = f"{exact_text(x.value)} / {exact_text(scales[block])}{by_number}"
        rounding = explain_rounding(quotients[block][place], element)
        of.write(QUANTIZE, of.name("q"), formula, numbers, rounding, element)


def _alignment(total: float, products: Sequence[Product], core: Core) -> Alignment:
    """Return what `align` found, with the numbers of the terms."""
    found = align(total, products, core)
    assert not isinstance(found, float)
    group = core.block.group
    texts = [_term_text(products[k : k + group]) for k in range(0, len(products), group)]
    unit = Fraction(2) ** found.unit
    terms = [
        AlignedTerm(
            text=text,
            value=Fraction(term.value),
            exponent=term.exponent,
            kept=kept,
            lost=Fraction(term.value) - kept * unit,
        )
        for text, term, kept in zip(
            [*texts, f"accumulator {exact_text(total)}"], found.terms, found.kept, strict=True
        )
    ]
    return Alignment(terms=tuple(terms), largest=found.largest, unit=found.unit)


def _term_text(products: Sequence[Product]) -> str:
    """Write a product, or those of a group; of a large one the first."""
    first = products[0]
    scale = f" * {exact_text(first.x_scale * first.y_scale)}"
    texts = [f"{exact_text(p.x)} * {exact_text(p.y)}" for p in products]
    text = " + ".join(texts)
    if len(products) > _MOST_WRITTEN:
        text = f"{texts[0]} + ... {len(products)} products"
    if len(products) > 1:
        text = f"({text})"
    return text + (scale if (first.x_scale, first.y_scale) != (1.0, 1.0) else "")
