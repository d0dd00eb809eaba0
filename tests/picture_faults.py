"""What can be wrong with a picture: text cut off or overlapping, bars without a zero, ..."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

import precsim as ps

SMALLEST_TEXT = 7.0  # points; exponents and indices have 0.7 of it


def picture_faults(figure: Figure) -> list[str]:
    """List what is wrong with a figure, at its size."""
    figure.draw_without_rendering()
    faults = list(_text_faults(figure))
    for number, axes in enumerate(figure.axes):
        rules = (_tick_faults, _bar_faults, _hatch_faults, _overflow_faults, _label_faults)
        faults += [f"panel {number}: {fault}" for rule in rules for fault in rule(axes)]
    return faults


def _ticks(axis: Axis) -> list[Text]:
    """Return the tick labels that are drawn."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    labels = [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    return [label for label in labels if label.get_text() and label.get_visible()]


def _texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Return all that is written: axis labels, titles, tick labels, texts, whole legends."""
    found = []
    for axes in figure.axes:
        parts = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        parts += [*_ticks(axes.xaxis), *_ticks(axes.yaxis)]
        found += [(t.get_text(), t.get_window_extent()) for t in parts if t.get_text()]
        if (legend := axes.get_legend()) is not None:
            found.append(("the legend", legend.get_window_extent()))
    return found


def _text_faults(figure: Figure) -> Iterator[str]:
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_text() and float(text.get_fontsize()) < SMALLEST_TEXT:
            yield f"{text.get_text()!r} has {text.get_fontsize()} points"
    whole = figure.bbox.padded(1)
    texts = _texts(figure)
    for name, box in texts:
        if box.x0 < whole.x0 or box.y0 < whole.y0 or box.x1 > whole.x1 or box.y1 > whole.y1:
            yield f"{name!r} is cut off"
    for (name, box), (other, other_box) in combinations(texts, 2):
        shared = Bbox.intersection(box, other_box)
        if shared is not None and min(shared.width, shared.height) > 1:
            yield f"{name!r} and {other!r} overlap"


def _tick_faults(axes: Axes) -> Iterator[str]:
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if len(_ticks(axis)) < 2:
            yield f"{name} has fewer than two tick labels"


def _bar_faults(axes: Axes) -> Iterator[str]:
    groups = [group for group in axes.containers if isinstance(group, BarContainer)]
    for group in groups:
        is_flat = group.orientation == "horizontal"
        scale, (low, high) = (
            (axes.get_xscale(), axes.get_xlim())
            if is_flat
            else (axes.get_yscale(), axes.get_ylim())
        )
        if scale != "linear":
            yield "bars on a logarithmic scale"
        starts = [bar.get_x() if is_flat else bar.get_y() for bar in group]
        if any(starts) or not low <= 0 <= high:
            yield "bars that do not start at zero"


def _hatch_faults(axes: Axes) -> Iterator[str]:
    legend = axes.get_legend()
    told = {p.get_hatch() for p in legend.get_patches()} if legend is not None else set()
    yield from (
        f"no legend for the hatch {h}"
        for h in {p.get_hatch() for p in axes.patches} - {None, *told}
    )


def _overflow_faults(axes: Axes) -> Iterator[str]:
    legend = axes.get_legend()
    told = {text.get_text() for text in legend.get_texts()} if legend is not None else set()
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    for line in axes.lines:
        if line.get_transform() != axes.transData:
            continue
        x, y = (np.asarray(data, np.float64) for data in line.get_data())
        if np.any(((y < low) | (y > high)) & (left <= x) & (x <= right)):
            marks = [m for m in axes.lines if "arrow" in str(m.get_marker())]
            if not any(mark.get_color() == line.get_color() for mark in marks):
                yield f"points of {line.get_label()!r} are off the scale and have no arrow"
            if not any("overflow" in text or "off the scale" in text for text in told):
                yield "no legend for arrows"


def _label_faults(axes: Axes) -> Iterator[str]:
    legend = axes.get_legend()
    told = {t.get_text().replace("\n", " ") for t in legend.get_texts()} if legend else set()
    labels = [str(artist.get_label()) for artist in (*axes.lines, *axes.patches)]
    labels += [str(group.get_label()) for group in axes.containers]
    for label in labels:
        if label and label[0] != "_" and label not in told:
            yield f"no legend for {label!r}"
    for line in axes.lines:
        color = ps.plots.format_color(str(line.get_label()))
        if color is not None and line.get_color() != color:
            yield f"{line.get_label()!r} has the colour {line.get_color()}, its format {color}"
