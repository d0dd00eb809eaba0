"""Figures in the style of the sheet: panels in rows that fit a page, written to files.

No global state: figures are never made through pyplot. The style is `precsim/plots.mplstyle`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from precsim.analysis.plots.checks import instance, positive
from precsim.formats.arguments import integer, shown
from precsim.training.replay.files import write_whole

SHEET = "precsim.plots"
"""Name of the style sheet for `matplotlib.style.use`."""
COLUMN_WIDTH = 8.5
"""Centimetres: one column of a two-column page."""
PAGE_WIDTH = 17.0
"""Centimetres: both columns."""
_CM = 1 / 2.54


@contextmanager
def figure(
    panels: int = 1,
    *,
    width: float | None = None,
    height: float = 5.8,
    path: str | Path | None = None,
) -> Iterator[list[Axes]]:
    """Make a figure; the style is in force inside the ``with`` block.

    Parameters
    ----------
    panels : int
        Number of axes. They stand in rows of as many as have `COLUMN_WIDTH` each; those that stay
        empty vanish at the end of the block.
    width : float, optional
        Centimetres; all text is legible at this size. By default `COLUMN_WIDTH` for one panel,
        `PAGE_WIDTH` for several.
    height : float
        Centimetres for each row of panels, without their legends.
    path : str or Path, optional
        Where `save_figure` writes the picture at the end of the block; by default nowhere.

    Yields
    ------
    list of Axes
        The axes, row by row; ``axes[0].figure`` is the figure.

    Raises
    ------
    TypeError
        If `width` or `height` is no number, or `path` no path. The ``with`` line raises it.
    ValueError
        If `panels` is no integer from 1 on, `width` or `height` is not positive, or `path` has no
        name of a file.

    Examples
    --------
    >>> with figure(2, width=COLUMN_WIDTH) as axes:
    ...     lines = [panel.plot([1, 2]) for panel in axes]
    >>> [round(2.54 * inches, 1) for inches in axes[0].figure.get_size_inches().tolist()]
    [8.5, 11.6]
    """
    panels, height = integer(panels, "panels", 1), positive(height, "height")
    width = None if width is None else positive(width, "width")
    path = None if path is None else _file(path)
    with matplotlib.style.context(SHEET):
        made = Figure()
        FigureCanvasAgg(made)
        axes = [made.add_subplot() for _ in range(panels)]
        _arrange(axes, width, height)
        yield axes
        drawn = [panel for panel in axes if panel.has_data()] or axes
        for panel in set(axes) - set(drawn):
            panel.remove()
        _arrange(drawn, width, height)
        if path is not None:
            save_figure(made, path)


def _arrange(axes: Sequence[Axes], width: float | None, height: float) -> None:
    """Put axes into rows of as many as fit, each row as high as its highest legend asks for."""
    figure = axes[0].get_figure(root=True)
    assert figure is not None
    if width is None:
        width = PAGE_WIDTH if len(axes) > 1 else COLUMN_WIDTH
    columns = min(len(axes), max(1, round(width // COLUMN_WIDTH)))
    rows = -(-len(axes) // columns)
    grid = figure.add_gridspec(rows, columns)
    legends = [0.0] * rows
    for k, panel in enumerate(axes):
        row, column = divmod(k, columns)
        panel.set_subplotspec(grid[row, column])
        if (legend := panel.get_legend()) is not None:
            needed = legend.get_window_extent().height / figure.dpi
            legends[row] = max(legends[row], needed)
    figure.set_size_inches(width * _CM, height * rows * _CM + sum(legends))


def save_figure(figure: Figure, path: str | Path) -> tuple[Path, ...]:
    """Write a figure as PNG and as SVG, then clear it.

    Parameters
    ----------
    figure : Figure
        The figure; it is empty afterwards.
    path : str or Path
        Where to write; the folder is made if it is missing. A name that ends in ``.png`` or
        ``.svg`` is that of the only file.

    Returns
    -------
    tuple of Path
        The files written. The same figure gives the same files; PNG has 300 dots per inch.

    Raises
    ------
    TypeError
        If `figure` is no Figure, or `path` no path.
    ValueError
        If `path` has no name of a file.

    Examples
    --------
    >>> import tempfile
    >>> from matplotlib.figure import Figure
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [file.name for file in save_figure(Figure(), Path(folder) / "q3.8")]
    ['q3.8.png', 'q3.8.svg']
    """
    instance(figure, Figure, "figure", "matplotlib's Figures, such as axes[0].figure")
    path = _file(path)
    suffixes = [path.suffix] if path.suffix in (".png", ".svg") else [".png", ".svg"]
    stem = path.name.removesuffix(suffixes[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = {}  # in memory, so that a file is whole or absent
    with matplotlib.style.context(SHEET):
        for suffix in suffixes:
            picture = BytesIO()
            metadata = {"Date": None} if suffix == ".svg" else None
            figure.savefig(picture, format=suffix[1:], metadata=metadata)
            drawn[path.with_name(stem + suffix)] = picture.getvalue()
    for file, content in drawn.items():
        write_whole(file, content)
    figure.clear()
    return tuple(drawn)


def _file(path: Any) -> Path:
    """Return the path of a file; refuse what is no path, and folders such as ".", "/"."""
    if not isinstance(path, (str, PathLike)):
        raise TypeError(f"path is {shown(path)}; allowed are names of files, as str or Path")
    file = Path(path)
    if not file.name:
        raise ValueError(f"path is {shown(path)}; allowed are names of files")
    return file
