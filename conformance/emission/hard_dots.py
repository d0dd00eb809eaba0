"""Dot products at which machines differ: what is cut off, in which order, and special values."""

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import precsim as ps

MOST_BITS = 44
"""How far below the largest term a small one is placed at most, in binades."""
ALONE_BITS = range(18, 31)
"""How far it is placed where nothing cancels, so that the last rounding decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the numbers of a dot product may be."""

    lhs: ps.FloatFormat
    rhs: ps.FloatFormat
    sums: ps.FloatFormat
    count: int
    """Products of a case."""
    length: int
    """Products of a step."""
    scale: ps.FloatFormat | None = None
    blocks: tuple[int, int] = (0, 0)
    """Numbers that share a scale, of each operand."""
    ones: tuple[tuple[float, ...], tuple[float, ...]] = field(init=False)
    """Scales of 1 for all blocks of both operands."""

    def __post_init__(self) -> None:
        """Derive the scales."""
        numbers = [-(-self.count // size) if size else 0 for size in self.blocks]
        object.__setattr__(self, "ones", tuple((1.0,) * n for n in numbers))


class Dot(NamedTuple):
    """Values of one case."""

    a: tuple[float, ...]
    b: tuple[float, ...]
    a_scales: tuple[float, ...]
    b_scales: tuple[float, ...]
    c: float


class Term(NamedTuple):
    """Two factors at a place."""

    place: int
    x: float
    y: float


def hard_dots(shape: Shape) -> Iterator[Dot]:
    """Yield the hard cases: special values and scales, cancellations, ties, ends of the range."""
    yield from _specials(shape)
    if shape.scale is not None:
        yield from _scaled(shape)
    yield from _cancelling(shape)
    yield from _alone(shape)
    yield from _accumulators(shape)
    yield from _ends(shape)
    yield from _full(shape)


def random_dot(shape: Shape, rng: random.Random) -> Dot:
    """Draw a case: any codes, numbers near one, of many sizes, or few that nearly cancel."""
    sort = rng.randrange(4)
    a = [_drawn(shape.lhs, sort, rng) for _ in range(shape.count)]
    b = [_drawn(shape.rhs, sort, rng) for _ in range(shape.count)]
    if sort == 3:
        half = shape.count // 2
        keeps = shape.lhs.has_negative_zero
        a[half : 2 * half] = [-x if x or keeps else x for x in a[:half]]
        b[half : 2 * half] = b[:half]
        a[rng.randrange(shape.count)] = _drawn(shape.lhs, 1, rng)
    c = _drawn(shape.sums, sort, rng) if rng.random() < 0.8 else 0.0
    if sort in (1, 2):  # a largest element in each block, as quantization leaves it
        for values, size, fmt in zip((a, b), shape.blocks, (shape.lhs, shape.rhs), strict=True):
            for start in range(0, shape.count, size) if size else ():
                values[start + rng.randrange(size)] = rng.choice((1, -1)) * fmt.max_finite
        c = c if rng.random() < 0.5 else 0.0
    scales = [tuple(_drawn_scale(shape, sort, rng) for _ in ones) for ones in shape.ones]
    return Dot(tuple(a), tuple(b), scales[0], scales[1], c)


def _drawn(fmt: ps.FloatFormat, sort: int, rng: random.Random) -> float:
    """Draw a value of a format; sort 0 is any code."""
    if sort == 0:
        value = ps.oracle.decode_exact(rng.randrange(1 << (fmt.width or 0)), fmt)
        return value if math.isfinite(value) or rng.random() < 0.05 else 0.0
    spread = 1 if sort == 1 else 8
    size = math.ldexp(rng.uniform(-2, 2), rng.randint(-spread, spread))
    return ps.oracle.round_exact(
        size, ps.RoundingSpec(format=fmt, overflow=ps.OverflowMode.SATURATE)
    ).value


def _drawn_scale(shape: Shape, sort: int, rng: random.Random) -> float:
    """Draw a scale; of sort 0 any that is not negative, of the others one near 1."""
    assert shape.scale is not None
    fmt = shape.scale
    if sort == 0:
        value = ps.oracle.decode_exact(rng.randrange(1 << ((fmt.width or 0) - fmt.is_signed)), fmt)
        return value if math.isfinite(value) else 1.0
    size = math.ldexp(rng.uniform(1, 2), rng.randint(-sort, sort))
    return ps.oracle.round_exact(size, fmt).value


def _dot(
    shape: Shape,
    terms: Iterable[Term | None],
    c: float = 0.0,
    scales: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> Iterator[Dot]:
    """Yield the case of terms at their places, +0 elsewhere; nothing if the formats lack one."""
    a, b = [0.0] * shape.count, [0.0] * shape.count
    for term in terms:
        if term is None or term.place >= shape.count:
            return
        if not (_has(shape.lhs, term.x) and _has(shape.rhs, term.y)):
            return
        a[term.place], b[term.place] = term.x, term.y
    if _has(shape.sums, c):
        a_scales, b_scales = scales or shape.ones
        yield Dot(tuple(a), tuple(b), a_scales, b_scales, c)


def _has(fmt: ps.FloatFormat, x: float) -> bool:
    return _has_with_sign(fmt, x, math.copysign(1.0, x))


@lru_cache(maxsize=1 << 16)
def _has_with_sign(fmt: ps.FloatFormat, x: float, sign: float) -> bool:
    """Return whether a format has a number; the sign is for the cache, which takes -0 for 0."""
    try:
        ps.oracle.encode_exact(x, fmt)
    except ValueError:
        return False
    return True


def _term(shape: Shape, place: int, part: float, exponent: int) -> Term | None:
    """Return factors whose product is ``part * 2**exponent``; None if the formats lack them."""
    low, high = (int(math.log2(x)) for x in (_least(shape.lhs), shape.lhs.max_finite))
    for split in (exponent // 2, exponent - 1, exponent, low, high - 1, high):
        x, y = math.ldexp(part, split), math.ldexp(1.0, exponent - split)
        if _has(shape.lhs, x) and _has(shape.rhs, y):
            return Term(place, x, y)
    return None


def _least(fmt: ps.FloatFormat) -> float:
    return fmt.min_subnormal if fmt.has_subnormals else fmt.min_normal


def _top(shape: Shape) -> int:
    """Return the exponent of a large term whose sums stay in range."""
    top = sum(math.frexp(fmt.max_finite)[1] - 1 for fmt in (shape.lhs, shape.rhs))
    return min(top - 1, shape.sums.emax - 2, 20)


def _specials(shape: Shape) -> Iterator[Dot]:
    """NaN, infinities and zeros of both signs, in both operands and in c."""
    odd = [math.nan, math.inf, -math.inf]
    here = [x for x in odd if _has(shape.lhs, x)]
    there = [0.0, -0.0, 1.0, -1.0, *(x for x in odd if _has(shape.rhs, x))]
    last = shape.count - 1
    for place, x, y in itertools.product((0, shape.length - 1, last), here, there):
        yield from _dot(shape, [Term(place, x, y)])
    for x, y in itertools.product(here, repeat=2):
        for places in ((0, 1), (0, last)):
            yield from _dot(shape, [Term(places[0], x, 1.0), Term(places[1], y, 1.0)])
    zeros = [z for z in (0.0, -0.0) if _has(shape.lhs, z)]
    for c in (0.0, -0.0, *odd):
        yield from _dot(shape, [], c)
        yield from _dot(shape, [Term(0, 1.0, 1.0)], c)
        for x in here:
            yield from _dot(shape, [Term(0, x, 1.0)], c)
        for x in zeros:
            sides = [Term(k, x, 1.0) for k in range(shape.count)]
            yield from _dot(shape, sides, c)
            yield from _dot(shape, [term._replace(y=-1.0) for term in sides], c)
    for c in (0.0, -0.0):
        yield from _dot(shape, [Term(0, 1.0, 1.0), Term(1, -1.0, 1.0)], c)
        yield from _dot(shape, [Term(0, 1.0, 1.0), Term(last, -1.0, 1.0)], c)


def _cancelling(shape: Shape) -> Iterator[Dot]:
    """Yield a large term, a small one, and the large one negated, at places near and far."""
    top, n = _top(shape), shape.length
    places = [(0, 1, 2), (2, 0, 1), (1, 0, n - 1), (0, n - 1, n), (0, n, n + 1), (n, 0, n - 1)]
    for bits in range(1, MOST_BITS + 1):
        for (first, small, second), part in itertools.product(places, (1.5, -1.5)):
            terms = [
                _term(shape, first, 1.0, top),
                _term(shape, small, part, top - bits),
                _term(shape, second, -1.0, top),
            ]
            if len({first, small, second}) == 3:
                yield from _dot(shape, terms)


def _alone(shape: Shape) -> Iterator[Dot]:
    """Yield a large term and small ones, at and beside the ties of the result."""
    top = _top(shape)
    for bits, far in itertools.product(ALONE_BITS, (1, shape.length)):
        for part, more in itertools.product((1.0, 1.5, -1.0, -1.5), (0.0, 1.0, -1.0)):
            terms = [_term(shape, 0, 1.0, top), _term(shape, far, part, top - bits)]
            if more:
                terms.append(_term(shape, 2, more, top - bits - 6))
            yield from _dot(shape, terms)
            yield from _dot(shape, [_term(shape, far, part, top - bits)], math.ldexp(1.0, top))


def _accumulators(shape: Shape) -> Iterator[Dot]:
    """Yield c as the large number beside small products, and as the small one."""
    top, last = _top(shape), 2.0 - 2.0 ** (1 - shape.sums.precision)
    for bits in range(MOST_BITS + 1):
        for sign in (1.0, -1.0):
            large = math.ldexp(1.0, top)
            small = [_term(shape, k, 1.5 * sign, top - bits) for k in (1, shape.length)]
            for place, term in zip((0, shape.length + 1), small, strict=True):
                yield from _dot(shape, [_term(shape, place, -1.0, top), term], large)
            for part, second in itertools.product((1.5, last), (1, shape.length)):
                terms = [_term(shape, 0, 1.0, top), _term(shape, second, -1.0, top)]
                yield from _dot(shape, terms, sign * math.ldexp(part, top - bits))
            yield from _dot(
                shape, [_term(shape, 0, sign, top)], -sign * math.ldexp(last, top - bits)
            )


def _ends(shape: Shape) -> Iterator[Dot]:
    """Yield sums that overflow or nearly do, subnormal operands and subnormal sums."""
    largest = shape.sums.max_finite
    place = shape.sums.emax - shape.sums.precision + 1
    ones: Sequence[Term | None]
    for sign, part in itertools.product((1.0, -1.0), (1.0, 1.5, -1.0)):
        for exponent in (place - 8, place - 2, place - 1, place, place + 1):
            yield from _dot(shape, [_term(shape, 1, sign * part, exponent)], sign * largest)
        for exponent in (shape.sums.emax - 1, shape.sums.emax, shape.sums.emax + 1):
            ones = [_term(shape, k, sign, exponent) for k in (0, 1)]
            yield from _dot(shape, ones[:1])
            yield from _dot(shape, ones)
            yield from _dot(shape, [*ones, _term(shape, 2, -sign, exponent)])
            yield from _dot(shape, [ones[0], _term(shape, shape.length, -sign, exponent)])
    for sign, (x, y) in itertools.product(
        (1.0, -1.0), itertools.product(*map(_small, (shape.lhs, shape.rhs)))
    ):
        for c in (0.0, _least(shape.sums), -shape.sums.min_normal, 1.0):
            yield from _dot(shape, [Term(0, sign * x, y)], c)
            yield from _dot(shape, [Term(0, sign * x, y), Term(1, x, y), Term(2, x, y)], c)


def _small(fmt: ps.FloatFormat) -> list[float]:
    """Return the ends of a format's subnormals, 1 and the largest value."""
    least = _least(fmt)
    numbers = [least, 3 * least, fmt.min_normal - least, fmt.min_normal, 1.0, fmt.max_finite]
    return [x for x in dict.fromkeys(numbers) if x and _has(fmt, x)]


def _full(shape: Shape) -> Iterator[Dot]:
    """Yield cases without zeros: all terms equal, alternating, and one of them larger."""
    for (x, y), c in itertools.product(
        itertools.product(_small(shape.lhs), _small(shape.rhs)), (0.0, 1.0, -shape.sums.max_finite)
    ):
        same = [Term(k, x, y) for k in range(shape.count)]
        yield from _dot(shape, same, c)
        yield from _dot(shape, [t._replace(x=-x) if t.place % 2 else t for t in same], c)
        yield from _dot(shape, [t._replace(x=-x) for t in same[:-1]], c)


def _scaled(shape: Shape) -> Iterator[Dot]:
    """Yield scales of every kind: NaN, zero, subnormal, largest, odd, and of different blocks."""
    fmt = shape.scale
    assert fmt is not None
    zero = [0.0] if fmt.has_zero else []
    small = [*zero, _least(fmt), fmt.min_normal, 0.5]
    scales = [math.nan, *small, 1.0, 1.125, 2.0, fmt.max_finite]
    scales = [x for x in dict.fromkeys(scales) if _has(fmt, x)]
    ones = shape.ones
    for x, y in itertools.product(scales, repeat=2):
        for place in (0, shape.blocks[0]):
            block = place // shape.blocks[0]
            chosen = tuple(
                tuple(s if k == block else 1.0 for k in range(len(o)))
                for s, o in zip((x, y), ones, strict=True)
            )
            for terms in ([], [Term(place, 1.0, 1.0)], [Term(place, 1.5, -1.0), Term(0, 1.0, 1.0)]):
                yield from _dot(shape, terms, 0.0, (chosen[0], chosen[1]))
                yield from _dot(shape, terms, 1.0, (chosen[0], chosen[1]))
    high, low = (shape.lhs.max_finite, shape.rhs.max_finite), 1.0
    for bits in range(1, MOST_BITS + 1):
        near = [s for s in (2.0**-bits, 1.5 * 2.0**-bits) if _has(fmt, s)]
        for s in near:  # the second block is smaller by its scale alone; every block has a maximum
            a_scales = (1.0, s, *ones[0][2:])
            first, second = Term(0, high[0], high[1]), Term(shape.blocks[0], high[0], high[1])
            rest = Term(1, -high[0], high[1])
            yield from _dot(shape, [first, second], 0.0, (a_scales, ones[1]))
            yield from _dot(shape, [first, second, rest], 0.0, (a_scales, ones[1]))
            yield from _dot(shape, [first, second._replace(x=-low)], 0.0, (a_scales, ones[1]))
