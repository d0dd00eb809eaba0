"""The definition of a tensor core's step, one element at a time, in exact rational arithmetic."""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import partial

from precsim.formats.floating import FloatFormat
from precsim.matmul.fused_block import (
    FusedBlock,
    PairInterleaved,
    Promote,
    ResidueFirst,
    SplitK,
    ceil_div,
)
from precsim.matmul.spec import MatmulSpec
from precsim.rounding.oracle import round_exact
from precsim.rounding.spec import RoundingSpec


def fused_dot_exact(
    a: Sequence[float], b: Sequence[float], c: float, spec: str | MatmulSpec
) -> float:
    """Return c + a . b as a tensor core computes it.

    Parameters
    ----------
    a, b : sequence of float, length K
        Values of the operands' formats.
    c : float
        First value of the accumulator.
    spec : str or MatmulSpec
        A spec whose order is a `FusedBlock`, for example "h100:bf16".

    Returns
    -------
    float
        The accumulator after the last step (before `output`).

    Raises
    ------
    TypeError
        If the order of the spec is not a `FusedBlock`.

    Notes
    -----
    A step: every term (L products and the accumulator) is cut off toward zero at 2**-F times 2 to the largest
    exponent, the rest is added exactly and rounded once. NaN if a term is NaN or infinities of both signs
    occur; overflow gives infinity; a zero is +0.

    Examples
    --------
    The small terms count 0.875, of which Hopper keeps 0.75 beside terms of 2**23:

    >>> import precsim as ps
    >>> ps.fused_dot_exact([-(2.0**13), -0.5, -0.25, -0.125], [2.0**10, 1, 1, 1], 2.0**23, "h100:fp16")
    -0.75
    """
    spec = MatmulSpec.parse(spec)
    order = spec.order
    if not isinstance(order, FusedBlock):
        raise TypeError(f"order of '{spec}' is '{order}'; allowed is a FusedBlock")
    pairs = list(zip(a, b, strict=True))
    length = order.length

    def chain(total: float, products: list[tuple[float, float]]) -> float:
        for k in range(0, len(products), length):
            total = step_exact(total, products[k : k + length], spec)
        return total

    is_half = isinstance(fmt := spec.accumulator.format, FloatFormat) and fmt.emin == -14
    add = partial(_add, "fp16" if is_half else "fp32")
    match order.schedule:
        case Promote(interval=n):
            for k in range(0, len(pairs), n):
                c = add(c, chain(0.0, pairs[k : k + n]))
            return c
        case PairInterleaved():
            for k in range(0, len(pairs), 32):
                block = pairs[k : k + 32]
                halves = [
                    [p for i, p in enumerate(block) if (i % 4 < 2) is low] for low in (True, False)
                ]
                c = add(c, chain(chain(0.0, halves[0]), halves[1]))
            return c
        case SplitK(splits=s, granule=g):
            part = ceil_div(ceil_div(len(pairs), g), s) * g
            parts = [pairs[j * part : (j + 1) * part] for j in range(s)]
            c = chain(c, parts[0])
            for products in parts[1:]:
                c = add(c, chain(0.0, products))
            return c
        case ResidueFirst(granule=g):
            residue = len(pairs) % g
            return chain(chain(c, pairs[:residue]), pairs[residue:])
        case _:
            return chain(c, pairs)


def step_exact(c: float, products: list[tuple[float, float]], spec: MatmulSpec) -> float:
    """One step: align all terms to the largest exponent, cut off, add exactly, round."""
    order = spec.order
    assert isinstance(order, FusedBlock)
    special = [x * y for x, y in products if not math.isfinite(x) or not math.isfinite(y)]
    special += [] if math.isfinite(c) else [c]
    if special:
        return sum(special)  # NaN, or infinities: of one sign their sum, of both NaN
    terms = [(Fraction(x) * Fraction(y), _exponents(x, y, spec)) for x, y in products]
    terms.append((Fraction(c), _exponent(c, spec.accumulator)))
    exponents = [e if value else order.zero_exponent for value, e in terms]
    known = [e for e in exponents if e is not None]
    if not any(value for value, _ in terms):
        return 0.0
    unit = Fraction(2) ** (max(known) - order.fraction_bits)
    total = sum(math.trunc(value / unit) for value, _ in terms) * unit
    fmt = spec.accumulator.format
    assert isinstance(fmt, FloatFormat)
    if abs(total) >= Fraction(2) ** (fmt.emax + 1):
        return math.copysign(math.inf, total)
    return round_exact(total, spec.accumulator).value + 0.0  # a zero is +0


def _exponents(x: float, y: float, spec: MatmulSpec) -> int:
    """Exponent of a product: the sum of its factors', not that of its value."""
    assert spec.lhs is not None
    assert spec.rhs is not None
    return _exponent(x, spec.lhs) + _exponent(y, spec.rhs)


def _exponent(x: float, spec: RoundingSpec) -> int:
    """Exponent of the leading place; subnormals have that of the smallest normal value."""
    fmt = spec.format
    assert isinstance(fmt, FloatFormat)
    return max(math.frexp(x)[1] - 1, fmt.emin) if x else fmt.emin


def _add(fmt: str, x: float, y: float) -> float:
    if not (math.isfinite(x) and math.isfinite(y)):
        return x + y
    return round_exact(Fraction(x) + Fraction(y), fmt).value + 0.0
