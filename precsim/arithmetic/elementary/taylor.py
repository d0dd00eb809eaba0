"""Taylor coefficients of elementary functions on grids of points, computed with Python integers.

No number here is pasted: each table starts at one known value and follows the function's
differential equation from point to point, in fixed point with three times the bits that the table
keeps. A table is built on first use (about 0.1 s the largest) and cached. Tests compare every table
with MPFR.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

Series = list[int]
"""Taylor coefficients at one point, times 2**scale."""


class Table(NamedTuple):
    """Polynomials in v, one a cell: ``p(v) = c[0] + 2**-shift * v * (c[1] + v * (c[2] + ...))``.

    The argument, divided by ``2**argument_bits``, is a fraction of two words: its first
    `index_bits` bits are the number i of the cell, what follows is v, again a fraction.
    ``hi[n, i]`` and ``lo[n, i]`` are the words of c[n]: c[0] an unsigned fraction, the others
    signed ones (two's complement).
    """

    hi: np.ndarray
    lo: np.ndarray
    argument_bits: int
    index_bits: int
    shift: int


class Function(NamedTuple):
    """What a table holds: a function of an argument from 0 on, on cells of width 2**-spacing."""

    series: Callable[[int, int, int], Iterator[Series]]
    rows: int
    spacing: int
    argument_bits: int


@lru_cache(maxsize=32)
def table(name: str, width: int) -> Table:
    """Return the table of a function, with words of `width` bits."""
    function = FUNCTIONS[name]
    bits = 2 * width
    scale = 3 * bits
    terms = bits // 6 + 5
    rows = [
        [c >> (function.spacing * max(n - 1, 0)) for n, c in enumerate(series)]
        for series in function.series(function.rows, terms, scale)
    ]
    # Partial sums stay below 2**guard / 2; the first coefficient is outside of them.
    guard = max(sum(map(abs, row[1:])) for row in rows).bit_length() + 1 - scale
    shift = function.spacing - guard
    words = [[min(_rounded(row[0], scale - bits), (1 << bits) - 1) for row in rows]]
    for column in range(1, terms):
        if max(abs(row[column]) for row in rows) >> (scale - bits + function.spacing - 2):
            drop = scale - bits + guard
            words.append([_rounded(row[column], drop) % (1 << bits) for row in rows])
    unsigned = np.uint32 if width == 32 else np.uint64
    hi = np.array([[w >> width for w in row] for row in words], unsigned)
    lo = np.array([[w & ((1 << width) - 1) for w in row] for row in words], unsigned)
    index_bits = function.argument_bits + function.spacing
    return Table(hi, lo, function.argument_bits, index_bits, shift)


def log_of_two(bits: int) -> int:
    """Return floor(2**bits * log(2))."""
    return 2 * _atanh(3, bits + 16) >> 16


def log2_of_e(bits: int) -> int:
    """Return floor(2**bits / log(2))."""
    return (1 << (2 * bits + 16)) // log_of_two(bits + 16)


def _rounded(number: int, drop: int) -> int:
    return (number + (1 << (drop - 1))) >> drop


def _atanh(denominator: int, scale: int) -> int:
    """Return 2**scale * atanh(1/denominator), cut off."""
    power = (1 << scale) // denominator
    total, n = 0, 1
    while power:
        total += power // n
        power //= denominator**2
        n += 2
    return total


def _pi(scale: int) -> int:
    """Machin: pi / 4 = 4 * atan(1/5) - atan(1/239)."""
    total = 0
    for factor, denominator in ((16, 5), (-4, 239)):
        power, n = (factor << scale) // denominator, 1
        while power not in (0, -1):
            total += power // n
            power = -power // denominator**2
            n += 2
    return total


def _sum(series: Series, spacing: int) -> int:
    """Evaluate at the next point."""
    total = 0
    for c in reversed(series):
        total = (total >> spacing) + c
    return total


def _over_argument(series: Series, i: int, spacing: int) -> Series:
    """Divide the series of a function that is 0 at 0 by its argument ``i * 2**-spacing + h``."""
    if i == 0:
        return [*series[1:], 0]
    quotient: Series = []
    for c in series:
        quotient.append(((c - (quotient[-1] if quotient else 0)) << spacing) // i)
    return quotient


def _exp(rows: int, terms: int, scale: int) -> Iterator[Series]:
    """exp(u - 3/8) / 2, cells of 2**-6."""
    start, power, n = 0, 1 << scale, 0
    while power not in (0, -1):
        start += power
        n += 1
        power = -power * 3 // (8 * n)
    for _ in range(rows):
        series = [start >> 1]
        for n in range(1, terms):
            series.append(series[-1] // n)
        yield series
        start = 2 * _sum(series, 6)


def _log(rows: int, terms: int, scale: int) -> Iterator[Series]:
    """log(1 + t) / (2 * t) for t = u - 1/4, cells of 2**-7."""
    start = -2 * _atanh(7, scale)  # log(3/4)
    for i in range(rows):
        series, power = [start], 1 << scale
        for n in range(1, terms):
            power = (power << 7) // (96 + i)
            series.append((power if n % 2 else -power) // n)
        yield [c >> 1 for c in _over_argument(series, i - 32, 7)]
        start = _sum(series, 7)


def _tanh(rows: int, terms: int, scale: int) -> Iterator[Series]:
    """tanh(x) / x, times 2**max(floor(log2(x)), -1), cells of 2**-6."""
    start = 0
    for i in range(rows):
        series = [start]
        for n in range(terms - 1):  # y' = 1 - y**2
            square = sum(series[k] * series[n - k] for k in range(n + 1)) >> scale
            series.append((((n == 0) << scale) - square) // (n + 1))
        yield _in_binade(_over_argument(series, i, 6), i)
        start = _sum(series, 6)


def _erf(rows: int, terms: int, scale: int) -> Iterator[Series]:
    """erf(x) / x, times 2**max(floor(log2(x)), -1), cells of 2**-6."""
    start = 0
    density = (2 << (2 * scale)) // math.isqrt(_pi(scale) << scale)  # 2 / sqrt(pi)
    for i in range(rows):
        slopes, series = [density], [start, density]
        for n in range(terms - 2):  # g' = -2 * x * g
            before = slopes[n - 1] if n else 0
            slopes.append(-2 * ((i * slopes[n] >> 6) + before) // (n + 1))
            series.append(slopes[-1] // (n + 2))
        yield _in_binade(_over_argument(series, i, 6), i)
        start, density = _sum(series, 6), _sum(slopes, 6)


def _in_binade(series: Series, i: int) -> Series:
    exponent = max(i.bit_length() - 7, -1)
    return [c << exponent if exponent >= 0 else c >> 1 for c in series]


def _rsqrt(rows: int, terms: int, scale: int) -> Iterator[Series]:
    """1 / sqrt(1 + t), cells of 2**-6."""
    for i in range(rows):
        series = [math.isqrt((64 << (2 * scale)) // (64 + i))]
        for n in range(terms - 1):
            series.append(-series[-1] * (2 * n + 1) * 32 // ((n + 1) * (64 + i)))
        yield series


FUNCTIONS = {
    "exp": Function(_exp, 47, 6, 0),
    "log": Function(_log, 96, 7, 0),
    "tanh": Function(_tanh, 1288, 6, 5),
    "erf": Function(_erf, 388, 6, 3),
    "rsqrt": Function(_rsqrt, 192, 6, 2),
}
"""The functions that have tables, and the cells: together they cover the reduced arguments."""
