"""`identify`: a product that can only be run is compared with everything that a spec can say."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from itertools import product as combinations
from typing import Any, NamedTuple

import numpy as np

from precsim.arithmetic.sums.order import Order
from precsim.formats.affine import AffineFormat, Granularity
from precsim.formats.arguments import each_of, integer, shown
from precsim.formats.floating import FloatFormat
from precsim.formats.layout import BINARY32
from precsim.formats.registry import get_format
from precsim.products.identify import probes
from precsim.products.identify.black_box import (
    Answer,
    BlackBox,
    Product,
    explains,
)
from precsim.products.identify.blocks import BlockSearch
from precsim.products.identify.chains import other_chains, plain_chains, spec_of
from precsim.products.identify.facts import Facts, gather
from precsim.products.identify.identified import Identified, contradicted, recovered
from precsim.products.identify.integers import Integers, identify_integers
from precsim.products.identify.probes import Formats
from precsim.products.identify.roundings import (
    Roundings,
    Tier,
    flushed,
    numbers,
    rounding_candidates,
    saturating,
)
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.machines import MACHINES
from precsim.products.specs.matrix_units import MATRIX_UNITS
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import StepBlock
from precsim.rounding.modes import SubnormalMode
from precsim.rounding.spec import RoundingSpec

_FRESH = 4
"""Rounds of fresh products that a spec has to foresee."""
_ZEROS = 30
"""Exponents below the smallest normal one that a zero term may have."""
_MOST_EQUAL = 8
"""Equal specs that are named."""
_MOST_NEAR = 4
"""Specs whose share of equal results is computed, where no candidate fits."""
_ABOVE = 12
"""Binades between the smallest product and the middle of tiny ones."""
_FLUSHED: tuple[tuple[str, ...], ...] = (
    (),
    ("lhs", "rhs", "accumulator", "product"),
    ("accumulator", "product"),
    ("lhs", "rhs"),
    ("lhs",),
    ("rhs",),
    ("output",),
    ("lhs", "rhs", "accumulator", "product", "output"),
    ("lhs", "rhs", "accumulator"),
    ("accumulator",),
)
"""Roundings whose subnormals may be zero."""
_TINY = SubnormalMode.FLUSH_TINY, SubnormalMode.FLUSH_BEFORE_ROUNDING
"""How CPUs make subnormals zero."""
_SATURATED: tuple[tuple[str, ...], ...] = (
    (),
    ("output",),
    ("accumulator", "product"),
    ("accumulator", "product", "output"),
)
"""Roundings that may overflow to the largest value."""

AnyOrder = Order | FusedBlock | StepBlock


class Edges(NamedTuple):
    """Answers about the ends of the ranges."""

    tiny: list[Answer]
    """Small products, some of them subnormal, with zeros."""
    extreme: list[Answer]
    """Products of every size."""


_CANDIDATES = 1000
"""Specs that are compared on all of K before the search ends."""


def identify(
    product: Product,
    *,
    formats: str | tuple[str, str],
    shape: tuple[int, int, int] = (16, 16, 160),
) -> Identified:
    """Find the spec that has the bits of a product of unknown making.

    Parameters
    ----------
    product : callable
        Of any library, on any device; one tile or a whole product. It takes two float32 NumPy
        arrays of shapes (m, k) and (k, n), whose values are in `formats`, and returns an array of
        shape (m, n) with values that float32 holds, or integers.
    formats : str or tuple of two str
        The values that the product takes, for example "bf16" or ("e4m3", "e5m2"): floating-point
        formats that float32 holds. A product may round them further, as tf32 units round float32.
        "int8", "uint8", "int4", "int8_symmetric" and the like: integers, codes without zero point.
    shape : tuple of int
        Rows, columns and K. A product of fixed tiles has its own; a longer K shows more of the
        schedule, and more rows and columns need fewer queries.

    Returns
    -------
    Identified
        The spec, or the nearest one and a result that contradicts it; what each probe decided.

    Raises
    ------
    TypeError
        If `product` is no function or returns no array of real numbers; if `formats` is no name
        and no pair, or `shape` no tuple.
    ValueError
        If a format is unknown, or is neither of integers nor of floating-point numbers that float32
        holds; if one operand has integers, the other not; if a size is below 1; if results have
        another shape or do not fit float32.

    Notes
    -----
    Probes of few products narrow the formats, the order and the roundings: sums that cancel show
    steps, blocks and parts of K (FPRev, arXiv 2411.00442), a small product between large ones shows
    the bits that are kept. What is left is run by the model on the recorded answers and compared in
    bits; the first spec that has all, and those of fresh products, is returned. Of equal specs it
    is the one with the shortest string; of integers the register of 32 bits that wraps.

    Searched are the orders sequential, pairwise, blockedN, kahan, two_sum, exact, fused blocks (any
    length, fraction bits, sticky bit, exponent of zero), exact, pairwise and floored blocks, the
    dot products of CPUs (descendingL, evenoddL, dot2), with their schedules; for accumulator,
    product, adder, output and operands the formats fp32, fp22 (`float(e=8,p=14)`), tf32, fp16,
    bf16, e5m2, e4m3 (an accumulator of another precision with the exponents of float32) in every
    mode but stochastic, with subnormals or without, with overflow to infinity or to the largest
    value. Not searched are block formats and scales. The answer holds for this K; finite operands
    are asked only.

    Products of integers: registers of up to 32 bits that wrap or saturate, outputs rounded once,
    sequential and pairwise sums in these formats. Results are compared as float32, to which a spec
    rounds a register. Only sums beyond 2^31 tell how 32 bits overflow: with int8, a K above 2^17. A
    register is known as far as sums reach: the first finding says from how many bits on registers
    are not told apart. Results of which all are infinite, NaN or zero are no evidence.

    Cost: 25 to 60 queries, 7 for integers; seconds to minutes of the CPU for the model.

    Examples
    --------
    >>> import precsim as ps
    >>> def product(a, b):  # one tile: fp16 operands, sums of 16 products, cut off below 25 bits
    ...     return ps.matmul(a, b, "h100:fp16", backend="reference")
    >>> found = ps.kernels.identify(product, formats="fp16", shape=(16, 16, 64))
    >>> str(found.spec)
    'h100:fp16'
    >>> found.spec.order.length, found.spec.order.fraction_bits
    (16, 25)
    """
    if not callable(product):
        raise TypeError(
            f"product is {shown(product)}; allowed are functions of two arrays, for example jnp.matmul"
        )
    allowed = "one name or two, such as 'int8' or ('uint8', 'int8')"
    one = isinstance(formats, str)
    names = (formats, formats) if one else tuple(each_of(formats, "formats", allowed))
    if len(names) != len("ab"):
        raise ValueError(f"formats is {shown(formats)}; allowed are {allowed}")
    both = [_operand_format(name) for name in names]
    sizes = tuple(each_of(shape, "shape", "three sizes m, n, k"))
    if len(sizes) != len("mnk"):
        raise ValueError(f"shape is {shown(shape)}; allowed are three sizes m, n, k")
    m, n, k = (integer(size, name, least=1) for size, name in zip(sizes, "mnk", strict=True))
    rng = np.random.default_rng((m, n, k))
    match both:
        case [AffineFormat() as lhs, AffineFormat() as rhs]:
            box = BlackBox(product, m, n, k, rounds_integers=True)
            return identify_integers(box, Integers(lhs, rhs), rng)
        case [FloatFormat() as left, FloatFormat() as right]:
            box = BlackBox(product, m, n, k)
            return _search(box, gather(box, Formats(left, right), rng), rng)
    raise ValueError(
        f"formats is {shown(formats)}; allowed are two floating-point formats or two of integers"
    )


def _operand_format(name: str) -> FloatFormat | AffineFormat:
    try:
        fmt = get_format(name)
    except (TypeError, ValueError) as error:
        raise type(error)(f"formats has {shown(name)}, two names are a pair: {error}") from None
    match fmt:
        case FloatFormat() as fmt if fmt.fits(BINARY32):
            return fmt
        case AffineFormat(granularity=Granularity.TENSOR) as fmt:
            return fmt
    raise ValueError(
        f"formats has {shown(name)}; allowed are floating-point formats that float32 holds, and "
        "integers such as int8"
    )


def _search(box: BlackBox, facts: Facts, rng: np.random.Generator) -> Identified:
    edges = _edges(box, facts, rng)
    blocks = BlockSearch(box, facts, rng)
    rest = [other_chains(facts), blocks.others()]
    if facts.adds_several:
        rest.reverse()
    candidates = chain(blocks.likely(), plain_chains(facts), blocks.usual(), *rest)
    tried: list[MatmulSpec] = []
    for candidate in islice(candidates, _CANDIDATES):
        tried.append(candidate)
        if not explains(candidate, facts.whole):
            continue
        found = _at_the_edges(candidate, edges)
        fresh = _fresh(box, facts, rng) if found else []
        found = [spec for spec in found[:_MOST_EQUAL] if explains(spec, [*fresh, *box.answers])]
        if found:
            named = [spec for spec in _machines(found[0]) if explains(spec, box.answers)]
            found = sorted(dict.fromkeys([*found, *named]), key=lambda spec: len(str(spec)))
            return recovered(box, found, fresh, facts.findings)
        facts.whole += fresh[:1]
    return contradicted(box, tried[:_MOST_NEAR] or list(_plain(facts)), facts.findings)


def _edges(box: BlackBox, facts: Facts, rng: np.random.Generator) -> Edges:
    size = facts.formats, box.m, box.n, box.k
    lowest = facts.formats.lowest + _ABOVE
    exponents = {max(emin, lowest) for emin in (*(fmt.emin for fmt in facts.results), -126, -14)}
    asked = [probes.tiny(rng, *size, exponent) for exponent in sorted(exponents)]
    tiny = [box.ask(a, b) for a, b in asked]
    return Edges(tiny, [facts.extreme])


def _fresh(box: BlackBox, facts: Facts, rng: np.random.Generator) -> list[Answer]:
    """Ask for products that no candidate has seen."""
    size = facts.formats, box.m, box.n, box.k
    asked = [probes.mixed(rng, *size, slice(0, box.k), facts.widest) for _ in range(_FRESH)]
    asked += [probes.layered(rng, *size, facts.widest) for _ in range(_FRESH // 2)]
    asked.append(probes.cancelled(rng, *size, slice(0, box.k), facts.sizes))
    asked.append(probes.extreme(rng, *size))
    return [box.ask(a, b) for a, b in asked]


def _at_the_edges(spec: MatmulSpec, edges: Edges) -> list[MatmulSpec]:
    """Return a spec with the subnormals, overflows and exponents of zero that agree, if any do."""
    usual = [(order, flushes, flushed) for flushes in _FLUSHED for order in _orders(spec)]
    others = [(order, (), flushed) for order in _orders(spec, _ZEROS)]
    tiny = [
        (spec.order, flushes, partial(flushed, subnormals=kind))
        for kind in _TINY
        for flushes in _FLUSHED[1:]
    ]
    plain = usual[: len(usual) // len(_FLUSHED)]
    for ways in (plain, usual, tiny, others):
        changed = (_changed(spec, *way) for way in ways)
        tried = chain(changed, _machines(spec) if ways is plain else ())
        distinct = dict.fromkeys(x for x in tried if x is not None)
        small = [x for x in distinct if explains(x, edges.tiny)]
        for overflows in _SATURATED:
            large = (_changed(x, x.order, overflows, saturating) for x in small)
            found = [x for x in large if x is not None and explains(x, edges.extreme)]
            if found:
                return sorted(dict.fromkeys(found), key=lambda x: len(str(x)))
    return []


def _changed(
    spec: MatmulSpec,
    order: AnyOrder,
    names: tuple[str, ...],
    change: Callable[[RoundingSpec], RoundingSpec],
) -> MatmulSpec | None:
    """Return a spec with another order and some roundings changed; None if there is no such."""
    try:
        parts = {name: getattr(spec, name) for name in names}
        fields: dict[str, Any] = {name: change(x) for name, x in parts.items() if x is not None}
        return replace(spec, order=order, **fields)
    except ValueError:
        return None


def _machines(spec: MatmulSpec) -> Iterator[MatmulSpec]:
    """Yield the machines' own products with the operands, schedule and output of a spec."""
    if not isinstance(spec.order, FusedBlock | StepBlock):
        return
    assert spec.lhs is not None
    assert spec.rhs is not None
    names = spec.lhs.format.name, spec.rhs.format.name
    for machine in (*MACHINES, *MATRIX_UNITS):
        try:
            own = MatmulSpec.parse(f"{machine}:{'_'.join(dict.fromkeys(names))}")
        except ValueError:
            continue  # a machine without such operands
        assert isinstance(own.order, FusedBlock | StepBlock)
        try:
            order = replace(own.order, schedule=spec.order.schedule)
            yield replace(own, order=order, output=spec.output)
        except ValueError:
            continue  # steps that do not fit the schedule


def _orders(spec: MatmulSpec, zeros: int = 0) -> Iterator[AnyOrder]:
    """Yield the order; of a fused block those with the usual exponent of zero, or this many."""
    order = spec.order
    yield order
    if isinstance(order, FusedBlock):
        emin = numbers(spec.accumulator).emin
        yield replace(order, zero_exponent=emin - 5 - max(order.fraction_bits - 23, 0))
        for exponent in range(emin, emin - zeros, -1):
            yield replace(order, zero_exponent=exponent)


def _plain(facts: Facts) -> Iterator[MatmulSpec]:
    """Yield usual orders, for a product that no candidate explains."""
    usual = Roundings(facts.lhs[0], facts.rhs[0], RoundingSpec(format=facts.results[0]))
    plain = rounding_candidates(facts, Tier()) or [usual]
    orders = "sequential", "pairwise", "blocked8", "exact"
    for roundings, order in combinations(plain[:1], orders):
        if (spec := spec_of(order, roundings)) is not None:
            yield spec
