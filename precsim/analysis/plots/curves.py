"""What the pictures share: curves in the looks of their formats, published points, legends."""

import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from precsim.analysis.plots.checks import instance, numbers, pairs, points
from precsim.analysis.plots.looks import line_styles

_shows_published = ContextVar("_shows_published", default=True)
_UP, _DOWN = r"$\uparrow$", r"$\downarrow$"
_LEGEND_POINTS, _LETTERS = 238, 44  # what fits below a panel in one column


def plot_curves(axes: Axes, curves: Mapping[str, tuple[Any, Any]], **options: Any) -> None:
    """Draw curves in the looks of the formats that their labels name.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    curves : mapping of str to (x, y)
        For each label the points, array_like, shape (n,).
    **options
        As for `matplotlib.axes.Axes.plot`, for all curves; they go before the looks.

    Returns
    -------
    None
        The axes hold what is drawn.

    Raises
    ------
    TypeError
        If `axes` are no Axes, `curves` are no mapping of strings to pairs, or points are no real
        numbers.
    ValueError
        If x and y of a curve have two shapes, or one that is not (n,).

    Examples
    --------
    >>> import precsim as ps
    >>> with ps.plots.figure() as axes:
    ...     plot_curves(axes[0], {"fp16": ([1, 2], [3, 4]), "exact": ([1, 2], [3, 5])})
    >>> axes[0].lines[0].get_color() == ps.plots.format_color("fp16")
    True
    """
    axes, found = panel(axes), pairs(curves, "curves")
    styles = line_styles(found, max([0, *(x.size for x, _ in found.values())]))
    for label, (x, y) in found.items():
        axes.plot(x, y, **{"label": label} | styles[label] | options)


def plot_published(axes: Axes, x: Any, y: Any, label: str = "published") -> None:
    """Draw published points as open black circles over everything else.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    x, y : array_like, shape (n,), or numbers
        The points, or the only one.
    label : str
        Their name in the legend.

    Returns
    -------
    None
        The axes hold what is drawn.

    Raises
    ------
    TypeError
        If `axes` are no Axes, or points are no real numbers.
    ValueError
        If x and y have two shapes, or one that is not (n,).

    Examples
    --------
    >>> import precsim as ps
    >>> with ps.plots.figure() as axes:
    ...     plot_published(axes[0], [1, 2], [0.5, 0.25])
    >>> axes[0].lines[0].get_fillstyle()
    'none'
    """
    look: dict[str, Any] = {"markersize": 6.5, "fillstyle": "none", "markeredgewidth": 0.8}
    x, y = (np.atleast_1d(numbers(given, name)) for given, name in ((x, "x"), (y, "y")))
    x, y = points(x, y, ("x", "y"))
    if not _shows_published.get():
        return
    panel(axes).plot(x, y, "o", color="black", zorder=10, label=label, **look)


@contextmanager
def without_published(is_without: bool = True) -> Iterator[None]:
    """Let `plot_published` draw nothing: the curves are not those that were published."""
    token = _shows_published.set(not is_without)
    try:
        yield
    finally:
        _shows_published.reset(token)


def finish(axes: Axes, **options: Any) -> None:
    """Finish a panel when all is drawn: arrows for what is off the scale, a legend, plain ticks.

    Parameters
    ----------
    axes : Axes
        The panel, with its limits and its labels set.
    **options
        As for `matplotlib.axes.Axes.legend`. Without ``loc`` the legend is below the axes, in as
        many columns as fit. A label that stands for several lines comes once.

    Returns
    -------
    None
        The axes hold what is drawn.

    Raises
    ------
    TypeError
        If `axes` are no Axes.

    Notes
    -----
    An arrow at the upper or lower edge, in the colour of its line, stands for a point whose value
    is infinite or beyond the limits, on a curve for the first of several. The legend says so. A
    logarithmic axis of less than two decades has ticks such as 0.2 and 0.5 instead of powers.

    Examples
    --------
    >>> import precsim as ps
    >>> with ps.plots.figure() as axes:
    ...     lines = axes[0].plot([1.0, 2.0, float("inf")], label="fp16")
    ...     finish(axes[0])
    >>> [text.get_text() for text in axes[0].get_legend().get_texts()]
    ['fp16', 'overflow']
    """
    axes = panel(axes)
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        is_decimal = axis.get_scale() == "log" and getattr(axis.get_transform(), "base", 0) == 10
        if is_decimal and low >= 1e-4 and high < 100 * low:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
    _mark_beyond(axes)
    handles, labels = axes.get_legend_handles_labels()
    entries = {textwrap.fill(k, _LETTERS): v for k, v in zip(labels, handles, strict=True)}
    if not entries:
        return
    if "loc" not in options:
        figure = axes.get_figure(root=True)
        assert figure is not None
        labels_end = axes.xaxis.get_tightbbox()
        depth = axes.bbox.y0 - labels_end.y0 if labels_end is not None else 0.0
        below = ScaledTranslation(0, -depth / figure.dpi - 0.04, figure.dpi_scale_trans)
        options = {
            "loc": "upper right",
            "bbox_to_anchor": (1, 0),
            "bbox_transform": axes.transAxes + below,
            "ncols": max(1, _LEGEND_POINTS // (35 + 4 * min(_LETTERS, max(map(len, entries))))),
        } | options
    axes.legend(entries.values(), entries, **options)


def panel(axes: Any) -> Axes:
    """Return the axes of one panel; refuse what is none, such as the list that `figure` gives."""
    return instance(axes, Axes, "axes", "matplotlib's Axes, such as the first that figure() gives")


def _mark_beyond(axes: Axes) -> None:
    """Draw arrows at the edges for points that are infinite or beyond the vertical limits."""
    lines = [line for line in axes.lines if line.get_transform() == axes.transData]
    drawn = [np.array(line.get_data(), np.float64) for line in lines]
    for x, y in drawn:  # the arrows need a place too
        axes.update_datalim([(at, 0) for at in x[np.isinf(y)]], updatey=False)
    axes.autoscale_view(scaley=False)
    low, high = axes.get_ylim()
    left, right = sorted(axes.get_xlim())
    look: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "zorder": 9}
    look |= {"linestyle": "none", "markersize": 7, "label": "_"}
    kinds = set()
    for line, (x, y) in zip(lines, drawn, strict=True):
        for edge, marker, beyond in ((1, _UP, y > high), (0, _DOWN, y < low)):
            marked = beyond & (left <= x) & (x <= right)
            if line.get_linestyle() != "None":
                marked &= np.diff(beyond, prepend=False)  # where the curve leaves
            if marked.any():
                kinds |= {"overflow" if np.isinf(v) else "off the scale" for v in y[marked]}
                look |= {"marker": marker, "color": line.get_color()}
                axes.plot(x[marked], np.full(marked.sum(), edge), **look)
    if kinds:
        name = " or ".join(sorted(kinds, reverse=True))
        entry = {"marker": _UP, "color": "0.3", "label": name, "in_layout": False}
        axes.plot([], [], **look | entry)
