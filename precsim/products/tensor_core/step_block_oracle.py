"""The definition of a `StepBlock`'s steps, one element at a time, in exact rational arithmetic."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache, partial
from typing import NamedTuple, TypeAlias

from precsim.formats.floating import FloatFormat
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
from precsim.products.tensor_core.oracle_schedule import scheduled
from precsim.rounding.modes import OverflowMode, RoundingMode
from precsim.rounding.oracle import round_exact
from precsim.rounding.spec import RoundingSpec

Pair: TypeAlias = tuple[float, float]
Pairs: TypeAlias = Sequence[Pair]
Step: TypeAlias = Callable[[float, Pairs], float]
"""``step(total, products)``: one step of up to L products."""
Add: TypeAlias = Callable[[float, float], float]


def block_dot_exact(a: Sequence[float], b: Sequence[float], c: float, spec: MatmulSpec) -> float:
    """Return c + a . b by the steps and the schedule of a spec."""
    return block_dot_by(
        a, b, c, spec, step=partial(step_exact, spec=spec), add=partial(add_chains, spec=spec)
    )


def block_dot_by(
    a: Sequence[float], b: Sequence[float], c: float, spec: MatmulSpec, *, step: Step, add: Add
) -> float:
    """Return c + a . b by a schedule; `step` and `add` do the work, and may write it down."""
    block = spec.order
    assert isinstance(block, StepBlock)
    if not a:
        return c
    first = c if isinstance(block, ExactBlock | FlooredBlock) else _rounded(c, spec.accumulator)
    first = _plain(first) if isinstance(block, PairwiseBlock) else first
    pairs = list(zip(rounded_operand(a, spec.lhs), rounded_operand(b, spec.rhs), strict=True))
    return scheduled(pairs, first, block, lambda total, products, _: step(total, products), add)


def rounded_operand(values: Sequence[float], rounding: RoundingSpec | None) -> list[float]:
    """Round numbers as a product does its operand; stochastically none, as they have no bits."""
    if rounding is None or rounding.mode is RoundingMode.STOCHASTIC:
        return list(values)
    return [_operand(x, math.copysign(1.0, x), rounding) for x in values]


@lru_cache(maxsize=1 << 17)
def _operand(x: float, sign: float, rounding: RoundingSpec) -> float:
    """Round a number, of that sign if it is a zero."""
    return round_exact(x, rounding).value


def add_chains(x: float, y: float, spec: MatmulSpec) -> float:
    """Add a chain to the total."""
    return _add(x, y, RoundingSpec.parse(chain_sums(spec)))


def chain_sums(spec: MatmulSpec) -> str:
    """Return the format in which chains are added: fp16 for fp16 sums, else float32."""
    return "fp16" if str(spec.accumulator.format) == "fp16" else "fp32"


def step_exact(c: float, pairs: Pairs, spec: MatmulSpec) -> float:
    """One step; missing products are +0."""
    match spec.order:
        case ExactBlock():
            return _sum([*products_of(pairs, spec.product), c], spec.accumulator)
        case PairwiseBlock(length=length):
            return _pairwise(c, _filled(pairs, length), spec)
        case FlooredBlock():
            return _floored(c, pairs, spec)
        case DescendingBlock(length=length):
            return _multiply_add(c, _filled(pairs, length)[::-1], spec)
        case EvenOddBlock(length=length):
            return _even_odd(c, _filled(pairs, length), spec)
        case DotBlock(length=length):
            return _dot(c, _filled(pairs, length), spec)
        case _:
            raise AssertionError(spec)


def _filled(pairs: Pairs, length: int) -> list[Pair]:
    return [*pairs, *[(0.0, 0.0)] * (length - len(pairs))]


def _plain(x: float) -> float:
    return x if x else 0.0


def _rounded(x: float | Fraction, spec: RoundingSpec) -> float:
    return round_exact(x, spec).value


def _sum(terms: Sequence[float | Fraction], spec: RoundingSpec) -> float:
    """Return the exact sum, rounded once; a zero is that of a cancellation."""
    special = [x for x in terms if not math.isfinite(x)]
    if special:
        return _rounded(float(sum(special)), spec)
    return _rounded(sum((Fraction(x) for x in terms), Fraction(0)) or _zero(spec), spec)


def _zero(spec: RoundingSpec) -> float:
    """Return what an exact cancellation gives (IEEE 754-2019, 6.3)."""
    return -0.0 if spec.mode is RoundingMode.TOWARD_NEGATIVE else 0.0


def products_of(pairs: Pairs, rounding: RoundingSpec | None) -> list[float | Fraction]:
    """Return the products of a step, exact or rounded; a float where one is not finite or 0."""
    exact = [_product(x, y) for x, y in pairs]
    return exact if rounding is None else [_rounded(x, rounding) for x in exact]


def _product(x: float, y: float) -> float | Fraction:
    if math.isfinite(x) and math.isfinite(y) and x and y:
        return Fraction(x) * Fraction(y)
    return x * y


def _pairwise(c: float, pairs: Pairs, spec: MatmulSpec) -> float:
    rounding = spec.accumulator if spec.product is None else spec.product
    terms = products_of([(_plain(x), _plain(y)) for x, y in pairs], rounding)
    level = [_rounded(x, spec.accumulator) for x in terms]
    while len(level) > 1:
        level = [_add(x, y, spec.accumulator) for x, y in zip(level[::2], level[1::2], strict=True)]
    return _add(c, level[0], spec.accumulator)


def _multiply_add(c: float, pairs: Pairs, spec: MatmulSpec) -> float:
    """Add products one after the other; one that is a zero keeps its sign."""
    for product in products_of(pairs, spec.product):
        c = _add(c, product, spec.accumulator)
    return c


def _even_odd(c: float, pairs: Pairs, spec: MatmulSpec) -> float:
    even, odd = (_multiply_add(0.0, pairs[part::2], spec) for part in (0, 1))
    return _add(c, _add(even, odd, spec.accumulator), spec.accumulator)


def _dot(c: float, pairs: Pairs, spec: MatmulSpec) -> float:
    """Add two products, then their sum; in mode rto overflow gives infinity."""
    first, second = products_of(pairs, None)
    if spec.product is not None:
        first, second = (_to_infinity(x, spec.product) for x in (first, second))
    both = _to_infinity(_exact_sum(first, second, spec.accumulator), spec.accumulator)
    return _to_infinity(_exact_sum(c, both, spec.accumulator), spec.accumulator)


def _to_infinity(x: float | Fraction, spec: RoundingSpec) -> float:
    """Round; in mode rto what is 2**128 or more becomes infinite."""
    goes = spec.mode is RoundingMode.TO_ODD and spec.overflow is OverflowMode.INFINITY
    if goes and math.isfinite(x) and abs(Fraction(x)) >= Fraction(2) ** 128:
        return math.copysign(math.inf, x)
    return _rounded(x, spec)


def _add(x: float | Fraction, y: float | Fraction, spec: RoundingSpec) -> float:
    """Add with one rounding."""
    return _rounded(_exact_sum(x, y, spec), spec)


def _exact_sum(x: float | Fraction, y: float | Fraction, spec: RoundingSpec) -> float | Fraction:
    """Add exactly; two zeros of one sign keep it."""
    if not (math.isfinite(x) and math.isfinite(y)):
        return sum(v for v in (float(x), float(y)) if not math.isfinite(v))
    if x == y == 0 and math.copysign(1, x) == math.copysign(1, y):
        return x
    return Fraction(x) + Fraction(y) or _zero(spec)


COARSE = 8
"""Places that an accumulator is rounded down above those of the products' sum."""

