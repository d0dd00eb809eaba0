"""Figures: rows that fit their width, files that are the same each time, no pyplot."""

import importlib.resources
import subprocess
import sys
from pathlib import Path

import matplotlib.style
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import precsim as ps
from tests.picture_faults import picture_faults


def centimetres(figure: object) -> list[float]:
    assert isinstance(figure, Figure)
    return [round(2.54 * float(inches), 1) for inches in figure.get_size_inches()]


@pytest.mark.long
def test_panels_stand_in_rows_that_fit() -> None:
    for panels, width, size in ((1, None, [8.5, 5]), (3, None, [17, 10]), (3, 8.5, [8.5, 15])):
        with ps.plots.figure(panels, width=width, height=5) as axes:
            for panel in axes:
                panel.plot([1, 2])
        assert centimetres(axes[0].figure) == size


def test_empty_panels_vanish() -> None:
    with ps.plots.figure(2, height=5) as axes:
        axes[1].plot([1, 2])
    figure = axes[1].figure
    assert figure is not None
    assert figure.axes == [axes[1]]
    assert centimetres(figure) == [8.5, 5]
    with ps.plots.figure(2) as axes:
        pass
    assert len(axes) == 2


def test_a_legend_makes_room() -> None:
    with ps.plots.figure(height=5) as axes:
        ps.plots.plot_curves(
            axes[0], {f"a long name of line {k}": ([1, 2], [k, k]) for k in range(9)}
        )
        axes[0].set_xlabel("a label\nof two lines")
        ps.plots.finish(axes[0])
    figure = axes[0].figure
    assert isinstance(figure, Figure)
    assert centimetres(figure)[1] > 6
    assert picture_faults(figure) == []


@pytest.mark.long
def test_figures_are_written_twice_the_same(tmp_path: Path) -> None:
    written = []
    for name in ("a", "q3.8"):
        with ps.plots.figure(path=tmp_path / "made" / name) as axes:
            ps.plots.plot_loss_curves(axes[0], {f"q3.{i}": [1.0, 0.5 + i] for i in range(10)})
        files = [tmp_path / "made" / f"{name}{suffix}" for suffix in (".png", ".svg")]
        written.append([file.read_bytes() for file in files])
    assert written[0] == written[1]


def test_a_suffix_names_the_only_file(tmp_path: Path) -> None:
    for name, files in (("a.svg", ["a.svg"]), ("b.png", ["b.png"])):
        with ps.plots.figure() as axes:
            axes[0].plot([1, 2])
        figure = axes[0].figure
        assert isinstance(figure, Figure)
        assert [path.name for path in ps.plots.save_figure(figure, tmp_path / name)] == files
        assert figure.axes == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "b.png"]


def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), ps.plots.figure(path=tmp_path / "a") as axes:
        axes[0].plot([1 / 0])
    assert list(tmp_path.iterdir()) == []


def test_the_sheet_is_in_the_package_and_legible() -> None:
    assert importlib.resources.files("precsim").joinpath("plots.mplstyle").is_file()
    with matplotlib.style.context("precsim.plots"):
        figure = Figure()
        figure.subplots().plot([1, 2], label="fp32")
        figure.axes[0].legend()
    figure.draw_without_rendering()
    sizes = {float(text.get_fontsize()) for text in figure.findobj(Text)}
    assert sizes == {7.5, 8.0}


def test_faults_are_found() -> None:
    """The rules of `picture_faults` can fail."""
    with ps.plots.figure() as axes:
        axes[0].bar([1, 2], [3, 4], bottom=1, hatch="//", label="bars")
        axes[0].plot([1, 2], [3, np.inf], "r", label="fp16")
        axes[0].set_xticks([1.0, 1.01], ["long label", "another one"], size=6)
        axes[0].set_ylabel("a label that is much longer than the axis " * 3)
    figure = axes[0].figure
    assert isinstance(figure, Figure)
    found = "\n".join(picture_faults(figure))
    for words in (
        "has 6",
        "is cut off",
        "'long label' and 'another one' overlap",
        "do not start at zero",
        "no legend for the hatch //",
        "off the scale and have no arrow",
        "no legend for arrows",
        "no legend for 'bars'",
        "its format #009E73",
    ):
        assert words in found


@pytest.mark.long
def test_pyplot_is_never_loaded() -> None:
    program = (
        "import sys, precsim as ps\n"
        "with ps.plots.figure() as axes: ps.plots.plot_loss_curves(axes[0], {'a': [1.0]})\n"
        "axes[0].figure.canvas.draw()\nprint('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
