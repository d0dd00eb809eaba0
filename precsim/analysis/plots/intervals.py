"""Pictures of sweeps: means with their confidence intervals, one line for each policy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from precsim.analysis.plots.checks import by_label, numbers
from precsim.analysis.plots.curves import panel
from precsim.analysis.plots.heat_map import short_name
from precsim.formats.arguments import shown


def plot_intervals(axes: Axes, intervals: Mapping[str, Any], *, xlabel: str = "") -> None:
    """Draw means as points and their confidence intervals as lines, the first one at the top.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    intervals : mapping of str to (mean, low, high)
        For each label three numbers; low and high are None, or NaN, where there is no interval.
    xlabel : str
        What the numbers are, with their unit.

    Returns
    -------
    None
        The axes hold what is drawn.

    Raises
    ------
    TypeError
        If `axes` are no Axes, or `intervals` are no mapping of strings to real numbers.
    ValueError
        If a label has not three numbers.

    Examples
    --------
    >>> from precsim.analysis.plots.figures import figure
    >>> with figure() as axes:
    ...     plot_intervals(axes[0], {"bf16": (-0.3, -0.5, -0.1), "fp16": (0.0, None, None)})
    >>> [text.get_text() for text in axes[0].get_yticklabels()]
    ['bf16', 'fp16']
    """
    axes, found = panel(axes), by_label(intervals, "intervals", "(mean, low, high)")
    for place, (label, given) in enumerate(found.items()):
        of = f"intervals[{shown(label)}]"
        ends = [np.nan if x is None else x for x in given] if isinstance(given, tuple) else given
        values = numbers(ends, of)
        if values.shape != (3,):
            raise ValueError(f"{of} is {shown(given)}; allowed are (mean, low, high)")
        mean, low, high = values
        axes.plot([low, high], [place, place], color="0.3", linewidth=1.2)
        axes.plot([mean], [place], "o", color="black", markersize=3.5)
    axes.axvline(0, color="0.6", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(found)), [short_name(label) for label in found])
    axes.set_ylim(max(len(found), 2) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set(xlabel=xlabel)
