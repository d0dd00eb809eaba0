"""Pictures: what is drawn, told apart without colour, and written twice the same."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

import precsim as ps
from precsim.analysis import plots


@pytest.fixture
def axes() -> Axes:
    axes: Axes = plots.new_figure()[1][0, 0]
    return axes


def legend(axes: Axes) -> list[str]:
    box = axes.get_legend()
    assert box is not None
    return [text.get_text() for text in box.get_texts()]


def test_lines_differ_without_colour() -> None:
    styles = [plots._line_style(i, 100) for i in range(28)]
    assert len({(s["marker"], str(s["linestyle"])) for s in styles}) == 28
    assert len({(s["color"], str(s["linestyle"])) for s in styles}) == 28


def test_histogram_shares_and_format_ranges(axes: Axes) -> None:
    exponents, counts, *_ = ps.errors.exponent_histogram(
        np.array([2**-20, 0.5, 1.0, 1.5], np.float32)
    )
    histograms = {"x": (exponents, counts), "y": (np.zeros(0), np.zeros(0))}
    plots.plot_exponent_histogram(axes, histograms, ["e4m3", "e8m0", "q3.4"])
    assert legend(axes) == ["x", "y (empty)"]
    bars = [p for p in axes.patches if isinstance(p, Rectangle)]
    spans = [(p.get_x(), p.get_x() + p.get_width()) for p in bars]
    # For each format its normal range, then its subnormals.
    assert spans == [(-6, 9), (-9, -6), (-127, 128), (-127, -127), (-4, 3), (-4, -4)]
    low, high = axes.get_xlim()
    assert -40 < low < -20
    assert 3 < high < 20
    assert axes.get_yscale() == "log"
    assert "%" in axes.get_ylabel()


def test_histogram_refuses_what_has_no_range(axes: Axes) -> None:
    for name in ("float(e=inf,p=8)", "mxfp8", "int8"):
        with pytest.raises(ValueError, match="has no range to draw"):
            plots.plot_exponent_histogram(axes, {}, [name])
    with pytest.raises(ValueError, match="did you mean"):
        plots.plot_exponent_histogram(axes, {}, ["fp15"])


def test_empty_pictures_can_be_drawn(tmp_path: Path) -> None:
    figure, grid = plots.new_figure(1, 3, width=plots.PAGE_WIDTH)
    plots.plot_exponent_histogram(grid[0, 0], {}, ["fp16"])
    plots.plot_loss_curves(grid[0, 1], {"none": []})
    plots.plot_weight_drift(grid[0, 2], {})
    assert all(path.stat().st_size > 0 for path in plots.save_figure(figure, tmp_path / "empty"))


def test_losses_mean_divergence_and_scale(axes: Axes) -> None:
    losses = np.array([4.0, 2.0, np.inf, 2.0, np.nan, np.nan])
    plots.plot_loss_curves(axes, {"fp32": [4.0, 2.0, 3.0], "fp16": losses}, window=2)
    assert legend(axes) == ["fp32", "fp16 (diverged, step 5)"]
    assert axes.get_ylabel() == "training loss, mean of 2 steps"
    assert axes.get_yscale() == "log"
    means = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_equal(means["fp32"], [4.0, 3.0, 2.5])
    np.testing.assert_equal(
        means["fp16 (diverged, step 5)"], [4.0, 3.0, np.nan, 2.0, np.nan, np.nan]
    )
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [float(np.asarray(line.get_xdata())[0]) for line in crosses] == [4.0]


def test_losses_without_a_finite_one_or_below_zero(axes: Axes) -> None:
    plots.plot_loss_curves(axes, {"fp16": [np.nan, np.nan], "odd": [-1.0, 1.0]})
    assert legend(axes)[0] == "fp16 (diverged, step 1)"
    assert axes.get_yscale() == "linear"


def test_drift_leaves_out_what_a_logarithm_lacks(axes: Axes) -> None:
    drifts: dict[str, Any] = {
        "fp32": ([1, 2], [0.0, 0.0]),
        "bf16": ([1, 2, 3], [0.0, 1e-3, np.nan]),
    }
    plots.plot_weight_drift(axes, drifts)
    assert legend(axes) == ["fp32 (identical)", "bf16"]
    np.testing.assert_equal(axes.lines[1].get_ydata(), [np.nan, 1e-3, np.nan])


def test_figures_are_written_twice_the_same(tmp_path: Path) -> None:
    written = []
    for name in ("a", "b.svg"):
        figure, grid = plots.new_figure()
        plots.plot_loss_curves(grid[0, 0], {f"q3.{i}": [1.0, 0.5 + i] for i in range(10)})
        png, svg = plots.save_figure(figure, tmp_path / "made" / name)
        assert (png.suffix, svg.suffix) == (".png", ".svg")
        assert figure.axes == []
        written.append((png.read_bytes(), svg.read_bytes()))
    assert written[0] == written[1]


def test_dots_in_names_are_kept(tmp_path: Path) -> None:
    png, svg = plots.save_figure(plots.new_figure()[0], tmp_path / "q3.8")
    assert (png.name, svg.name) == ("q3.8.png", "q3.8.svg")


def test_pyplot_is_never_loaded() -> None:
    program = (
        "import sys, precsim.analysis.plots as p\n"
        "figure, axes = p.new_figure()\np.plot_loss_curves(axes[0, 0], {'a': [1.0]})\n"
        "figure.canvas.draw()\nprint('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
