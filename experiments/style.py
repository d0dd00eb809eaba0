"""One look for every figure: colours for colour-blind readers too, published points on top."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""M. Okabe, K. Ito, *Color Universal Design* (2008), without black (kept for points), yellow."""

MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))

STYLE: dict[str, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 100,
    "font.size": 9.5,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.framealpha": 0.9,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "savefig.dpi": 160,
    "svg.hashsalt": "precsim",  # the same picture gives the same file
}


def line(k: int) -> dict[str, Any]:
    """Return colour and dashes of the k-th curve; neighbours differ in both."""
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k % len(DASHES)]}


def curve(k: int) -> dict[str, Any]:
    """Return colour, dashes and marker of the k-th curve."""
    return {**line(k), "marker": MARKERS[k % len(MARKERS)]}


def draw_published(axes: Axes, x: Any, y: Any, label: str = "published") -> None:
    """Draw published points as open black circles over everything else."""
    axes.plot(x, y, "o", markersize=7, fillstyle="none", color="black", zorder=10, label=label)


def new_figure(rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, row by row (call it inside `in_style()`)."""
    figure = Figure(figsize=_size(rows, columns), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def drop_empty(figure: Figure, axes: list[Axes]) -> None:
    """Remove the panels in which nothing is drawn, and put the others into one row."""
    used = [panel for panel in axes if panel.has_data()]
    if len(used) == len(axes):
        return
    for panel in axes:
        if panel not in used:
            panel.remove()
    grid = figure.add_gridspec(1, len(used))
    for k, panel in enumerate(used):
        panel.set_subplotspec(grid[0, k])
    figure.set_size_inches(*_size(1, len(used)))


def _size(rows: int, columns: int) -> tuple[float, float]:
    return 5.2 * columns, 3.9 * rows


def save(figure: Figure, folder: Path) -> None:
    """Write ``figure.svg`` and ``figure.png``."""
    figure.savefig(folder / "figure.svg", metadata={"Date": None})
    figure.savefig(folder / "figure.png")


def in_style() -> AbstractContextManager[None]:
    """Return the context in which figures are made and saved."""
    return mpl.rc_context(STYLE)  # type: ignore[arg-type]
