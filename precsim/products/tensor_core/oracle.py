"""The definition of a tensor core's step, one element at a time, in exact rational arithmetic."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import NamedTuple, TypeAlias

from precsim.formats.arguments import integer, shown
from precsim.formats.floating import FloatFormat
from precsim.formats.reals import RealLike, real
from precsim.formats.registry import get_format
from precsim.products.specs.core import Core
from precsim.products.specs.fused_block import ceil_div
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import StepBlock
from precsim.products.tensor_core.oracle_schedule import CHAINED, scheduled
from precsim.products.tensor_core.step_block_oracle import block_dot_exact, rounded_operand
from precsim.rounding.modes import RoundingMode
from precsim.rounding.oracle import round_exact
from precsim.rounding.scaled.oracle import quantize_blocks_exactly
from precsim.rounding.threefry import Word, bits_at


class Product(NamedTuple):
    """The factors of one product, and the scales of their blocks."""

    x: float
    y: float
    x_scale: float = 1.0
    y_scale: float = 1.0


class Term(NamedTuple):
    """One term of a step: a number, and the exponent by which it is aligned."""

    value: float | Fraction
    exponent: int


GivenScales: TypeAlias = tuple[list[float], list[float]]
"""The scale of each element of both operands."""


def fused_dot_exact(
    a: Sequence[RealLike],
    b: Sequence[RealLike],
    c: RealLike,
    spec: str | MatmulSpec,
    *,
    random_bits: int = 0,
    a_scales: Sequence[RealLike] | None = None,
    b_scales: Sequence[RealLike] | None = None,
) -> float:
    """Return c + a . b as a tensor core computes it.

    Parameters
    ----------
    a, b : sequence of float, length K
        Numbers, which are rounded as the spec's operands are: values of the formats stay as they
        are, but for subnormal ones where the machine flushes them. Numbers for a format in mode sr
        have to be its values. For block formats float32 numbers, which are quantized as whole
        arrays. Any numbers that are floats exactly, of whatever type.
    c : float
        First value of the accumulator, or of the total to which chains of steps are added; 0 where
        scales of whole arrays multiply the result.
    spec : str or MatmulSpec
        A spec whose order is a `FusedBlock` or another block of steps, for example "h100:bf16".
    random_bits : int
        Seed of a stochastic accumulator, of 32 bits.
    a_scales, b_scales : sequence of float, optional
        For block formats: the scale of each block, both or neither. Then `a` and `b` are values of
        the elements, nothing is quantized, and arrays have no scale.

    Returns
    -------
    float
        The accumulator after the last step (before `output`).

    Raises
    ------
    ValueError
        If `a` and `b` are not of one length, a number is no float, or c is not 0 where scales
        multiply the sums at the end. If scales are given for one operand only, for operands that
        have none, or not one per block.
    TypeError
        If the order of the spec is no block of steps, or an operand is not a sequence of numbers.

    Notes
    -----
    In a step every term (L products and the accumulator) is cut off toward zero at 2**-F times 2 to
    the largest exponent. The parts that are kept are added exactly, and the sum is rounded once.
    The result is NaN if a term is NaN or infinities of both signs occur. Overflow gives infinity; a
    zero is +0. Without products the result is c.

    Block formats: scales are factors of their products, and powers of two count in the exponents.
    In groups, a term is the exact sum of a group's products times both scales, and its exponent is
    that of the scales. Scales of whole arrays multiply the end result, in float32.

    Examples
    --------
    The small terms count 0.875, of which Hopper keeps 0.75 beside terms of 2**23:

    >>> import precsim as ps
    >>> a, b = [-(2.0**13), -0.5, -0.25, -0.125], [2.0**10, 1, 1, 1]
    >>> ps.oracle.fused_dot_exact(a, b, 2.0**23, "h100:fp16")
    -0.75
    """
    spec = MatmulSpec.parse(spec)
    scales = _given_scales(a, b, a_scales, b_scales, spec)
    if isinstance(spec.order, StepBlock):
        if len(a) != len(b):
            raise ValueError(f"a has {len(a)} numbers, b {len(b)}; allowed is one length for both")
        return block_dot_exact(_floats(a, "a"), _floats(b, "b"), _float(c, "c"), spec)
    core = spec.core
    if _float(c, "c") != 0 and scales is None:
        spec.check_first_value()
    seed = integer(random_bits, "random_bits", 0, 2**32 - 1)
    total, alpha = fused_dot_by(a, b, c, core, seed, step=step_exact, add=_add, scales=scales)
    return total if alpha is None else multiply_scales(total, alpha)


def _given_scales(
    a: Sequence[RealLike],
    b: Sequence[RealLike],
    a_scales: Sequence[RealLike] | None,
    b_scales: Sequence[RealLike] | None,
    spec: MatmulSpec,
) -> GivenScales | None:
    """Return the scales of each element, None where they follow from the operands."""
    if a_scales is None and b_scales is None:
        return None
    if isinstance(spec.order, StepBlock) or not spec.core.is_block_scaled:
        raise ValueError(f"scales are given for {spec}; allowed are operands of block formats")
    found = []
    operands = ("a", a, a_scales, spec.core.lhs), ("b", b, b_scales, spec.core.rhs)
    for name, values, scales, operand in operands:
        if scales is None:
            raise ValueError(f"{name}_scales are missing; allowed are scales of both operands")
        assert operand.blocks is not None
        size = operand.blocks.block_size
        given, wanted = _floats(scales, f"{name}_scales"), ceil_div(len(values), size)
        if len(given) != wanted:
            raise ValueError(
                f"{name}_scales has {len(given)} numbers; allowed is one per {size} numbers of "
                f"{name}, that is {wanted}"
            )
        found.append([given[k // size] for k in range(len(values))])
    return found[0], found[1]


Step: TypeAlias = Callable[[float, Sequence[Product], Core, int], float]
Add: TypeAlias = Callable[[str, float, float], float]


def fused_dot_by(
    a: Sequence[RealLike],
    b: Sequence[RealLike],
    c: RealLike,
    core: Core,
    seed: int,
    *,
    step: Step,
    add: Add,
    scales: GivenScales | None = None,
) -> tuple[float, float | None]:
    """Return the accumulator after the last step, and the scale of whole arrays if there is one.

    `step` and `add` do the work, for example `step_exact` and `_add`; others may write it down too.
    """
    first = _float(c, "c")
    products, alpha = _products(_floats(a, "a"), _floats(b, "b"), core, scales)
    return (_scheduled(products, first, core, seed, step, add) if products else first), alpha


def _floats(values: Sequence[RealLike], argument: str) -> list[float]:
    if not hasattr(values, "__iter__"):
        raise TypeError(f"{argument} is {shown(values)}; allowed are sequences of numbers")
    return [_float(value, argument) for value in values]


def _float(x: RealLike, argument: str) -> float:
    """Return the float that a number of any type is; refuse one that is none."""
    number = real(x, argument)
    try:
        value = float(number)
    except OverflowError:
        value = math.inf
    if isinstance(number, Fraction) and value != number:
        raise ValueError(f"{argument} has {shown(x)}; allowed are numbers that are floats exactly")
    return value


def _products(
    a: Sequence[float], b: Sequence[float], core: Core, given: GivenScales | None
) -> tuple[list[Product], float | None]:
    """Pair the operands, quantized if of block formats; return the product of tensor scales."""
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} numbers, b {len(b)}; allowed is one length for both")
    if given is not None:
        return [Product(*factors) for factors in zip(a, b, *given, strict=True)], None
    if not len(a) or core.lhs.blocks is None or core.rhs.blocks is None:
        a, b = rounded_operand(a, core.lhs.rounding), rounded_operand(b, core.rhs.rounding)
        return [Product(x, y) for x, y in zip(a, b, strict=True)], None
    columns, alphas = [], []
    for values, operand, blocks in ((a, core.lhs, core.lhs.blocks), (b, core.rhs, core.rhs.blocks)):
        size = blocks.block_size
        quantized = quantize_blocks_exactly(
            [list(values[k : k + size]) for k in range(0, len(values), size)], operand.rounding
        )
        scales = [quantized.scales[k // size] for k in range(len(values))]
        columns.append(([x for block in quantized.elements for x in block], scales))
        alphas += [] if quantized.tensor_scale is None else [quantized.tensor_scale]
    (x, x_scales), (y, y_scales) = columns
    products = [Product(*factors) for factors in zip(x, y, x_scales, y_scales, strict=True)]
    if not alphas:
        return products, None
    return products, alphas[0] if len(alphas) == 1 else multiply_scales(*alphas)


def _scheduled(
    products: list[Product], c: float, core: Core, seed: int, step: Step, add: Add
) -> float:
    """Chain the steps as the schedule says; a random step draws by its place."""

    def one(total: float, of_step: Sequence[Product], place: int) -> float:
        draw = 0
        if core.accumulator.mode is RoundingMode.STOCHASTIC:
            draw = bits_at(Word(seed), place)
        return step(total, of_step, core, draw)

    return scheduled(products, c, core.block, one, partial(add, _chain_sums(core)))


def total_format(core: Core) -> FloatFormat:
    """Return the format of c: that of the total to which chains are added, else the accumulator's.

    Examples
    --------
    >>> [str(total_format(MatmulSpec.parse(f"h100:e4m3{of}").core)) for of in ("", ":promote128")]
    ['float(e=8,p=14)', 'fp32']
    """
    if isinstance(core.block.schedule, CHAINED):
        total = get_format(_chain_sums(core))
        assert isinstance(total, FloatFormat)
        return total
    return core.sums


def _chain_sums(core: Core) -> str:
    """Return the name of the format in which chains of steps are added."""
    return "fp16" if core.sums.emin == -14 else "fp32"


class Aligned(NamedTuple):
    """The terms of a step, and what is left of each as a multiple of ``2**unit``."""

    terms: tuple[Term, ...]
    largest: int
    """The largest exponent."""
    unit: int
    kept: tuple[int, ...]


def align(c: float, products: Sequence[Product], core: Core) -> Aligned | float:
    """Align all terms to the largest exponent and cut off; return the result if that is plain."""
    block = core.block
    terms = [
        _term(products[k : k + block.group], core) for k in range(0, len(products), block.group)
    ]
    terms.append(Term(c if not math.isfinite(c) else Fraction(c), _exponent(c, core.sums)))
    special = [t.value for t in terms if isinstance(t.value, float)]
    if special:
        return sum(special)  # NaN, or infinities: of one sign their sum, of both NaN
    exponents = [t.exponent if t.value else block.zero_exponent for t in terms]
    known = [e for e in exponents if e is not None]
    if not any(t.value for t in terms):
        return 0.0
    unit = max(known) - block.fraction_bits
    kept = tuple(_cut(Fraction(t.value) / Fraction(2) ** unit, block.sticky) for t in terms)
    return Aligned(tuple(terms), max(known), unit, kept)


def step_exact(c: float, products: Sequence[Product], core: Core, random_bits: int = 0) -> float:
    """One step: align all terms to the largest exponent, cut off, add exactly, round."""
    found = align(c, products, core)
    if isinstance(found, float):
        return found
    total = sum(found.kept) * Fraction(2) ** found.unit
    if abs(total) >= Fraction(2) ** (core.sums.emax + 1):
        return math.copysign(math.inf, total)
    return round_exact(total, core.accumulator, random_bits=random_bits).value + 0.0  # a zero is +0


def _cut(x: Fraction, sticky: bool) -> int:
    """Truncate to an integer; with a sticky bit, an integer that lost something becomes odd."""
    kept = math.trunc(x)
    if sticky and kept != x and kept % 2 == 0:
        kept += 1 if x > 0 else -1
    return kept


def _term(products: Sequence[Product], core: Core) -> Term:
    """One product, or the sum of a group of them times its scales."""
    factors = [v for p in products for v in p]
    first = products[0]
    if not all(map(math.isfinite, factors)):
        return Term(math.nan if core.is_block_scaled else first.x * first.y, 0)
    scale = Fraction(first.x_scale) * Fraction(first.y_scale)
    value = sum((Fraction(p.x) * Fraction(p.y) for p in products), Fraction(0)) * scale
    exponent = 0
    for x, x_scale, operand in (
        (first.x, first.x_scale, core.lhs),
        (first.y, first.y_scale, core.rhs),
    ):
        if operand.blocks is not None:
            exponent += _exponent(x_scale, operand.blocks.scale)
        if core.block.group == 1:
            exponent += _exponent(x, operand.element)
    return Term(value, exponent)


def _exponent(x: float, fmt: FloatFormat) -> int:
    """Exponent of the leading place; subnormals have that of the smallest normal value."""
    return max(math.frexp(x)[1] - 1, fmt.emin) if x else fmt.emin


def _add(fmt: str, x: float, y: float) -> float:
    if not (math.isfinite(x) and math.isfinite(y)):
        return x + y
    return round_exact(Fraction(x) + Fraction(y), fmt).value + 0.0


def multiply_scales(x: float, y: float) -> float:
    """Multiply with one rounding to float32."""
    if x == 0 or y == 0 or not (math.isfinite(x) and math.isfinite(y)):
        return x * y
    return round_exact(Fraction(x) * Fraction(y), "fp32").value
