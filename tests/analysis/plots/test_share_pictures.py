"""Pictures of shares: bars and the map of a training, from reports that are made by hand."""

from typing import Any

import numpy as np
import pytest

import precsim as ps
from tests.analysis.account.test_report import EMPTY, REPORT, _report, _row
from tests.picture_faults import picture_faults


def _along(count: Any, names: Any) -> Any:
    rng = np.random.default_rng(0)
    return [
        (3 * n, _report(*(_row(scope=name, share=float(rng.normal())) for name in names)))
        for n in range(count)
    ]


def test_pictures_are_legible() -> None:
    names = [f"model/layers_{n}/attention_weights" for n in range(30)]
    many = _report(*(_row(scope=name, share=0.1 * n) for n, name in enumerate(names)))
    with ps.plots.figure(4, width=ps.plots.PAGE_WIDTH) as axes:
        ps.plots.plot_shares(axes[0], REPORT)
        ps.plots.plot_shares(axes[1], many)
        ps.plots.plot_share_map(axes[2], _along(5, names))
        ps.plots.plot_share_map(axes[3], _along(2, ["layer0", "layer1"]))
    drawn: Any = axes[0].figure
    assert picture_faults(drawn) == []


def test_bars_are_shares_in_percent_of_the_change() -> None:
    with ps.plots.figure() as axes:
        ps.plots.plot_shares(axes[0], REPORT, k=2)
        bars: Any = axes[0].patches
        widths = [bar.get_width() for bar in bars]
        names = [label.get_text() for label in axes[0].get_yticklabels()]
    assert widths == [150, -100, 50]
    assert names == ["layer0", "…ntion/softmax[heads]/bold", "2 others"]
    assert axes[0].get_xlabel() == "share of the change (%)"


def test_map_shows_what_is_not_finite_in_grey() -> None:
    reports = [(1, _report(_row(share=1.0))), (2, _report(_row(share=np.nan)))]
    with ps.plots.figure() as axes:
        ps.plots.plot_share_map(axes[0], ps.share_map(reports))
    drawn: Any = axes[0]
    assert drawn.collections[0].get_array().mask.tolist() == [[False, True]]
    assert [t.get_text() for t in drawn.get_legend().get_texts()] == ["no finite share"]


def test_reports_without_rows_are_drawn() -> None:
    with ps.plots.figure(2) as axes:
        ps.plots.plot_shares(axes[0], EMPTY)
        ps.plots.plot_share_map(axes[1], [(1, EMPTY)])


def test_bad_arguments_get_one_line() -> None:
    with ps.plots.figure() as axes:
        with pytest.raises(TypeError, match="report is 3; allowed are Reports"):
            ps.plots.plot_shares(axes[0], 3)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="by is 'layer'; allowed are 'scope', 'primitive'"):
            ps.plots.plot_shares(axes[0], REPORT, by="layer")
        with pytest.raises(TypeError, match="axes is None; allowed are matplotlib's Axes"):
            ps.plots.plot_share_map(None, [])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"shares have the steps \[\]; allowed is each once"):
            ps.plots.plot_share_map(axes[0], [])
        with pytest.raises(ValueError, match=r"shares have the steps \[1, 1\]"):
            ps.plots.plot_share_map(axes[0], [(1, REPORT), (1, REPORT)])
