"""Pictures of range, loss and drift; the only module that imports matplotlib.

Each function draws into axes that it is given, so pictures can be combined. No global state:
figures are made with `new_figure`, never through pyplot. Ten and more lines stay apart without
colour, by dashes and markers; the colours are those of Okabe and Ito, which colour-blind readers
can tell apart.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.lib.stride_tricks import sliding_window_view

from precsim.formats.affine import AffineFormat
from precsim.formats.block import BlockFormat
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.registry import AnyFormat, Format, get_format
from precsim.training.replay.files import write_whole

COLUMN_WIDTH = 3.5
"""Inches: one column of a two-column page."""
PAGE_WIDTH = 7.2

OKABE_ITO = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Without the palette's yellow, which is too pale for a line on white."""
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")
_FONT, _SMALL = 8, 7


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = COLUMN_WIDTH, height: float | None = None
) -> tuple[Figure, Any]:
    """Make a figure with empty axes.

    Parameters
    ----------
    rows, columns : int
        Grid of axes.
    width : float
        Inches; `COLUMN_WIDTH` or `PAGE_WIDTH` for print.
    height : float, optional
        Inches; 2.7 for each row by default.

    Returns
    -------
    tuple of Figure and ndarray of Axes
        Figure with an Agg canvas, and axes of shape (rows, columns).

    Examples
    --------
    >>> figure, axes = new_figure(1, 2)
    >>> axes.shape
    (1, 2)
    """
    figure = Figure(figsize=(width, 2.7 * rows if height is None else height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def plot_exponent_histogram(
    axes: Axes,
    histograms: Mapping[str, tuple[Any, Any]],
    formats: Sequence[str | Format] = (),
) -> None:
    """Draw how values spread over the binades, and the range of formats above them.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    histograms : mapping of str to (exponents, counts)
        For each label: integers, shape (n,), and the number of values in each binade, shape (n,),
        as `precsim.errors.exponent_histogram` returns them.
    formats : sequence of str or Format
        Formats to compare with, drawn above: a grey bar spans the normal range, a hatched one the
        subnormals. Bars that go on far beyond the values are cut off.

    Returns
    -------
    None

    Raises
    ------
    ValueError
        If a format is unknown, or has an unlimited exponent range.

    Notes
    -----
    The vertical axis is logarithmic: percent of the values that are neither zero nor infinite or
    NaN. A histogram without any is named in the legend as empty.

    Examples
    --------
    >>> figure, axes = new_figure()
    >>> histograms = {"weights": ([-2, -1, 0], [10, 30, 60])}
    >>> plot_exponent_histogram(axes[0, 0], histograms, ["fp16", "e4m3"])
    >>> axes[0, 0].get_xlabel()
    'exponent $e$ (values in $[2^e, 2^{e+1})$)'
    """
    ranges = []
    for fmt in map(get_format, formats):
        if not has_range(fmt):
            raise ValueError(
                f"format {fmt} has no range to draw: its exponents are unlimited, or its scales give it"
            )
        ranges.append((str(fmt), *_range(fmt)))
    low, high = 0, 1
    for index, (label, (exponents, counts)) in enumerate(histograms.items()):
        color, style = OKABE_ITO[index % len(OKABE_ITO)], _DASHES[index % len(_DASHES)]
        total = np.sum(counts)
        if not total:
            axes.plot([], [], color=color, linestyle=style, label=f"{label} (empty)")
            continue
        edges = np.append(exponents, exponents[-1] + 1)
        low, high = min(low, edges[0]), max(high, edges[-1])
        share = 100 * np.asarray(counts) / total
        axes.stairs(share, edges, color=color, linestyle=style, linewidth=1.2, label=label)
        axes.stairs(share, edges, color=color, fill=True, alpha=0.12, linewidth=0)
    axes.set_yscale("log")
    axes.set_xlabel("exponent $e$ (values in $[2^e, 2^{e+1})$)", fontsize=_FONT)
    axes.set_ylabel("share of nonzero values (%)", fontsize=_FONT)
    axes.set_xlim(
        max(low - 10, min([low, *(least for _, least, _, _ in ranges)])) - 1,
        min(high + 10, max([high, *(end for _, _, _, end in ranges)])) + 1,
    )
    _finish(axes, legend_below=True)
    _draw_ranges(axes, ranges)


def has_range(fmt: AnyFormat) -> bool:
    """Return whether a format has a range of its own, neither unlimited nor that of its scales."""
    if isinstance(fmt, (BlockFormat, AffineFormat)):
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
    bottom, top = axes.get_ylim()[0], 100.0
    row_height = 0.07
    room = row_height * len(ranges) + 0.02
    axes.set_ylim(bottom, bottom * (top / bottom) ** (1 / (1 - room)))
    axes.set_yticks([tick for tick in axes.get_yticks() if bottom <= tick < top])
    axes.set_yticks([], minor=True)
    axes.yaxis.label.set_y((1 - room) / 2)  # beside the percentages, below the formats' names
    transform = axes.get_xaxis_transform()
    options: dict[str, Any] = {"transform": transform, "edgecolor": "0.2", "linewidth": 0.5}
    for row, (name, least, smallest, end) in enumerate(ranges):
        height = 0.6 * row_height
        y = 1 - (row + 0.9) * row_height
        axes.add_patch(
            Rectangle((smallest, y), end - smallest, height, facecolor="0.55", **options)
        )
        subnormal = Rectangle((least, y), smallest - least, height, facecolor="w", **options)
        subnormal.set_hatch("////////")
        axes.add_patch(subnormal)
        axes.text(
            -0.02,
            y + height / 2,
            name,
            transform=axes.transAxes,
            fontsize=_SMALL,
            horizontalalignment="right",
            verticalalignment="center",
        )
        if len(ranges) <= 3:
            axes.vlines([least, end], 0, y, transform=transform, color="0.5", linewidth=0.5)


def plot_loss_curves(axes: Axes, curves: Mapping[str, Any], *, window: int | None = None) -> None:
    """Draw training losses, one line for each run.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    curves : mapping of str to array_like, shape (steps,)
        For each label the loss at steps 1, 2, ... (dimensionless).
    window : int, optional
        Draw the mean of this many latest steps, and the losses themselves faintly behind it. By
        default a fiftieth of the longest run; 1 draws the losses only. The axis label tells the
        window.

    Returns
    -------
    None

    Notes
    -----
    The vertical axis is logarithmic if all finite losses are positive. Losses that are infinite or
    NaN are left out. A run that ends with one has a cross at its last finite loss, and its label
    says from which step on it diverged.

    Examples
    --------
    >>> figure, axes = new_figure()
    >>> plot_loss_curves(axes[0, 0], {"fp32": [2.0, 1.0], "fp16": [2.0, float("nan")]})
    >>> [text.get_text() for text in axes[0, 0].get_legend().get_texts()]
    ['fp32', 'fp16 (diverged, step 2)']
    """
    runs = {label: np.asarray(values, np.float64) for label, values in curves.items()}
    if window is None:
        window = max([1, *(losses.size // 50 for losses in runs.values())])
    for index, (label, losses) in enumerate(runs.items()):
        steps = np.arange(1, losses.size + 1)
        style = _line_style(index, losses.size)
        name = label
        mean = _trailing_mean(losses, window)
        finite = np.flatnonzero(np.isfinite(losses))
        if losses.size and not np.isfinite(losses[-1]):
            first_lost = int(finite[-1]) + 2 if finite.size else 1
            name = f"{label} (diverged, step {first_lost})"
            end = finite[-1:]
            axes.plot(steps[end], mean[end], "x", color=style["color"], markersize=8, mew=1.5)
        if window > 1:
            raw = np.where(np.isfinite(losses), losses, np.nan)
            axes.plot(steps, raw, color=style["color"], alpha=0.2, linewidth=0.5)
        axes.plot(steps, mean, label=name, **style)
    if all(np.all(losses[np.isfinite(losses)] > 0) for losses in runs.values()):
        axes.set_yscale("log")
    averaged = f", mean of {window} steps" if window > 1 else ""
    axes.set_xlabel("step", fontsize=_FONT)
    axes.set_ylabel(f"training loss{averaged}", fontsize=_FONT)
    _finish(axes)


def _trailing_mean(losses: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of the finite losses among the latest `window`; NaN where one is not."""
    is_finite = np.isfinite(losses)
    padded = np.concatenate([np.full(window, np.nan), losses])
    means = [np.mean(w[np.isfinite(w)]) for w in sliding_window_view(padded, window)[1:][is_finite]]
    smooth = np.full(losses.shape, np.nan)
    smooth[is_finite] = means
    return smooth


def plot_weight_drift(axes: Axes, drifts: Mapping[str, tuple[Any, Any]]) -> None:
    """Draw how far the weights of each run are from those of the reference run.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    drifts : mapping of str to (steps, values)
        For each label: steps, shape (n,), and the relative distance ``||w - w_ref|| / ||w_ref||``
        (dimensionless), shape (n,).

    Returns
    -------
    None

    Notes
    -----
    The vertical axis is logarithmic. Distances that are 0, infinite or NaN are left out; a run that
    has only zeros is named in the legend as identical.

    Examples
    --------
    >>> figure, axes = new_figure()
    >>> plot_weight_drift(axes[0, 0], {"fp32": ([1, 2], [0, 0]), "bf16": ([1, 2], [1e-3, 2e-3])})
    >>> [text.get_text() for text in axes[0, 0].get_legend().get_texts()]
    ['fp32 (identical)', 'bf16']
    """
    for index, (label, (steps, values)) in enumerate(drifts.items()):
        distances = np.asarray(values, np.float64)
        is_drawn = np.isfinite(distances) & (distances > 0)
        if distances.size and not distances.any():
            label = f"{label} (identical)"  # noqa: PLW2901
        style = _line_style(index, distances.size)
        axes.plot(np.asarray(steps), np.where(is_drawn, distances, np.nan), label=label, **style)
    axes.set_yscale("log")
    axes.set_xlabel("step", fontsize=_FONT)
    axes.set_ylabel("relative distance of weights", fontsize=_FONT)
    _finish(axes)


def save_figure(figure: Figure, path: str | Path) -> tuple[Path, Path]:
    """Write a figure as PNG and as SVG, then clear it.

    Parameters
    ----------
    figure : Figure
        The figure; it is empty afterwards.
    path : str or Path
        Where to write, with or without ``.png`` or ``.svg``; the folder is made if it is missing.

    Returns
    -------
    tuple of Path
        The PNG file (300 dots per inch) and the SVG file. The same figure gives the same files.

    Examples
    --------
    >>> import tempfile
    >>> figure, axes = new_figure()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [file.name for file in save_figure(figure, Path(folder) / "q3.8")]
    ['q3.8.png', 'q3.8.svg']
    """
    path = Path(path)
    stem = path.name.removesuffix(".png").removesuffix(".svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    png, svg = path.with_name(f"{stem}.png"), path.with_name(f"{stem}.svg")
    drawn = BytesIO(), BytesIO()  # in memory, so that a file is whole or absent
    figure.savefig(drawn[0], format="png", dpi=300)
    with mpl.rc_context({"svg.hashsalt": "precsim"}):
        figure.savefig(drawn[1], format="svg", metadata={"Date": None})
    for file, picture in zip((png, svg), drawn, strict=True):
        write_whole(file, picture.getvalue())
    figure.clear()
    return png, svg


def _line_style(index: int, points: int) -> dict[str, Any]:
    """Return a style that no other of the first 28 lines has."""
    return {
        "color": OKABE_ITO[index % len(OKABE_ITO)],
        "linestyle": _DASHES[index % len(_DASHES)],
        "linewidth": 1.2,
        "marker": _MARKERS[index % len(_MARKERS)],
        "markersize": 4.5,
        "markeredgecolor": "w",
        "markeredgewidth": 0.4,
        # About eight markers a line, each line's a little apart from the others'.
        "markevery": (index * points // 80 % max(points // 8, 1), max(points // 8, 1)),
    }


def _finish(axes: Axes, *, legend_below: bool = False) -> None:
    """Set what all pictures share; many lines have their legend below the axes."""
    axes.tick_params(which="both", labelsize=_SMALL)
    axes.grid(visible=True, which="major", color="0.88", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    labels = axes.get_legend_handles_labels()[1]
    if not labels:
        return
    options: dict[str, Any] = {"fontsize": _SMALL, "frameon": False}
    if legend_below or len(labels) > 4:
        options["ncols"] = 3 if max(map(len, labels)) <= 14 else 2
        options.update(loc="upper center", bbox_to_anchor=(0.45, -0.18), columnspacing=1.2)
    axes.legend(**options)
