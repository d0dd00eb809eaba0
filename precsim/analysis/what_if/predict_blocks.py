"""What a block format of rule "floor" would make of a tensor, predicted from its statistics.

The scale of a block is the exponent of its largest number, less that of the largest element. So
elements are the numbers relative to that exponent, times a power of two: cells again.
"""

import math
from dataclasses import replace

import numpy as np

from precsim.analysis.what_if.block_statistics import BELOW, ENERGY_EXPONENTS, BlockStatistics
from precsim.analysis.what_if.cells import FIRST
from precsim.analysis.what_if.rounded_cells import (
    Cells,
    count_events_of,
    errors_of,
    mean_square,
    signed_cells,
)
from precsim.analysis.what_if.statistics import TensorStatistics
from precsim.formats.block import BlockFormat, ScaleRule
from precsim.formats.carrier import FLOAT32
from precsim.formats.fixed_point import FixedPointFormat
from precsim.rounding.events import Events
from precsim.rounding.modes import InfinityMode
from precsim.rounding.spec import RoundingSpec

_FAR = 300
"""Binades below its block that the last row of counts may hold; further ones round alike."""

_LEAST_ENERGY = -50
"""Exponent of the largest number from which energies have all that matters."""


def predict_blocks(stats: TensorStatistics, spec: RoundingSpec, shift: int) -> tuple[Events, float]:
    """Return the range events and the SQNR of numbers times 2**shift."""
    fmt = spec.format
    if not isinstance(fmt, BlockFormat) or fmt.scale_rule is not ScaleRule.FLOOR or fmt.across > 1:
        raise ValueError(
            f"spec is {spec}, whose scales follow from more than the exponents of blocks; allowed "
            "are formats of single numbers and block formats of rule 'floor', one vector a block"
        )
    blocks = stats.blocks
    if blocks is None or blocks.block_size != fmt.block_size:
        has = "no blocks" if blocks is None else f"blocks of {blocks.block_size}"
        raise ValueError(
            f"stats have {has}, but {fmt} has blocks of {fmt.block_size}; allowed are "
            f"statistics(x, block_size={fmt.block_size})"
        )
    specials = np.asarray(stats.specials, np.int64)
    infinite = int(specials[1] + specials[2])
    if infinite and spec.infinities is not InfinityMode.PROPAGATE:
        raise ValueError(
            f"stats have {infinite} infinities, which {spec} takes for large numbers; allowed are "
            "finite numbers, or infinities that propagate"
        )
    _refuse_scales_at_ends(blocks, fmt, shift)
    element = replace(spec, format=fmt.element)
    return (
        _events(stats, blocks, specials, infinite, element, fmt.emax),
        _sqnr(stats, blocks, specials, element, fmt.emax),
    )


def _refuse_scales_at_ends(blocks: BlockStatistics, fmt: BlockFormat, shift: int) -> None:
    """Refuse blocks whose scale saturates: their numbers are not relative to their exponent."""
    least, most = fmt.scale.emin + fmt.emax - shift, fmt.scale.emax + fmt.emax - shift
    if isinstance(fmt.element, FixedPointFormat):
        most = min(most, FLOAT32.bias - 1 - shift)  # -2.0**128 is no float32
    outside = sum(n for e, n in blocks.by_exponent().items() if not least <= e <= most)
    if outside:
        raise ValueError(
            f"stats have {outside} blocks whose numbers {fmt} has no scale for; allowed "
            f"are largest numbers with exponents {least} to {most}"
        )


def _events(
    stats: TensorStatistics,
    blocks: BlockStatistics,
    specials: np.ndarray,
    infinite: int,
    element: RoundingSpec,
    emax: int,
) -> Events:
    _, _, lost_zeros, lost_numbers = (int(n) for n in np.asarray(blocks.specials))
    table = np.asarray(blocks.counts)
    row, cell = np.nonzero(table)
    cells = signed_cells(stats.layout, table[row, cell], emax - row, cell)
    # The last row also holds what is further below.
    far = np.where(row == BELOW - 1, np.ldexp(cells.first, -_FAR), cells.first)
    rest = np.array([specials[0] - lost_zeros, 0, 0, specials[3]])
    events = count_events_of(cells._replace(first=far), rest, element)
    lost = lost_zeros + lost_numbers
    return events._replace(
        elements=events.elements + lost + infinite,
        nonzero=events.nonzero + lost_numbers + infinite,
        overflowed=events.overflowed + lost,
    )


def _sqnr(
    stats: TensorStatistics,
    blocks: BlockStatistics,
    specials: np.ndarray,
    element: RoundingSpec,
    emax: int,
) -> float:
    amax = float(stats.amax)
    if specials[1:].any():
        return math.nan
    if not amax:
        return math.inf
    if not _LEAST_ENERGY <= math.frexp(amax)[1] - 1 <= ENERGY_EXPONENTS[1]:
        return math.nan
    energies = np.asarray(blocks.energies, np.float64)
    row, column = np.nonzero(energies)
    seen, is_more = np.divmod(column, 2)
    start = 1 + seen * 2.0**-FIRST
    first = np.ldexp(start + is_more * 2.0**-stats.layout.trailing, emax - row)
    last = np.ldexp(start + is_more * (2.0**-FIRST - 2.0**-stats.layout.trailing), emax - row)
    cells = Cells(energies[row, column], emax - row, first, last)
    counts = np.asarray(blocks.counts)
    negative = counts[:, counts.shape[1] // 2 :].sum() / counts.sum()
    both = ((1 - negative, cells), (negative, cells._replace(first=-first, last=-last)))
    mean = sum(share * errors_of(each, element).mean_square for share, each in both)
    noise, signal = (float(cells.counts @ each) for each in (mean, mean_square(cells)))
    return 10.0 * math.log10(signal / noise) if noise else math.inf
