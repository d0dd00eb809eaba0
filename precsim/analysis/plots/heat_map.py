"""Numbers by row and step as colours: where in a model, and when in a training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import MaxNLocator

from precsim.analysis.plots.checks import by_label, numbers
from precsim.analysis.plots.curves import panel
from precsim.formats.arguments import shown

_COLORS = "cividis"
"""A scale that colour-blind readers see as others do, and that is monotonic in grey."""

_LETTERS = 26
"""Letters of a row's name; a longer one keeps its end."""

_LABELS = 16
"""Rows that have a label at most; of more, every second, every third, ... has one."""


def plot_heat_map(
    axes: Axes,
    rows: Any,
    *,
    label: str = "",
    xlabel: str = "step",
    steps: Sequence[int] | None = None,
    is_logarithmic: bool = True,
) -> None:
    """Draw numbers by row and step as colours.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    rows : mapping of str to array_like
        For each row, from the top down: its numbers, shape (steps,).
    label : str
        What the colours mean.
    xlabel : str
        What the columns are.
    steps : sequence of int, optional
        The number of each column; by default they count from 1.
    is_logarithmic : bool
        Whether the colours are logarithmic. Then numbers that are not positive stay white.

    Returns
    -------
    None
        The axes hold what is drawn.

    Raises
    ------
    TypeError
        If `axes` are no Axes, or `rows` is no mapping of strings to real numbers.
    ValueError
        If there are no rows, or they differ in length.

    Notes
    -----
    NaN stays white, and so does infinity. The colour bar stands on the right.

    Examples
    --------
    >>> import precsim as ps
    >>> with ps.plots.figure() as axes:
    ...     plot_heat_map(axes[0], {"hidden": [1e-3, 2e-3], "output": [1e-4, 3e-3]}, label="drift")
    >>> [text.get_text() for text in axes[0].get_yticklabels()]
    ['hidden', 'output']
    """
    axes = panel(axes)
    named = by_label(rows, "rows", "numbers")
    found = {name: numbers(x, f"rows[{shown(name)}]") for name, x in named.items()}
    shapes = sorted({x.shape for x in found.values()})
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise ValueError(f"rows have shapes {shapes}; allowed is one shape (steps,), and one row")
    table = np.stack(list(found.values()))
    is_drawn = np.isfinite(table) & ((table > 0) | (not is_logarithmic))
    drawn = np.ma.masked_where(~is_drawn, table)
    norm = _norm(drawn, is_logarithmic)
    counts = np.arange(1, table.shape[1] + 1) if steps is None else np.asarray(steps)
    draw_cells(axes, counts, list(found), drawn, cmap=_COLORS, norm=norm, label=label)
    axes.set(xlabel=xlabel)


def draw_cells(
    axes: Axes, steps: np.ndarray, names: Sequence[str], cells: Any, *, label: str, **colors: Any
) -> Colorbar:
    """Draw cells, shape (names, steps), with the names of the rows and a scale of the colours."""
    mesh = axes.pcolormesh(_edges(steps), np.arange(len(names) + 1) - 0.5, cells, **colors)
    every = -(-len(names) // _LABELS) or 1
    axes.set_yticks(range(0, len(names), every), [short_name(name) for name in names[::every]])
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(visible=False)
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure.colorbar(mesh, cax=axes.inset_axes((1.03, 0, 0.04, 1)), label=label)


def short_name(name: str) -> str:
    """Return a name, or the end of a long one."""
    return name if len(name) <= _LETTERS else f"…{name[1 - _LETTERS :]}"


def _edges(steps: np.ndarray) -> np.ndarray:
    """Return where the column of each step begins, and where the last one ends."""
    if not steps.size:
        return np.zeros(1)
    middles = (steps[1:] + steps[:-1]) / 2
    first = steps[0] - (middles[0] - steps[0] if middles.size else 0.5)
    last = steps[-1] + (steps[-1] - middles[-1] if middles.size else 0.5)
    return np.concatenate([[first], middles, [last]])


def _norm(drawn: Any, is_logarithmic: bool) -> Normalize:
    """Return the scale of the colours; one that can be drawn where there is nothing."""
    if not drawn.count():
        return Normalize(0, 1)
    lowest, highest = float(drawn.min()), float(drawn.max())
    if is_logarithmic:
        return LogNorm(lowest, highest if highest > lowest else 2 * lowest)
    return Normalize(lowest, highest if highest > lowest else lowest + 1)
