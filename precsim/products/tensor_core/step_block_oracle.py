"""The definition of a `StepBlock`'s steps, one element at a time, in exact rational arithmetic."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TypeAlias

from precsim.formats.floating import FloatFormat
from precsim.products.specs.fused_block import (
    PairInterleaved,
    Promote,
    ResidueFirst,
    SplitK,
    ceil_div,
)
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
from precsim.rounding.modes import OverflowMode, RoundingMode
from precsim.rounding.oracle import round_exact
from precsim.rounding.spec import RoundingSpec

Pairs: TypeAlias = Sequence[tuple[float, float]]
Step: TypeAlias = Callable[[float, Pairs], float]


def block_dot_exact(a: Sequence[float], b: Sequence[float], c: float, spec: MatmulSpec) -> float:
    """Return c + a . b by the steps and the schedule of a spec, of values of the operands."""
    block = spec.order
    assert isinstance(block, StepBlock)
    if not a:
        return c
    step = _step(block, spec)
    first = c if isinstance(block, ExactBlock | FlooredBlock) else _rounded(c, spec.accumulator)
    first = _plain(first) if isinstance(block, PairwiseBlock) else first
    pairs = list(zip(a, b, strict=True))

    def chain(total: float, chosen: list[tuple[float, float]]) -> float:
        for k in range(0, len(chosen), block.length):
            total = step(total, chosen[k : k + block.length])
        return total

    chains, starts_from_total = _chains(pairs, block)
    total = chain(first, chains.pop(0)) if starts_from_total else first
    sums = RoundingSpec.parse("fp16" if str(spec.accumulator.format) == "fp16" else "fp32")
    for chosen in chains:
        total = _add(total, chain(0.0, chosen), sums)
    return total


Chain: TypeAlias = list[tuple[float, float]]


def _chains(pairs: Chain, block: StepBlock) -> tuple[list[Chain], bool]:
    """Return the products of each chain, filled up, and whether the first goes on from c."""
    length = block.length

    def fill(chain: Chain, unit: int = length) -> Chain:
        return chain + [(0.0, 0.0)] * (-len(chain) % unit)

    def residue_first(chain: Chain, granule: int) -> Chain:
        count = len(chain) % granule
        return fill(chain[:count]) + fill(chain[count:])

    match block.schedule:
        case Promote(interval=n):
            return [fill(pairs[k : k + n], n) for k in range(0, len(pairs), n)], False
        case PairInterleaved():
            blocks = [fill(pairs[k : k + 32], 32) for k in range(0, len(pairs), 32)]
            early = [k for k in range(32) if k % 4 < 2]
            order = early + [k for k in range(32) if k % 4 >= 2]
            return [[chain[k] for k in order] for chain in blocks], False
        case SplitK(splits=s, granule=g, residue=n):
            part = ceil_div(ceil_div(len(pairs), g), s) * g
            parts = [pairs[j * part : (j + 1) * part] for j in range(s)]
            parts = [residue_first(x, n) if n else x for x in parts]
            size = ceil_div(part, length) * length
            return [x + [(0.0, 0.0)] * (size - len(x)) for x in parts], True
        case ResidueFirst(granule=g):
            return [residue_first(pairs, g)], True
        case _:
            return [fill(pairs)], True


def _step(block: StepBlock, spec: MatmulSpec) -> Step:
    match block:
        case ExactBlock():
            return lambda c, pairs: _sum([*_products(pairs, spec.product), c], spec.accumulator)
        case PairwiseBlock():
            return lambda c, pairs: _pairwise(c, pairs, spec)
        case FlooredBlock():
            return lambda c, pairs: _floored(c, pairs, block, spec)
        case DescendingBlock():
            return lambda c, pairs: _multiply_add(c, pairs[::-1], spec)
        case EvenOddBlock():
            return lambda c, pairs: _even_odd(c, pairs, spec)
        case DotBlock():
            return lambda c, pairs: _dot(c, pairs, spec)


def _plain(x: float) -> float:
    return x if x else 0.0


def _rounded(x: float | Fraction, spec: RoundingSpec) -> float:
    return round_exact(x, spec).value


def _zero(spec: RoundingSpec) -> float:
    """Return what an exact cancellation gives (IEEE 754-2019, 6.3)."""
    return -0.0 if spec.mode is RoundingMode.TOWARD_NEGATIVE else 0.0


def _sum(terms: Sequence[float | Fraction], spec: RoundingSpec) -> float:
    """Return the exact sum, rounded once; a zero is +0, in mode rtn -0."""
    special = [x for x in terms if not math.isfinite(x)]
    if special:
        return _rounded(float(sum(special)), spec)
    return _rounded(sum((Fraction(x) for x in terms), Fraction(0)) or _zero(spec), spec)


def _products(pairs: Pairs, rounding: RoundingSpec | None) -> list[float | Fraction]:
    exact = [_product(x, y) for x, y in pairs]
    return exact if rounding is None else [_rounded(x, rounding) for x in exact]


def _product(x: float, y: float) -> float | Fraction:
    if math.isfinite(x) and math.isfinite(y) and x and y:
        return Fraction(x) * Fraction(y)
    return x * y


def _pairwise(c: float, pairs: Pairs, spec: MatmulSpec) -> float:
    rounding = spec.accumulator if spec.product is None else spec.product
    terms = _products([(_plain(x), _plain(y)) for x, y in pairs], rounding)
    level = [_rounded(x, spec.accumulator) for x in terms]
    while len(level) > 1:
        level = [_add(x, y, spec.accumulator) for x, y in zip(level[::2], level[1::2], strict=True)]
    return _add(c, level[0], spec.accumulator)


def _multiply_add(c: float, pairs: Pairs, spec: MatmulSpec) -> float:
    """Add products one after the other; one that is a zero keeps its sign."""
    for product in _products(pairs, spec.product):
        c = _add(c, product, spec.accumulator)
    return c


def _even_odd(c: float, pairs: Pairs, spec: MatmulSpec) -> float:
    even, odd = (_multiply_add(0.0, pairs[part::2], spec) for part in (0, 1))
    return _add(c, _add(even, odd, spec.accumulator), spec.accumulator)


def _dot(c: float, pairs: Pairs, spec: MatmulSpec) -> float:
    """Add two products, then their sum; in mode rto overflow gives infinity."""
    first, second = _products(pairs, None)
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


def _floored(c: float, pairs: Pairs, block: FlooredBlock, spec: MatmulSpec) -> float:
    values = _products(pairs, None)
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
    sums = []
    for part in range(block.parts):
        lanes = range(part, block.length, block.parts)
        known = [exponents[k] for k in lanes if values[k]]
        if known:
            unit = Fraction(2) ** (max(known) - f)
            kept = sum(math.trunc(Fraction(values[k]) / unit) for k in lanes)
            sums.append((kept * unit, max(known)))
    of_total = _exponent(c, -126)
    of_products = max((e for _, e in sums), default=of_total)
    dot = sum((_down(x, of_products - f) for x, _ in sums), Fraction(0))
    largest = max(of_products, of_total)
    is_lost = block.parts == 2 and of_total < largest - f - 1
    total = _down(dot, largest - f - 8)
    total += Fraction(0) if is_lost else _down(Fraction(c), largest - f)
    if not total:
        return 0.0
    total = _down(total, max(_floor_log2(total), -126) - f - 7)
    return math.copysign(_rounded(total, spec.accumulator), total)


def _emin(part: RoundingSpec | None) -> int:
    assert part is not None
    assert isinstance(part.format, FloatFormat)
    return part.format.emin


def _exponent(x: float, emin: int) -> int:
    return max(math.frexp(x)[1] - 1, emin) if x else emin


def _down(x: Fraction, place: int) -> Fraction:
    """Round down to a multiple of 2**place."""
    unit = Fraction(2) ** place
    return math.floor(x / unit) * unit


def _floor_log2(x: Fraction) -> int:
    size = abs(x)
    guess = size.numerator.bit_length() - size.denominator.bit_length()
    return guess if size >= Fraction(2) ** guess else guess - 1
