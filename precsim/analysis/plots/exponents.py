"""How values spread over the binades, beside the ranges of formats."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from precsim.analysis.plots.checks import by_label, listed, pairs
from precsim.analysis.plots.curves import finish, panel, plot_curves
from precsim.analysis.plots.looks import format_color
from precsim.analysis.ranges import ExponentHistogram
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.registry import AnyFormat, Format, get_format
from precsim.formats.scaled import ScaledFormat

_ROW = 0.075
"""Height of a format's row, in axes."""
_HATCH = "////////"
_EDGE: dict[str, Any] = {"edgecolor": "0.2", "linewidth": 0.5}


def plot_exponent_histogram(
    axes: Axes,
    histograms: Mapping[str, tuple[Any, Any] | ExponentHistogram],
    formats: str | Format | Sequence[str | Format] = (),
) -> None:
    """Draw how values spread over the binades, and the range of formats above them.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    histograms : mapping of str to (exponents, counts), or to ExponentHistogram
        For each label: integers, shape (n,), and the number of values in each binade, shape (n,),
        or what `precsim.errors.exponent_histogram` returns.
    formats : str, Format, or sequence of them
        Formats to compare with, drawn above in their colours: a full bar spans the normal range, a
        hatched one the subnormals. Bars that go on far beyond the values are cut off.

    Returns
    -------
    None
        The axes hold what is drawn.

    Raises
    ------
    TypeError
        If `axes` are no Axes, `histograms` are no mapping of strings to histograms, their entries
        are no real numbers, or a format is neither a name nor a format.
    ValueError
        If a format is unknown, or has an unlimited exponent range; if exponents and counts have two
        shapes, or one that is not (n,).

    Notes
    -----
    The vertical axis is logarithmic: percent of the values that are neither zero nor infinite or
    NaN, a point for each binade that has some. A histogram without any is named in the legend as
    empty.

    Examples
    --------
    >>> import precsim as ps
    >>> histograms = {"weights": ([-2, -1, 0], [10, 30, 60])}
    >>> with ps.plots.figure() as axes:
    ...     plot_exponent_histogram(axes[0], histograms, ["fp16", "e4m3"])
    >>> axes[0].get_xlabel()
    'exponent $e$ (values in $[2^e, 2^{e+1})$)'
    """
    axes, names = panel(axes), ("exponents", "counts")
    given = {
        label: h[:2] if isinstance(h, ExponentHistogram) else h
        for label, h in by_label(histograms, "histograms", f"({', '.join(names)})").items()
    }
    ranges = []
    for fmt in map(get_format, listed(formats)):
        if not has_range(fmt):
            raise ValueError(
                f"format {fmt} has no range to draw: its exponents are unlimited, or its scales give it"
            )
        ranges.append((str(fmt), *_range(fmt)))
    low, high = 0, 1
    curves = {}
    for label, (exponents, counts) in pairs(given, "histograms", names).items():
        total = np.sum(counts)
        if not total:
            curves[f"{label} (empty)"] = (np.zeros(0), np.zeros(0))
            continue
        low, high = min(low, exponents[0]), max(high, exponents[-1] + 1)
        share = 100 * counts / total
        curves[label] = (exponents + 0.5, np.where(share > 0, share, np.nan))
    plot_curves(axes, curves, markevery=1)
    axes.set_yscale("log")
    axes.set_xlabel("exponent $e$ (values in $[2^e, 2^{e+1})$)")
    axes.set_ylabel("share of nonzero values (%)")
    axes.set_xlim(
        max(low - 10, min([low, *(least for _, least, _, _ in ranges)])) - 1,
        min(high + 10, max([high, *(end for _, _, _, end in ranges)])) + 1,
    )
    _draw_ranges(axes, ranges)
    finish(axes)


def has_range(fmt: AnyFormat) -> bool:
    """Return whether a format has a range of its own, neither unlimited nor that of its scales."""
    if isinstance(fmt, ScaledFormat):
        return False
    return isinstance(fmt, FixedPointFormat) or fmt.exponent_bits is not None


def _range(fmt: Format) -> tuple[int, int, int]:
    """Return the exponents at which subnormals begin, normal values begin, and values end."""
    if isinstance(fmt, FixedPointFormat):
        return -fmt.fraction_bits, -fmt.fraction_bits, fmt.integer_bits
    least = fmt.emin - (fmt.precision - 1 if fmt.has_subnormals else 0)
    return least, fmt.emin, fmt.emax + 1


def _draw_ranges(axes: Axes, ranges: Sequence[tuple[str, int, int, int]]) -> None:
    """Draw one bar for each format above the histograms, in room made by a longer vertical axis."""
    if not ranges:
        return
    bottom, top = axes.get_ylim()[0], 100.0
    room = _ROW * len(ranges) + 0.02
    axes.set_ylim(bottom, bottom * (top / bottom) ** (1 / (1 - room)))
    axes.set_yticks([tick for tick in axes.get_yticks() if bottom <= tick < top])
    axes.set_yticks([], minor=True)
    axes.yaxis.label.set_y((1 - room) / 2)  # beside the percentages, below the formats' names
    transform = axes.get_xaxis_transform()
    for row, (name, least, smallest, end) in enumerate(ranges):
        color, height = format_color(name), 0.6 * _ROW
        y = 1 - (row + 0.9) * _ROW
        options = _EDGE | {"facecolor": color, "transform": transform}
        axes.add_patch(Rectangle((smallest, y), end - smallest, height, **options))
        options |= {"facecolor": "w", "hatch": _HATCH}
        axes.add_patch(Rectangle((least, y), smallest - least, height, **options))
        where: dict[str, Any] = {"transform": axes.transAxes, "size": rcParams["ytick.labelsize"]}
        axes.text(-0.02, y + height / 2, name, ha="right", va="center", **where)
        if len(ranges) <= 3:
            axes.vlines([least, end], 0, y, transform=transform, color=color, linewidth=0.5)
    for label, hatch in (("normal values of a format", ""), ("subnormal values", _HATCH)):
        options = _EDGE | {"facecolor": "w" if hatch else "0.6", "hatch": hatch}
        axes.add_patch(Rectangle((np.nan, np.nan), 0, 0, label=label, in_layout=False, **options))
