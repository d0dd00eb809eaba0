"""Pictures of formats: true to their values, legible, and written once."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import precsim as ps
from precsim.cli.formats import MOST_PLOTTED, PLOTTED
from precsim.cli.main import main
from tests.picture_faults import picture_faults


@pytest.mark.parametrize(
    "names",
    [
        PLOTTED,
        ("fp16", "bf16"),
        ("e2m1", "e4m3", "q3.4", "mxfp4", "int4"),
        ps.list_formats(kind="block"),
    ],
)
def test_pictures_have_no_faults(names: tuple[str, ...]) -> None:
    with ps.plots.figure(2, height=7) as axes:
        ps.plots.plot_precision(axes[0], names)
        small = [name for name in names if (getattr(ps.get_format(name), "width", 8) or 9) <= 8]
        if small:
            ps.plots.plot_values(axes[1], small)
    figure = axes[0].figure
    assert isinstance(figure, Figure)
    assert picture_faults(figure) == []


def test_precision_is_that_of_the_spacing() -> None:
    names = ("fp16", "e4m3", "e2m1", "q3.4", "float(e=4,p=5)")
    with ps.plots.figure() as axes:
        ps.plots.plot_precision(axes[0], names)
    for name, line in zip(names, axes[0].lines, strict=True):
        exponents, bits = line.get_data()
        x = 2.0 ** np.asarray(exponents, float)
        spacing = [ps.oracle.ulp_exact(1.25 * v, name) for v in x]
        assert np.array_equal(1 + np.log2(x / spacing), bits), name
        fmt = ps.get_format(name)
        largest = fmt.max_value if isinstance(fmt, ps.FixedPointFormat) else fmt.max_finite
        assert x[-1] <= largest < 2 * x[-1]


def test_ticks_are_the_values() -> None:
    with ps.plots.figure() as axes:
        ps.plots.plot_values(axes[0], ["e2m1", "e4m3", "q3.4"])
    marks = [line for line in axes[0].lines if line.get_marker() == "|"]
    for name, line in zip(("q3.4", "e4m3", "e2m1"), marks, strict=True):
        values = np.unique(np.asarray(ps.decode(np.arange(256 if name != "e2m1" else 16), name)))
        expected = values[(values >= 0) & (values <= 6)]
        assert np.array_equal(line.get_xdata(), expected), name


def test_formats_that_cannot_be_drawn_are_refused() -> None:
    with ps.plots.figure() as axes:
        with pytest.raises(ValueError, match="format fp16 has 16 bits; allowed are up to 8"):
            ps.plots.plot_values(axes[0], "fp16")
        with pytest.raises(ValueError, match="has an unlimited range"):
            ps.plots.plot_precision(axes[0], "float(e=inf,p=4)")


def test_a_picture_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["formats", "--plot", "e2m1", "e3m2"]) == 0
    assert capsys.readouterr().out == "formats.svg: e2m1, e3m2\n"
    drawn = Path("formats.svg").read_bytes()
    assert drawn.startswith(b"<?xml")
    assert main(["formats", "e2m1", "--plot"]) == 2
    assert "formats.svg, which exists; allowed is a new name" in capsys.readouterr().err
    assert Path("formats.svg").read_bytes() == drawn
    assert main(["formats", "e2m1", "--plot", "a.png"]) == 0
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_each_format_has_two_values_in_the_picture() -> None:
    with ps.plots.figure() as axes:
        ps.plots.plot_values(axes[0], ["q0.1", "uq1.0", "q-2.6"])
    marks = [line.get_xdata() for line in axes[0].lines if line.get_marker() == "|"]
    assert [np.asarray(x).tolist()[:2] for x in marks] == [[0, 1 / 64], [0, 1], [0, 0.5]]
    assert [text.get_text() for text in axes[0].texts] == ["0.234375", "1", "0.5"]
    assert axes[0].get_xlim()[1] >= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plot", "x.pdf"], "--plot is 'x.pdf'; allowed are names of files that end in .svg or"),
        (["--plot", "x.svg", "--kind", "float"], f"allowed are {MOST_PLOTTED}: name them before"),
        (
            ["fp16", "--kind", "float"],
            "--kind is 'float' and FORMAT 'fp16'; allowed is one of both",
        ),
        (["e2m1", "--plot", "made/a.svg"], "but there is no folder made; allowed are folders that"),
        (["--json", "--plot", "x.svg"], "--json is given with --plot; allowed is one of both"),
        (["fp15"], "unknown format 'fp15'; did you mean"),
    ],
)
def test_bad_input_is_refused(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["formats", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_named_formats_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats", "fp16", "mxfp4"]) == 0
    out = capsys.readouterr().out
    assert "65504" in out
    assert "6 * scale" in out
    assert "448" not in out