_Term: TypeAlias = tuple[Fraction, int, int | None]


class Part(NamedTuple):
    """A term of a stage: a number, its exponent, and what is left as a multiple of 2**unit."""

    value: Fraction
    exponent: int
    kept: int
    place: int | None = None
    """Of a product: its place in the step."""


class Stage(NamedTuple):
    """Terms that are brought to multiples of 2**unit and added."""

    what: str
    """"products", "even products", "odd products", "both sums", "accumulator" or "total"."""
    parts: tuple[Part, ...]
    largest: int
    unit: int

    @property
    def total(self) -> Fraction:
        """The sum of what is left."""
        return sum(part.kept for part in self.parts) * Fraction(2) ** self.unit


def floored_stages(c: float, pairs: Pairs, spec: MatmulSpec) -> list[Stage] | float:
    """Return what one step of a `FlooredBlock` does, or its result if that is plain.

    The last stage's total, rounded to the accumulator, is the result.
    """
    block = spec.order
    assert isinstance(block, FlooredBlock)
    pairs = _filled(pairs, block.length)
    values = products_of(pairs, None)
    limit = Fraction(2) ** 128
    special = [float(x) for x in (*values, c) if not math.isfinite(x)]
    special += [
        math.copysign(math.inf, x) for x in values if math.isfinite(x) and abs(Fraction(x)) >= limit
    ]
    if special:
        return sum(special)
    f = block.fraction_bits
    emin = _emin(spec.lhs), _emin(spec.rhs)
    exponents = [_exponent(x, emin[0]) + _exponent(y, emin[1]) for x, y in pairs]
    stages = []
    for part in range(block.parts):
        known = [k for k in range(part, block.length, block.parts) if values[k]]
        if known:
            what = ("even products", "odd products")[part] if block.parts == 2 else "products"
            terms = [(Fraction(values[k]), exponents[k], k) for k in known]
            stages.append(_stage(what, terms, f, math.trunc))
    of_total = _exponent(c, -126)
    of_products = max((stage.largest for stage in stages), default=of_total)
    if len(stages) == 2:
        sums = [(stage.total, stage.largest, None) for stage in stages]
        stages.append(_stage("both sums", sums, f, math.floor))
    dot = stages[-1].total if stages else Fraction(0)
    largest = max(of_products, of_total)
    is_lost = block.parts == 2 and of_total < largest - f - 1
    fine, coarse = largest - f - COARSE, largest - f
    of_dot = math.floor(dot / Fraction(2) ** fine)
    of_c = 0 if is_lost else math.floor(Fraction(c) / Fraction(2) ** coarse) << COARSE
    both = Part(dot, of_products, of_dot), Part(Fraction(c), of_total, of_c)
    stages.append(Stage("accumulator", both, largest, fine))
    total = stages[-1].total
    if total:
        lead = max(_floor_log2(total), -126)
        stages.append(_stage("total", [(total, lead, None)], f + 7, math.floor))
    return stages


def _stage(what: str, terms: Sequence[_Term], f: int, cut: Callable[[Fraction], int]) -> Stage:
    """Bring terms to F bits below the largest exponent."""
    largest = max(exponent for _, exponent, _ in terms)
    unit = Fraction(2) ** (largest - f)
    parts = [Part(value, exponent, cut(value / unit), place) for value, exponent, place in terms]
    return Stage(what, tuple(parts), largest, largest - f)


def _floored(c: float, pairs: Pairs, spec: MatmulSpec) -> float:
    stages = floored_stages(c, pairs, spec)
    if isinstance(stages, float):
        return stages
    total = stages[-1].total
    return math.copysign(_rounded(total, spec.accumulator), total) if total else 0.0


def _emin(part: RoundingSpec | None) -> int:
    assert part is not None
    assert isinstance(part.format, FloatFormat)
    return part.format.emin


def _exponent(x: float, emin: int) -> int:
    return max(math.frexp(x)[1] - 1, emin) if x else emin


def _floor_log2(x: Fraction) -> int:
    size = abs(x)
    guess = size.numerator.bit_length() - size.denominator.bit_length()
    return guess if size >= Fraction(2) ** guess else guess - 1
