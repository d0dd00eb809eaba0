"""Arguments of pictures: one clear line for what is refused, and what is taken beside the plain."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import precsim as ps
from precsim.formats.registry import get_format

plots: Any = ps.plots


@pytest.fixture
def axes() -> Iterator[Axes]:
    with ps.plots.figure() as made:
        yield made[0]


def figure(*panels: Any, **options: Any) -> None:
    with plots.figure(*panels, **options):
        raise AssertionError("the block ran")


LINES: tuple[tuple[Callable[[Axes], Any], str], ...] = (
    (lambda _: figure(0), "panels is 0; allowed are integers from 1 on"),
    (lambda _: figure("a"), "panels is 'a'; allowed are integers from 1 on"),
    (lambda _: figure(2.0), "panels is 2.0; allowed are integers from 1 on"),
    (lambda _: figure(2, width=-1), "width is -1; allowed are positive numbers"),
    (lambda _: figure(width=np.nan), "width is nan; allowed are positive numbers"),
    (lambda _: figure(width="8.5"), "width is '8.5'; allowed are real numbers: int, float"),
    (lambda _: figure(height=0), "height is 0; allowed are positive numbers"),
    (lambda _: figure(path=3), "path is 3; allowed are names of files, as str or Path"),
    (lambda _: figure(path="."), "path is '.'; allowed are names of files"),
    (lambda _: plots.save_figure(None, "a"), "figure is None; allowed are matplotlib's Figures"),
    (lambda a: plots.save_figure([a], "a"), "figure is [<Axes: >]; allowed are matplotlib's"),
    (lambda _: plots.save_figure(Figure(), None), "path is None; allowed are names of files"),
    (lambda _: plots.plot_curves(None, {}), "axes is None; allowed are matplotlib's Axes"),
    (lambda a: plots.plot_curves([a], {}), "axes is [<Axes: >]; allowed are matplotlib's Axes"),
    (lambda _: plots.plot_published(None, [1], [2]), "axes is None; allowed are matplotlib's"),
    (lambda _: plots.plot_loss_curves(None, {}), "axes is None; allowed are matplotlib's"),
    (lambda _: plots.plot_loss_gaps(None, {}), "axes is None; allowed are matplotlib's"),
    (lambda _: plots.plot_weight_drift(None, {}), "axes is None; allowed are matplotlib's"),
    (lambda _: plots.plot_exponent_histogram(None, {}), "axes is None; allowed are matplotlib's"),
    (lambda _: plots.finish(None), "axes is None; allowed are matplotlib's Axes"),
    (
        lambda a: plots.plot_curves(a, [1, 2]),
        "curves is [1, 2]; allowed are mappings of str to (x, y)",
    ),
    (
        lambda a: plots.plot_curves(a, {"a": [1, 2, 3]}),
        "curves['a'] is [1, 2, 3]; allowed are pairs (x, y)",
    ),
    (lambda a: plots.plot_curves(a, {"a": None}), "curves['a'] is None; allowed are pairs (x, y)"),
    (lambda a: plots.plot_curves(a, {1: ([1], [2])}), "a key of curves is 1; allowed are strings"),
    (
        lambda a: plots.plot_curves(a, {"a": ([1, 2], [1, 2, 3])}),
        "x of curves['a'] has shape (2,), y of curves['a'] (3,); allowed is one shape (n,)",
    ),
    (
        lambda a: plots.plot_curves(a, {"a": ([1, 2], np.zeros((2, 3)))}),
        "x of curves['a'] has shape (2,), y of curves['a'] (2, 3); allowed is one shape (n,)",
    ),
    (
        lambda a: plots.plot_curves(a, {"a": ([1, 2], [1, 2j])}),
        "y of curves['a'] is [1, 2j]; allowed are arrays of real numbers",
    ),
    (
        lambda a: plots.plot_published(a, [1, 2], [0.5]),
        "x has shape (2,), y (1,); allowed is one shape (n,)",
    ),
    (
        lambda a: plots.plot_published(a, ["1", "2"], [1, 2]),
        "x is ['1', '2']; allowed are arrays of real numbers",
    ),
    (
        lambda a: plots.plot_weight_drift(a, {"bf16": [0.1, 0.2]}),
        "steps of drifts['bf16'] has shape (), values of drifts['bf16'] (); allowed is one shape (n,)",
    ),
    (
        lambda a: plots.plot_weight_drift(a, {"bf16": [0.1, 0.2, 0.3]}),
        "drifts['bf16'] is [0.1, 0.2, 0.3]; allowed are pairs (steps, values)",
    ),
    (
        lambda a: plots.plot_loss_curves(a, {"a": np.ones((2, 3))}),
        "curves['a'] has shape (2, 3); allowed is a shape (steps,)",
    ),
    (
        lambda a: plots.plot_loss_gaps(a, {"a": 1.0}),
        "curves['a'] has shape (); allowed is a shape (steps,)",
    ),
    (
        lambda a: plots.plot_loss_curves(a, {"a": ["low", "high"]}),
        "curves['a'] is ['low', 'high']; allowed are arrays of real numbers",
    ),
    (
        lambda a: plots.plot_loss_curves(a, [1.0, 2.0]),
        "curves is [1.0, 2.0]; allowed are mappings of str to losses",
    ),
    (lambda a: plots.plot_loss_curves(a, {1: [1.0]}), "a key of curves is 1; allowed are strings"),
    (lambda a: plots.plot_loss_gaps(a, {}), "curves is {}; allowed are mappings of one run or"),
    *(
        (
            lambda a, plot=plot, window=window: plot(a, {"a": [1.0], "b": [1.0]}, window=window),
            f"window is {window}; allowed are integers from 1 on",
        )
        for plot in (plots.plot_loss_curves, plots.plot_loss_gaps)
        for window in (-2, 2.5, 0)
    ),
    (
        lambda a: plots.plot_exponent_histogram(a, {"g": [1, 2, 3]}),
        "histograms['g'] is [1, 2, 3]; allowed are pairs (exponents, counts)",
    ),
    (
        lambda a: plots.plot_exponent_histogram(a, {"g": ([0, 1], [5])}),
        "exponents of histograms['g'] has shape (2,), counts of histograms['g'] (1,); allowed is one shape (n,)",
    ),
    (
        lambda a: plots.plot_exponent_histogram(a, {}, None),
        "format is None; allowed are a name or a format",
    ),
    (lambda _: plots.format_color(None), "label is None; allowed are strings"),
    (lambda _: plots.format_color(["fp16"]), "label is ['fp16']; allowed are strings"),
    (lambda _: plots.line_styles(None), "a label is None; allowed are strings"),
    (lambda _: plots.line_styles(["a", 3]), "a label is 3; allowed are strings"),
    (lambda _: plots.line_styles(["a"], -1), "points is -1; allowed are integers from 0 on"),
)


@pytest.mark.parametrize(
    ("call", "line"), LINES, ids=[f"{k}: {line}" for k, (_, line) in enumerate(LINES)]
)
def test_what_is_refused_has_one_line(
    call: Callable[[Axes], Any], line: str, axes: Axes, tmp_path: Path
) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(line)}") as caught:
        call(axes)
    assert "\n" not in str(caught.value)
    assert not axes.has_data()


def test_a_histogram_is_taken_as_it_is_returned(axes: Axes) -> None:
    found = ps.errors.exponent_histogram(np.array([0.0, 0.5, 1.0, 1.5, np.inf]))
    ps.plots.plot_exponent_histogram(axes, {"g": found})
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[-0.5, 100 / 3], [0.5, 200 / 3]])


@pytest.mark.parametrize("fmt", ["fp16", get_format("fp16"), np.float16])
def test_one_format_is_taken(axes: Axes, fmt: Any) -> None:
    plots.plot_exponent_histogram(axes, {}, formats=fmt)
    assert [text.get_text() for text in axes.texts] == ["fp16"]


def test_one_label_is_taken() -> None:
    assert ps.plots.line_styles("bf16") == ps.plots.line_styles(["bf16"])


def test_views_of_a_mapping_are_taken(axes: Axes) -> None:
    known = {10: 0.5, 20: 0.25}
    ps.plots.plot_published(axes, known.keys(), known.values())
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[10, 0.5], [20, 0.25]])


def test_one_published_point_may_be_two_numbers(axes: Axes) -> None:
    ps.plots.plot_published(axes, 10, np.float32(0.5))
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[10, 0.5]])


def test_a_window_may_be_longer_than_the_run(axes: Axes) -> None:
    ps.plots.plot_loss_curves(axes, {"a": [3.0, 1.0]}, window=10**12)
    assert np.asarray(axes.lines[1].get_ydata()).tolist() == [3.0, 2.0]
