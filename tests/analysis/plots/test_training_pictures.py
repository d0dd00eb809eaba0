"""Pictures of training runs: what is drawn, where runs diverge, and that all of it is legible."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import precsim as ps
from tests.picture_faults import picture_faults

MAIN_JOB = ("fp32", "bf16", "bf16_mixed", "fp16", "fp16_mixed", "fp8_current", "q3.8", "q3.8_sr")
UP = r"$\uparrow$"


@pytest.fixture
def axes() -> Iterator[Axes]:
    with ps.plots.figure() as made:
        yield made[0]


def legend(axes: Axes) -> list[str]:
    box = axes.get_legend()
    assert box is not None
    return [text.get_text() for text in box.get_texts()]


def curves(axes: Axes) -> dict[str, Any]:
    return {str(line.get_label()): line.get_ydata() for line in axes.lines}


@pytest.mark.parametrize("width", [ps.plots.COLUMN_WIDTH, ps.plots.PAGE_WIDTH])
def test_pictures_of_the_main_job_are_legible(width: float) -> None:
    rng = np.random.default_rng(0)
    steps = np.arange(1, 901)
    base = 3 * np.exp(-steps / 500) + 0.1 * rng.random(900)
    losses = {name: base + k * 0.1 * (1 - 1 / steps) for k, name in enumerate(MAIN_JOB)}
    losses["fp16"] = np.where(steps < 700, losses["fp16"], np.nan)
    drifts = {
        name: (steps[::45], steps[::45] * 10.0 ** -(k + 3)) for k, name in enumerate(MAIN_JOB)
    }
    exponents = np.arange(-25, 2)
    histogram = (exponents, np.exp(-0.1 * (exponents + 8) ** 2) * 1e4 // 1)
    formats = ["fp32", "bf16", "fp16", "e5m2", "q3.8"]
    with ps.plots.figure(4, width=width) as axes:
        ps.plots.plot_loss_curves(axes[0], {"fp32": losses["fp32"]})
        ps.plots.plot_loss_gaps(axes[1], losses)
        ps.plots.plot_exponent_histogram(axes[2], {"fp32 gradient": histogram}, formats)
        ps.plots.plot_weight_drift(axes[3], drifts)
    figure = axes[0].figure
    assert isinstance(figure, Figure)
    assert picture_faults(figure) == []
    assert "overflow" in legend(axes[1])
    assert legend(axes[2])[-2:] == ["normal values of a format", "subnormal values"]


def test_histogram_shares_and_format_ranges(axes: Axes) -> None:
    exponents, counts, *_ = ps.errors.exponent_histogram(
        np.array([2**-20, 0.5, 1.0, 1.5], np.float32)
    )
    histograms = {"x": (exponents, counts), "y": (np.zeros(0), np.zeros(0))}
    ps.plots.plot_exponent_histogram(axes, histograms, ["e4m3", "e8m0", "q3.4"])
    assert legend(axes)[:2] == ["x", "y (empty)"]
    bars = [p for p in axes.patches if isinstance(p, Rectangle) and not np.isnan(p.get_x())]
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
            ps.plots.plot_exponent_histogram(axes, {}, [name])
    with pytest.raises(ValueError, match="did you mean"):
        ps.plots.plot_exponent_histogram(axes, {}, ["fp15"])


def test_empty_pictures_can_be_drawn() -> None:
    with ps.plots.figure(4) as axes:
        ps.plots.plot_exponent_histogram(axes[0], {}, ["fp16"])
        ps.plots.plot_loss_curves(axes[1], {"none": []})
        ps.plots.plot_loss_gaps(axes[2], {"none": []})
        ps.plots.plot_weight_drift(axes[3], {})


def test_losses_mean_divergence_and_scale(axes: Axes) -> None:
    losses = np.array([4.0, 2.0, np.inf, 2.0, np.nan, np.nan])
    ps.plots.plot_loss_curves(axes, {"fp32": [4.0, 2.0, 3.0], "fp16": losses}, window=2)
    assert legend(axes) == ["fp32", "fp16 (diverged, step 5)", "overflow"]
    assert axes.get_xlabel() == "step (losses: mean of 2)"
    assert axes.get_yscale() == "log"
    means = curves(axes)
    np.testing.assert_equal(means["fp32"], [4.0, 3.0, 2.5])
    np.testing.assert_equal(
        means["fp16 (diverged, step 5)"], [4.0, 3.0, np.nan, 2.0, np.inf, np.nan]
    )
    arrows = [np.asarray(line.get_xdata()) for line in axes.lines if line.get_marker() == UP]
    assert [steps.tolist() for steps in arrows] == [[5.0], []]


def test_losses_without_a_finite_one_or_below_zero(axes: Axes) -> None:
    ps.plots.plot_loss_curves(axes, {"fp16": [np.nan, np.nan], "odd": [-1.0, 1.0]})
    assert legend(axes)[0] == "fp16 (diverged, step 1)"
    assert axes.get_yscale() == "linear"


def test_gaps_are_those_to_the_first_run(axes: Axes) -> None:
    runs = {"fp32": [2.0, 1.0, 0.5], "bf16": [2.0, 1.5], "fp16": [1.0, np.inf, np.inf]}
    ps.plots.plot_loss_gaps(axes, runs)
    gaps = curves(axes)
    np.testing.assert_equal(gaps["bf16"], [0.0, 0.5])
    np.testing.assert_equal(gaps["fp16 (diverged, step 2)"], [-1.0, np.inf, np.nan])
    assert axes.get_ylabel() == "training loss minus fp32's"
    assert axes.get_yscale() == "symlog"


def test_drift_leaves_out_what_a_logarithm_lacks(axes: Axes) -> None:
    drifts: dict[str, Any] = {
        "fp32": ([1, 2], [0.0, 0.0]),
        "bf16": ([1, 2, 3], [0.0, 1e-3, np.nan]),
    }
    ps.plots.plot_weight_drift(axes, drifts)
    assert legend(axes) == ["fp32 (identical)", "bf16"]
    np.testing.assert_equal(axes.lines[1].get_ydata(), [np.nan, 1e-3, np.nan])
