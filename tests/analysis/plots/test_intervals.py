"""Means with their intervals: what is drawn, and what is refused."""

from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.analysis.plots.intervals import plot_intervals


def test_each_mean_is_a_point_on_its_interval() -> None:
    with ps.plots.figure() as axes:
        plot_intervals(axes[0], {"bf16": (-0.3, -0.5, -0.1), "fp16": (0.2, None, None)}, xlabel="x")
        line, point, none, alone, zero = axes[0].lines
        assert np.asarray(line.get_data()).tolist() == [[-0.5, -0.1], [0, 0]]
        assert np.asarray(point.get_data()).tolist() == [[-0.3], [0]]
        assert np.isnan(np.asarray(none.get_xdata(), float)).all()
        assert np.asarray(alone.get_data()).tolist() == [[0.2], [1]]
        assert np.asarray(zero.get_xdata()).tolist() == [0, 0]
        assert axes[0].get_xlabel() == "x"
        assert axes[0].get_ylim() == (1.5, -0.5)  # the first one at the top


@pytest.mark.parametrize(
    ("intervals", "said"),
    [
        ({"bf16": (1.0, 2.0)}, r"intervals\['bf16'\] is \(1.0, 2.0\); allowed are"),
        ({"bf16": "abc"}, r"intervals\['bf16'\]"),
        ([1.0], "intervals is"),
    ],
)
def test_what_is_no_interval_is_refused(intervals: Any, said: str) -> None:
    with (
        ps.plots.figure() as axes,
        pytest.raises((TypeError, ValueError), match=said),
    ):
        plot_intervals(axes[0], intervals)
