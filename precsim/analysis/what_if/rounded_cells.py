"""What a rounding does to cells: range events, and mean square errors.

Each cell of `precsim.analysis.what_if.cells` is rounded through its first and its last number, by
the one kernel.
"""

from typing import NamedTuple

import numpy as np

from precsim.analysis.what_if.cells import LEADING, SEEN, WINDOWS, ends
from precsim.formats.carrier import FLOAT64
from precsim.formats.layout import Layout
from precsim.rounding.events import Events, classify
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.modes import Direction, RoundingMode
from precsim.rounding.spec import RoundingSpec
from precsim.rounding.ulp import ulp_bits

_LEAST, _MOST = -1022, 1023
"""Exponents of the normal float64 numbers, in which the ends of cells are rounded."""


class Cells(NamedTuple):
    """Cells with their numbers, each an entry: shape (n,)."""

    counts: np.ndarray
    exponent: np.ndarray
    first: np.ndarray
    """The end next to zero, with its sign."""
    last: np.ndarray


def within_range(exponent: np.ndarray) -> np.ndarray:
    """Return exponents as they are; refuse those of no normal float64 numbers."""
    if exponent.size and not _LEAST <= exponent.min() <= exponent.max() <= _MOST:
        raise ValueError(
            "scale takes numbers out of float64's normal range: their exponents would be "
            f"{exponent.min()} to {exponent.max()}; allowed are {_LEAST} to {_MOST}"
        )
    return exponent


def signed_cells(
    layout: Layout, count: np.ndarray, exponent: np.ndarray, cell: np.ndarray
) -> Cells:
    """Return cells by exponent and column, those of negative numbers after those of positive."""
    edges, exponent = ends(layout), within_range(exponent)
    num = edges.first.size
    sign = np.where(cell < num, 1.0, -1.0)
    first, last = (
        sign * np.ldexp(1.0 + bits[cell % num] * 2.0**-layout.trailing, exponent) for bits in edges
    )
    return Cells(count.astype(np.int64), exponent, first, last)


def count_events_of(cells: Cells, specials: np.ndarray, spec: RoundingSpec) -> Events:
    """Count range events; refuse if those of a cell's first and last number differ.

    `specials` counts zeros, infinities, minus infinities and NaN.
    """
    special = np.array([0.0, np.inf, -np.inf, np.nan])
    count = np.concatenate([cells.counts, specials])
    first, last = (np.concatenate([x, special]) for x in (cells.first, cells.last))
    masks, others = (
        np.stack([np.broadcast_to(m, x.shape) for m in classify(x, rounded(x, spec), spec)])
        for x in (first, last)
    )
    differ = (masks != others).any(axis=0)
    if differ.any():
        n = int(np.argmax(differ))
        raise ValueError(
            f"spec is {spec}, whose range ends between {float(first[n])!r} and {float(last[n])!r}, "
            f"where the statistics do not tell {int(count[n])} numbers apart; allowed are formats "
            "that end at numbers of few bits"
        )
    return Events(*(int(n) for n in masks @ count))


def rounded(x: np.ndarray, spec: RoundingSpec) -> np.ndarray:
    """Round float64 numbers by the kernel, in NumPy: there are few, and compiling takes long."""
    return np.asarray(round_array(x, None, spec))


def _unit(x: np.ndarray, spec: RoundingSpec) -> np.ndarray:
    """Return the exponents of the ulps around numbers."""
    ulps = np.asarray(ulp_bits(x.view(np.uint64), spec.format, FLOAT64))
    return np.frexp(ulps.view(np.float64))[1] - 1


class Errors(NamedTuple):
    """Mean square errors of cells, and where the bits further down tell more."""

    rounded: np.ndarray
    """What the first numbers become."""
    mean_square: np.ndarray
    """In units of 4**(exponent of the cell)."""
    unit: np.ndarray
    """Exponents of the ulps."""
    is_near: np.ndarray
    """Whether the numbers of the cell go to values within an ulp of them."""


def errors_of(cells: Cells, spec: RoundingSpec) -> Errors:
    """Return the mean square error in each cell, if all its numbers are equally likely."""
    first, last = rounded(cells.first, spec), rounded(cells.last, spec)
    unit = _unit(cells.first, spec)
    with np.errstate(invalid="ignore"):
        coarse = mean_square(cells, first)
        steps = (np.abs(r - x) for r, x in zip((first, last), cells[2:], strict=True))
        is_near = np.maximum(*steps) <= np.ldexp(1.0, unit)
    # Between ends that become the same number, far below an ulp, this is of no use.
    below = np.where(first == last, 0, unit - cells.exponent)
    fine = np.ldexp(_equally_likely(spec), 2 * below)
    return Errors(first, np.where(first == last, coarse, fine), unit, is_near)


def mean_square(cells: Cells, target: np.ndarray | float = 0.0) -> np.ndarray:
    """Return the mean of (x - target)**2 over each cell, in units of 4**(exponent of the cell)."""
    middle = np.ldexp(cells.first / 2 + cells.last / 2 - target, -cells.exponent)
    half = np.ldexp(cells.last / 2 - cells.first / 2, -cells.exponent)
    return np.asarray(np.square(middle) + np.square(half) / 3)


def _equally_likely(spec: RoundingSpec) -> float:
    """Return the mean square error in ulps squared if all discarded bits are equally likely."""
    return 1 / 12 if spec.mode.is_nearest else 1 / 3


def best_window(kept: int, spec: RoundingSpec, *, is_whole: bool) -> int | None:
    """Return the window that sees most of what is discarded below so many bits after the first.

    To tell odd from even, it has to see the last bit that is kept, too. None if the cells
    themselves tell more: windows know neither signs nor which part of a binade a number is in.
    """
    asks_for_sign = spec.mode in (RoundingMode.TOWARD_POSITIVE, RoundingMode.TOWARD_NEGATIVE)
    if kept < LEADING - 1 and (asks_for_sign or not is_whole):
        return None
    above = kept - (spec.mode.direction is Direction.ODD and not spec.mode.is_nearest)
    return max((n for n, start in enumerate(WINDOWS) if start <= above), default=None)


def sum_in_window(
    counts: np.ndarray, window: int, kept: int, negative: float, spec: RoundingSpec
) -> float:
    """Return the sum of squared errors in ulps squared of numbers counted in a window.

    `negative` is the share of negative ones.
    """
    counts = counts.astype(np.float64)
    seen = np.arange(counts.size) // 2
    is_more = np.arange(counts.size) % 2 == 1
    known = SEEN - (kept - WINDOWS[window])
    if known < 1:
        return float(counts[is_more].sum()) * _equally_likely(spec)
    low = (seen % (1 << known)) * 2.0**-known
    half = np.where(is_more, 2.0**-known / 2, 0.0)
    middle, spread = low + half, np.square(half) / 3
    if spec.mode.is_nearest:
        return float(counts @ (np.square(middle - (low >= 0.5)) + spread))
    to_zero = np.square(middle) + spread
    away = np.where(middle > 0, np.square(1 - middle) + spread, 0.0)
    is_odd = seen >> known & 1
    shares_away: dict[Direction, float | np.ndarray] = {
        Direction.ZERO: 0.0,
        Direction.AWAY: 1.0,
        Direction.POSITIVE: 1 - negative,
        Direction.NEGATIVE: negative,
        Direction.ODD: 1.0 - is_odd,
    }
    share = shares_away[spec.mode.direction]
    return float(counts @ ((1 - share) * to_zero + share * away))
