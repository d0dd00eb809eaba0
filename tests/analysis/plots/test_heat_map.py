"""Heat maps: rows from the top down, and nothing drawn where there is no number."""

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import LogNorm

import precsim as ps


def test_rows_steps_and_gaps() -> None:
    rows = {"first": [1e-3, np.nan, 0.0], "second": [1e-2, np.inf, 1e-1]}
    with ps.plots.figure() as axes:
        ps.plots.plot_heat_map(axes[0], rows, label="drift", steps=[10, 20, 30])
        mesh: Any = axes[0].collections[0]
        drawn = np.ma.getmaskarray(np.ma.asarray(mesh.get_array()))
        assert drawn.tolist() == [[False, True, True], [False, True, False]]
        assert isinstance(mesh.norm, LogNorm)
        assert mesh.get_coordinates()[0, :, 0].tolist() == [5, 15, 25, 35]  # steps in the middle
        assert axes[0].yaxis_inverted()
        assert [text.get_text() for text in axes[0].get_yticklabels()] == ["first", "second"]


def test_many_rows_have_fewer_labels_and_nothing_can_be_drawn() -> None:
    with ps.plots.figure(2) as axes:
        ps.plots.plot_heat_map(axes[0], {f"layer{n}": [n + 1.0] for n in range(40)})
        assert len(axes[0].get_yticklabels()) <= 16
        ps.plots.plot_heat_map(axes[1], {"zeros": [0.0, 0.0]}, is_logarithmic=False)


def test_bad_rows() -> None:
    with ps.plots.figure() as axes:
        with pytest.raises(
            ValueError, match=r"rows have shapes \[\(1,\), \(2,\)\]; allowed is one"
        ):
            ps.plots.plot_heat_map(axes[0], {"a": [1.0], "b": [1.0, 2.0]})
        with pytest.raises(ValueError, match="rows have shapes"):
            ps.plots.plot_heat_map(axes[0], {})
        with pytest.raises(TypeError, match="rows is 3"):
            ps.plots.plot_heat_map(axes[0], 3)
