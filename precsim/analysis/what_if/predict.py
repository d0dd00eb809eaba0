"""What a format would make of a tensor, predicted from its statistics.

The counts of range events are those of the tensor, since all numbers of a cell have the same.
Errors are sums over the cells of the mean square error in each: where the discarded bits are known
it is that of these bits, else that of bits that are equally likely.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from precsim._arrays import is_traced
from precsim.analysis.ranges import Shares
from precsim.analysis.what_if.cells import num_cells, places, window_columns
from precsim.analysis.what_if.predict_blocks import predict_blocks
from precsim.analysis.what_if.rounded_cells import (
    Cells,
    Errors,
    best_window,
    count_events_of,
    errors_of,
    mean_square,
    rounded,
    signed_cells,
    sum_in_window,
)
from precsim.analysis.what_if.statistics import TensorStatistics
from precsim.formats.carrier import FLOAT64
from precsim.formats.reals import exponent_of_power
from precsim.formats.scaled import scaled_format
from precsim.rounding.kernel.limits import limits
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec, SpecLike


@dataclass(frozen=True, kw_only=True)
class Prediction(Shares):
    """What a rounding would do to a tensor: range events, and the error.

    Parameters
    ----------
    spec : RoundingSpec
        Format and rule.
    scale : float
        What the numbers are multiplied with first.
    elements, nonzero, underflowed, subnormal, overflowed, saturated, nan : int
        Counts as of `precsim.errors.RangeRates`; so are the shares.
    sqnr : float
        In dB, as `precsim.sqnr` of the rounded numbers, both multiplied with `scale`.

    Examples
    --------
    >>> import precsim as ps
    >>> stats = ps.errors.statistics([1.0, 1e-9, 0.0, -0.0, 1e-2, 500.0])
    >>> prediction = ps.errors.predict(stats, "e4m3:saturate")
    >>> prediction.saturated, prediction.underflow_of_nonzero, round(prediction.sqnr, 1)
    (1, 0.25, 19.7)
    """

    spec: RoundingSpec
    scale: float
    elements: int
    nonzero: int
    underflowed: int
    subnormal: int
    overflowed: int
    saturated: int
    nan: int
    sqnr: float


def predict(stats: TensorStatistics, spec: SpecLike, *, scale: float = 1.0) -> Prediction:
    """Return what ``round_to(x * scale, spec)`` would do to the tensor of some statistics.

    Parameters
    ----------
    stats : TensorStatistics
        What `statistics` returned for the tensor, or the merged statistics of several.
    spec : str, Format or RoundingSpec
        Format and rule, in any mode but "sr": of single numbers, or a block format of rule "floor"
        (MX) if the statistics have blocks of its size.
    scale : float
        A power of two.

    Returns
    -------
    Prediction
        Counts, shares and SQNR.

    Raises
    ------
    ValueError
        If `scale` is no power of two, or `spec` rounds stochastically or has scales of another
        rule (so have nvfp4, affine and tile formats); if the statistics have no blocks of its size,
        have blocks whose scale would be at an end of its range, or do not tell which side of an end
        of the format numbers are on; if float64 does not hold the format.
    TypeError
        If `stats` are no statistics, or have no values yet (under jit).

    Notes
    -----
    Counts: exact. Products with `scale` are taken as exact numbers, also where the carrier would
    lose them.

    SQNR: within 0.1 dB of the measured one from some hundred elements on, within 0.3 dB for ten,
    if the mode is to nearest, toward or away from zero. The largest number counts exactly. Of the
    others each stands for the mean square error of its cell, which is 1/64 of a binade; where a
    binade keeps 3 to 15 bits after the first, for that of the seven bits that follow, which are
    counted by exponent. Signs are not, so toward plus or minus infinity the SQNR can be off by 2 dB
    where few numbers have most of the energy. Blocks: the same from the first ten bits, for largest
    numbers from 1e-15 to 1e15 (else NaN). NaN where an element is NaN or infinite; minus infinity
    where one overflows to infinity.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> gradients = np.float32([1e-3, 3e-6, 2e-8, 1e-9])
    >>> stats = ps.errors.statistics(gradients)
    >>> [ps.errors.predict(stats, "fp16", scale=2.0**k).underflowed for k in (0, 4, 10)]
    [2, 1, 0]
    """
    if not isinstance(stats, TensorStatistics):
        raise TypeError(f"stats is {type(stats).__name__}; allowed is what statistics returns")
    if is_traced(stats.counts):
        raise TypeError("stats are values that JAX traces; allowed is their use outside of jax.jit")
    spec = RoundingSpec.parse(spec)
    if spec.mode is RoundingMode.STOCHASTIC:
        raise ValueError("spec rounds stochastically; allowed are modes that need no random bits")
    shift = exponent_of_power(scale, "scale")
    if scaled_format(spec.format) is None:
        limits(spec, FLOAT64)  # refuses what float64 does not hold
        cells = _cells(np.asarray(stats.counts, np.int64), stats, shift)
        events = count_events_of(cells, np.asarray(stats.specials), spec)
        sqnr = _sqnr(stats, shift, spec)
    else:
        events, sqnr = predict_blocks(stats, spec, shift)
    return Prediction(spec=spec, scale=float(scale), **events._asdict(), sqnr=sqnr)


def _cells(table: np.ndarray, stats: TensorStatistics, shift: int) -> Cells:
    """Return the cells of a table that are not empty, of numbers times 2**shift, row by row."""
    row, cell = np.nonzero(table[:, : 2 * num_cells(stats.layout)])
    return signed_cells(stats.layout, table[row, cell], row + (stats.first_exponent + shift), cell)


def _sqnr(stats: TensorStatistics, shift: int, spec: RoundingSpec) -> float:
    """Return the predicted SQNR in dB, by the rules of `precsim.sqnr`."""
    specials = np.asarray(stats.specials)
    if specials[1:].any():
        return math.nan
    table, largest = _without_largest(stats, shift)
    cells = _cells(table, stats, shift)
    errors = errors_of(cells, spec)
    # The largest number is known exactly, and so are zeros.
    alone = np.array([largest, 0.0])
    times = np.array([largest != 0, specials[0]], np.int64)
    becomes = rounded(alone, spec)
    results = np.concatenate([errors.rounded, becomes[times > 0]])
    if np.isnan(results).any():
        return math.nan
    if np.isinf(results).any():
        return -math.inf
    # In units of the largest square, which none leaves the range in.
    top = math.frexp(largest)[1]
    weight = np.ldexp(1.0, 2 * (cells.exponent - top))
    signal = float((cells.counts * weight) @ mean_square(cells)) + math.ldexp(largest, -top) ** 2
    noise = float(times @ np.square(np.ldexp(becomes - alone, -top)))
    noise += _noise(cells, errors, weight, table, stats, shift, spec)
    if not noise:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal else -math.inf


def _without_largest(stats: TensorStatistics, shift: int) -> tuple[np.ndarray, float]:
    """Return the table without the number of largest magnitude, and that number times 2**shift."""
    table, layout = np.array(stats.counts, np.int64), stats.layout
    amax = np.asarray(stats.amax)
    if not amax:
        return table, 0.0
    at = places(amax.reshape(1).view(layout.uint_dtype), layout)
    row, cell = int(at.exponent[0]) - stats.first_exponent, int(at.cell[0])
    is_negative = table[row, cell] == 0
    table[row, [cell + is_negative * num_cells(layout), *(int(w[0]) for w in at.windows)]] -= 1
    return table, math.ldexp(-float(amax) if is_negative else float(amax), shift)


def _noise(
    cells: Cells,
    errors: Errors,
    weight: np.ndarray,
    table: np.ndarray,
    stats: TensorStatistics,
    shift: int,
    spec: RoundingSpec,
) -> float:
    """Return the sum of squared errors of the cells, each times its weight.

    Where the windows tell which bits are discarded, the errors of a row are theirs.
    """
    total = 0.0
    trailing = stats.layout.trailing
    bounds = [0, *(np.flatnonzero(np.diff(cells.exponent)) + 1), cells.exponent.size]
    for start, end in pairwise(bounds if cells.exponent.size else []):
        exponent = cells.exponent[start]
        kept = int(exponent - errors.unit[start])
        count, near = cells.counts[start:end], errors.is_near[start:end]
        window = best_window(kept, spec, is_whole=bool(near.all()))
        rest = count
        if window is not None and near.any():
            row = table[exponent - shift - stats.first_exponent]
            negative = count[near] @ (cells.first[start:end][near] < 0) / count[near].sum()
            inside = row[window_columns(stats.layout, window)]
            found = sum_in_window(inside, window, kept, negative, spec) if kept < trailing else 0.0
            share = count[near].sum() / count.sum()
            total += weight[start] * share * math.ldexp(found, -2 * kept)
            rest = np.where(near, 0, count)
        total += float((rest * weight[start:end]) @ errors.mean_square[start:end])
    return float(total)
