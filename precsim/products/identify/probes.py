"""Operands whose products tell arithmetics apart. A probe is data: it knows no answer.

Sums that cancel show in what order products are added (FPRev, arXiv 2411.00442); one term beside a
large one shows where terms are cut off (Fasi et al., PeerJ CS 7:e330).
"""

from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from precsim.formats.floating import FloatFormat
from precsim.rounding.round_to import round_to

_SPREADS = (0, 4, 1, 2)
"""Binades around 1 over which the values of rows and columns are drawn, besides the widest."""
WIDE, CLOSE = 12, 3
"""The widest spread, for sums with the range of float32 and for narrower ones."""
_SHORT = 3
"""Bits of short significands, whose sums are often halfway between two values."""
_OPERAND_BITS = 8
"""Precision of the coarsest format to which float32 operands are usually rounded."""
_TOP = 30
"""Exponent of the largest product of a probe."""


class Formats(NamedTuple):
    """The formats of the values that a product takes."""

    lhs: FloatFormat
    rhs: FloatFormat

    def split(self, exponent: int) -> tuple[float, float]:
        """Return a power of two of each format; their product is of this exponent or near it."""
        low, high = _exponents(self.lhs)
        others = _exponents(self.rhs)
        left = min(max(exponent // 2, low, exponent - others[1]), high, exponent - others[0])
        left = min(max(left, low), high)
        right = min(max(exponent - left, others[0]), others[1])
        return 2.0**left, 2.0**right

    def without_subnormals(self) -> "Formats":
        """Return the formats of the values that a product takes as they are, if it flushes some."""
        return Formats(*(replace(fmt, has_subnormals=False) for fmt in self))

    @property
    def highest(self) -> int:
        """Exponent of the largest power of two that is a product, up to that of large terms."""
        return min(_exponents(self.lhs)[1] + _exponents(self.rhs)[1], _TOP)

    @property
    def lowest(self) -> int:
        """Exponent of the smallest power of two that is a product."""
        return max(_exponents(self.lhs)[0] + _exponents(self.rhs)[0], -149)


def _exponents(fmt: FloatFormat) -> tuple[int, int]:
    """Return the exponents of the smallest and the largest power of two."""
    return max(int(np.log2(fmt.min_subnormal)), -149), min(fmt.emax, 127)


def mixed(
    rng: np.random.Generator,
    formats: Formats,
    m: int,
    n: int,
    k: int,
    window: slice,
    widest: int = CLOSE,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw operands, shapes (m, k) and (k, n), that are zero outside the window of K.

    Rows and columns differ in their spread of exponents; every third has short significands; every
    fifth has pairs of products that nearly cancel. No operand is subnormal, and few sums are small.
    """
    count = len(range(*window.indices(k)))
    a, b = np.zeros((m, k), np.float32), np.zeros((n, k), np.float32)
    a[:, window] = _values(rng, m, count, formats.lhs, widest)
    b[:, window] = _values(rng, n, count, formats.rhs, widest)
    half = count // 2
    if half:
        inside = np.arange(*window.indices(k))
        left, right = inside[:half], inside[half : 2 * half]
        b[::5, right] = b[::5, left]
        a[1::5, right] = -a[1::5, left]
    return a, np.ascontiguousarray(b.T)


def _values(
    rng: np.random.Generator, rows: int, count: int, fmt: FloatFormat, widest: int
) -> np.ndarray:
    values = 1 + rng.random((rows, count))
    short = rng.integers(1 << (_SHORT - 1), 1 << _SHORT, values.shape)
    values[1::3] = short[1::3] / (1 << (_SHORT - 1))
    values *= rng.choice([-1.0, 1.0], values.shape)
    spreads = np.array([*_SPREADS, widest])
    spread = spreads[np.arange(rows) % len(spreads)][:, None]
    exponents = rng.integers(-spread, spread + 1, values.shape)
    values *= np.exp2(np.maximum(exponents, fmt.emin))
    return np.asarray(round_to(values.astype(np.float32), fmt, overflow="saturate"))


def layered(
    rng: np.random.Generator, formats: Formats, m: int, n: int, k: int, widest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw operands whose large and whose middle products cancel in pairs; small ones remain.

    What a compensated sum loses is seen there.
    """
    places = rng.permutation(k)
    pairs = k // 3
    first, second = places[:pairs], places[pairs : 2 * pairs]
    drawn = []
    for rows, fmt in ((m, formats.lhs), (n, formats.rhs)):
        exponents = np.full(k, -widest)
        exponents[first] = np.where(np.arange(pairs) % 2, widest, 0)
        values = (1 + rng.random((rows, k))) * np.exp2(np.clip(exponents, fmt.emin, fmt.emax - 1))
        values *= rng.choice([-1.0, 1.0], values.shape)
        drawn.append(np.asarray(round_to(values.astype(np.float32), fmt, overflow="saturate")))
    drawn[0][:, second], drawn[1][:, second] = -drawn[0][:, first], drawn[1][:, first]
    return drawn[0], np.ascontiguousarray(drawn[1].T)


def ties(
    formats: Formats, m: int, n: int, k: int, precisions: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Lay out sums halfway between two values of a precision, and a tiny product beside.

    They show whether a sum is rounded once or twice. No operand is subnormal.
    """
    a, b = np.zeros((m, k), np.float32), np.zeros((k, n), np.float32)
    low, others = (max(fmt.emin, -126) for fmt in formats)
    for row in range(m):
        precision = precisions[row // 2 % len(precisions)]
        last = 2.0 ** max(1 - precision, low + 1)
        # A sum of even and of odd significand.
        a[row, :3] = (1 + last * (row % 2), last / 2, 2.0 ** max(-precision - 1, low))[: min(k, 3)]
    b[: min(k, 3)] = 1
    if k >= 3:
        tiny = np.exp2(np.maximum(-np.arange(n) // 2 * 2.0, others))
        b[2] = np.where(np.arange(n) % 2, tiny, -tiny)
    return np.asarray(round_to(a, formats.lhs)), b


class Sizes(NamedTuple):
    """Exponents of products that cancel, and of those that remain."""

    large: int
    small: int


def cancelled(
    rng: np.random.Generator,
    formats: Formats,
    m: int,
    n: int,
    k: int,
    window: slice,
    sizes: Sizes,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw operands whose large products cancel in pairs; what small ones lost beside remains.

    A result of few bits shows the roundings of a wider sum there. Rows differ in how many small
    products they have, columns in how many large ones.
    """
    places = rng.permutation(np.arange(*window.indices(k)))
    pairs = len(places) // 4
    first, second, rest = np.split(places, [pairs, 2 * pairs])
    drawn: list[np.ndarray] = []
    large, small = (formats.split(size) for size in sizes)
    for rows, fmt, of_large, of_small in zip((m, n), formats, large, small, strict=True):
        values = (1 + rng.random((rows, k))) * rng.choice([-1.0, 1.0], (rows, k))
        values *= np.exp2(rng.integers(-1, 2, (rows, k)))
        kept = np.zeros((rows, k))
        kept[:, first], kept[:, rest] = of_large, of_small
        thinned = rest if not drawn else first
        share = np.exp2(-(np.arange(rows) % 4.0))[:, None]
        kept[:, thinned] *= rng.random((rows, len(thinned))) < share
        drawn.append(
            np.asarray(round_to((values * kept).astype(np.float32), fmt, overflow="saturate"))
        )
    a, b = drawn
    a[:, second], b[:, second] = -a[:, first], b[:, first]
    return a, np.ascontiguousarray(b.T)


def residual(
    rng: np.random.Generator, formats: Formats, m: int, n: int, k: int, place: int, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a product at a place and one nearly its opposite at the next: rounded, they differ.

    The columns' values have a gap of 1 to 23 zeros after few bits; the second product lacks what
    is behind it.
    """
    gap = np.arange(n) % min(23, formats.rhs.precision) + 1
    short = rng.integers(1 << (_SHORT - 1), 1 << _SHORT, n) / (1 << (_SHORT - 1))
    size = np.exp2(np.minimum(gap, min(top, formats.highest) - 4) // 2)
    a, b = np.zeros((m, k), np.float32), np.zeros((k, n), np.float32)
    left = np.asarray(round_to((1 + rng.random(m)).astype(np.float32), formats.lhs))
    whole = ((short + np.exp2(-gap) * rng.random(n)) * size).astype(np.float32)
    a[:, place] = left
    b[place] = round_to(whole, formats.rhs, overflow="saturate")
    if place + 1 < k:
        a[:, place + 1] = -left
        b[place + 1] = round_to((short * size).astype(np.float32), formats.rhs, overflow="saturate")
    return a, b


def tiny(
    rng: np.random.Generator, formats: Formats, m: int, n: int, k: int, exponent: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw operands whose products lie around a power of two, with zeros among them."""
    drawn = []
    for rows, fmt, size in zip((m, n), formats, formats.split(exponent), strict=True):
        values = rng.standard_normal((rows, k)) * np.exp2(rng.integers(-9, 4, (rows, 1))) * size
        values[rng.random((rows, k)) < 1 / 2] = 0
        values[:, k // 2 :: 3] = 0
        drawn.append(np.asarray(round_to(values.astype(np.float32), fmt, overflow="saturate")))
    return drawn[0], np.ascontiguousarray(drawn[1].T)


def extreme(
    rng: np.random.Generator, formats: Formats, m: int, n: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw operands, few of them not zero, whose products reach over the whole range."""
    drawn = []
    for rows, fmt in zip((m, n), formats, strict=True):
        low, high = _exponents(fmt)
        exponents = np.linspace(low, high, rows)[:, None] + rng.integers(-1, 2, (rows, k))
        values = np.exp2(np.clip(exponents, -149, 127)) * (1 + rng.random((rows, k)) * (1 - 2**-20))
        values *= rng.choice([-1.0, 1.0], (rows, k))
        values[:, 1:][rng.random((rows, k - 1)) < 2 / 3] = 0
        drawn.append(np.asarray(round_to(values.astype(np.float32), fmt, overflow="saturate")))
    return drawn[0], np.ascontiguousarray(drawn[1].T)


def single(
    rng: np.random.Generator, formats: Formats, m: int, n: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw operands with one product per result."""
    return mixed(rng, formats, m, n, k, slice(0, 1))


def alignment(
    formats: Formats, m: int, n: int, k: int, places: tuple[int, int, int], top: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay out a large product, a smaller one, and the large one's opposite at three places of K.

    The third array, shape (m, n), holds the exponent of the smaller products.
    """
    first, middle, last = places
    a, b = np.zeros((m, k), np.float32), np.zeros((k, n), np.float32)
    large_a, large_b = formats.split(top)
    a[:, first], b[first], a[:, last], b[last] = large_a, large_b, large_a, -large_b
    # Columns step by one binade, rows by as many as there are columns, within the formats.
    low, high = _exponents(formats.rhs)
    columns = min(n, int(np.log2(large_b)) - low + 1)
    right = np.log2(large_b) - np.arange(n) % columns
    low, high = _exponents(formats.lhs)
    left = np.clip(np.log2(large_a) - columns * np.arange(m), low, high)
    a[:, middle], b[middle] = np.exp2(left), np.exp2(right)
    return a, b, (left[:, None] + right).astype(np.int64)


def held(
    formats: Formats, m: int, n: int, k: int, unit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay out powers of two, their opposites half of K later, and a unit at the end.

    The third array, shape (m, n), holds the exponents.
    """
    a, b = np.zeros((m, k), np.float32), np.zeros((k, n), np.float32)
    middle = k // 2
    sizes = []
    for count, fmt in ((m, formats.lhs), (n, formats.rhs)):
        high = min(_exponents(fmt)[1], 64)
        sizes.append(np.round(np.linspace(0, high, count)))
    a[:, 0] = a[:, middle] = np.exp2(sizes[0])
    b[0], b[middle] = np.exp2(sizes[1]), -np.exp2(sizes[1])
    a[:, -1], b[-1] = formats.split(unit)
    return a, b, (sizes[0][:, None] + sizes[1]).astype(np.int64)


def subnormal(formats: Formats, m: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Lay out products of the smallest value of each format and a normal one, and say their sum."""
    a, b = np.zeros((m, k), np.float32), np.zeros((k, n), np.float32)
    (low, high), (other_low, other_high) = map(_exponents, formats)
    size = min(-2, low + other_high, high + other_low)
    a[:, 0], b[0] = 2.0**low, 2.0 ** (size - low)
    if k > 1:
        a[:, 1], b[1] = 2.0 ** (size - other_low), 2.0**other_low
    return a, b, 2.0**size * min(k, 2)


def units(
    sizes: tuple[tuple[float, float], tuple[float, float]], m: int, n: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lay out a large product, a unit, and the large one's opposite, further apart in every row.

    Odd columns have a negative unit. `sizes` are a tiny and a large value of each operand.
    """
    (tiny_a, large_a), (tiny_b, large_b) = sizes
    a, b = np.zeros((m, k), np.float32), np.zeros((k, n), np.float32)
    b[0] = large_b
    apart = [(1, 2), *((3 << i, 4 << i) for i in range(k.bit_length()))]
    for row, (middle, last) in enumerate(pair for pair in apart[:m] if pair[1] < k):
        a[row, [0, middle, last]] = large_a, tiny_a, large_a
        b[middle] = np.where(np.arange(n) % 2, -tiny_b, tiny_b)
        b[last] = -large_b
    return a, b


def halves(fmt: FloatFormat, count: int, precisions: list[int]) -> np.ndarray:
    """Return values of a format near 1 that formats of these precisions lack, `count` at most.

    Some are near ties of one precision by as much as another precision decides: a rounding that is
    followed by a coarser one is seen there.
    """
    found: list[float] = [1.0]
    quarters = np.array([1, 2, 3, 5, 6, 7]) / 4
    for precision in precisions:
        found += [*(1 + 2.0 ** (1 - precision) * quarters)]
    for coarse, fine in combinations([p for p in precisions if p >= _OPERAND_BITS], 2):
        for way in (1, -1):
            found += [*(1 + 2.0**-coarse + way * 2.0 ** (1 - fine) * quarters)]
    values = np.array([sign * x for x in found for sign in (1, -1)], np.float32)
    is_value = np.asarray(round_to(values, fmt)) == values
    return np.asarray(values[is_value][:count])


def beside_one(
    values: np.ndarray, m: int, n: int, k: int, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Lay out operands whose results are lhs values less +-1, times a scale.

    Result (i, j) holds value ``i * min(n, k // 2) + j``; its products are at 2j and 2j + 1.
    """
    width = min(n, k // 2)
    a, b = np.zeros((m, k), np.float32), np.zeros((k, n), np.float32)
    for at, value in enumerate(values[: m * width]):
        row, column = divmod(at, width)
        a[row, 2 * column], a[row, 2 * column + 1] = -np.sign(value), value
        b[2 * column : 2 * column + 2, column] = scale
    return a, b
