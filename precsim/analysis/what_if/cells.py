"""The cells that `statistics` counts in: which numbers one of them holds, and where it ends.

A cell is a sign, an exponent, and a set of significands: one short significand alone, or all
between two neighbouring short ones. Short are those of `LEADING` bits after the first, and, near a
power of two, ``2 - 2**-n`` and ``1 + 2**-n``. At such numbers, times powers of two, formats end and
roundings change direction. So all numbers of a cell have the same range events.

The bits further down are counted apart, by exponent, in windows of seven: what a rounding discards
starts in one of them.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from precsim._arrays import Array, leading_zeros, namespace
from precsim.formats.carrier import Carrier, bit_length, floor_log2, select
from precsim.formats.layout import Layout

LEADING = 6
"""Bits of a significand, after the first, that tell cells apart everywhere."""

WINDOWS = (3, 6, 9)
"""How many bits after the first stand above each window."""

SEEN = 7
"""Bits of a window; whether a bit below them is set is one more."""

FIRST = 10
"""Bits after the first that `Places.leading` has."""

_WINDOW_CELLS = 2 << SEEN


class Places(NamedTuple):
    """Where numbers are counted; one entry an element, of the carrier's signed type."""

    exponent: Array
    cell: Array
    """Column among the cells, negative numbers after positive ones."""
    windows: tuple[Array, ...]
    """Columns of the windows."""
    leading: Array
    """Twice the first `FIRST` bits after the first, plus one if any below them is set."""


def num_cells(layout: Layout) -> int:
    """Return the number of cells of one sign and exponent."""
    return (2 << LEADING) + 4 * (layout.trailing - LEADING + 1)


def num_columns(layout: Layout) -> int:
    """Return the number of columns of a table: cells of both signs, then the windows."""
    return 2 * num_cells(layout) + len(WINDOWS) * _WINDOW_CELLS


def window_columns(layout: Layout, window: int) -> slice:
    """Return the columns of a window."""
    first = 2 * num_cells(layout) + window * _WINDOW_CELLS
    return slice(first, first + _WINDOW_CELLS)


def places(bits: Array, carrier: Carrier) -> Places:
    """Return where patterns are counted; for zeros, infinities and NaN that means nothing."""
    u, trailing = carrier.uint, carrier.trailing
    magnitude = bits & u(carrier.sign_bit - 1)
    exponent = floor_log2(magnitude, carrier)
    is_subnormal = magnitude < u(1 << trailing)
    missing = carrier.signed(trailing + 1) - bit_length(magnitude, carrier)
    missing = select(is_subnormal, missing, carrier.signed(0)).astype(carrier.uint_dtype)
    rest = (magnitude << missing) & u((1 << trailing) - 1)
    cell = _cell(rest, carrier) + u(num_cells(carrier)) * (bits >> u(carrier.width - 1))
    windows = tuple(
        _window(rest, SEEN, trailing - above - SEEN, carrier)
        + u(2 * num_cells(carrier) + n * _WINDOW_CELLS)
        for n, above in enumerate(WINDOWS)
    )
    return Places(
        exponent,
        cell.astype(carrier.int_dtype),
        tuple(w.astype(carrier.int_dtype) for w in windows),
        _window(rest, FIRST, trailing - FIRST, carrier).astype(carrier.int_dtype),
    )


def _cell(rest: Array, carrier: Carrier) -> Array:
    """Return the cell of the bits after the first."""
    u, trailing = carrier.uint, carrier.trailing
    aligned = rest << u(carrier.width - trailing)
    zeros = namespace(rest).minimum(leading_zeros(aligned), u(trailing))
    ones = leading_zeros(~aligned)
    run = namespace(rest).maximum(zeros, ones)
    first = select(ones > zeros, u(0), u(trailing - LEADING + 1)) + (run - u(LEADING))
    is_longer = ((aligned << run) << u(1)) != u(0)
    at_end = u(2 << LEADING) + u(2) * first + is_longer.astype(carrier.uint_dtype)
    within = _window(rest, LEADING, trailing - LEADING, carrier)
    return select(run >= u(LEADING), at_end, within)


def _window(rest: Array, size: int, below: int, carrier: Carrier) -> Array:
    """Return twice some bits above the last `below` ones, plus one if any of these is set."""
    u = carrier.uint
    is_more = (rest & u((1 << below) - 1)) != u(0)
    seen = (rest >> u(below)) & u((1 << size) - 1)
    return (seen << u(1)) | is_more.astype(carrier.uint_dtype)


class Ends(NamedTuple):
    """The first and the last number of each cell, as the bits after the first, shape (cells,)."""

    first: np.ndarray
    last: np.ndarray


@lru_cache(maxsize=2)
def ends(layout: Layout) -> Ends:
    """Return where the cells of one sign and exponent start and end, in their order.

    A cell that no number has ends before it starts.
    """
    trailing = layout.trailing
    below = trailing - LEADING
    runs = range(LEADING, trailing + 1)
    points = [n << below for n in range(1 << LEADING)]
    lengths = [1 << below] * len(points)
    points += [(1 << trailing) - (1 << (trailing - n)) for n in runs]
    lengths += [(1 << (trailing - n)) >> 1 for n in runs]
    points += [(1 << (trailing - n)) >> 1 for n in runs]
    lengths += [(1 << (trailing - n)) >> 1 for n in runs]
    first = np.array(points, np.int64)
    length = np.array(lengths, np.int64)
    pairs = np.stack([first, first + 1], axis=1), np.stack([first, first + length - 1], axis=1)
    return Ends(*(each.reshape(-1) for each in pairs))
