"""Figures of files: run, recorded and resumed; with parameters; what is missing or malformed."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.analysis.figures.definition import load
from precsim.analysis.figures.record import PACKAGES
from tests.cli.figure_of_a_user import FIGURE

Write = Callable[..., Path]
Again = Callable[..., ps.figures.Outcome]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes the figure mine.py with parts of its text replaced."""
    (tmp_path / "input.txt").write_text("1")

    def make(**replaced: str) -> Path:
        text = FIGURE
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "mine.py"
        path.write_text(text)
        return path

    return make


@pytest.fixture
def again(tmp_path: Path) -> Again:
    """Return a function that runs mine.py with given options."""

    def run_it(**options: Any) -> ps.figures.Outcome:
        return ps.figures.run(tmp_path / "mine.py", out=tmp_path / "out", **options)

    return run_it


def test_files_of_a_run(write: Write, again: Again) -> None:
    write()
    outcome = again(command="precsim reproduce mine.py")
    assert (len(outcome.checks), outcome.mismatches, outcome.failed) == (2, [], False)
    names = {path.name for path in outcome.folder.iterdir()}
    assert names == {"data.csv", "data.npz", "provenance.json", "figure.svg", "figure.png"}
    facts = json.loads((outcome.folder / "provenance.json").read_text())
    assert facts["command"] == "precsim reproduce mine.py"
    assert (facts["seed"], facts["matched"]) == (7, "2/2")
    assert set(PACKAGES) < set(facts["versions"])
    assert facts["device"]
    assert facts["git"] is None  # git does not know the file
    assert facts["checks"][1]["published"] == "inf"
    rows = list(csv.reader((outcome.folder / "data.csv").read_text().splitlines()))
    assert rows[0] == ["array", "index0", "index1", "value"]
    assert rows[1:4] == [["x", "0", "0", "0.0"], ["x", "1", "0", "1.0"], ["x", "2", "0", "2.0"]]
    assert rows[4:6] == [["pairs", "0", "0", "0"], ["pairs", "0", "1", "1"]]
    assert rows[8:] == [["one", "0", "0", "1.0"]]


def test_the_same_picture_is_the_same_file(write: Write, again: Again) -> None:
    write()
    pictures = [(again(force=True).folder / "figure.svg").read_bytes() for _ in range(2)]
    assert pictures[0] == pictures[1]
    assert b"<svg" in pictures[0]


def test_resumption(write: Write, again: Again, tmp_path: Path) -> None:
    path = write()
    runs = tmp_path / "runs.txt"
    results = tmp_path / "out" / "mine"

    def is_computed(**options: bool) -> bool:
        before = len(runs.read_text()) if runs.exists() else 0
        outcome = again(**options)
        computed = len(runs.read_text()) > before
        assert outcome.reused is not computed
        return computed

    assert is_computed()
    assert not is_computed()
    assert again().fast
    assert is_computed(force=True)
    assert is_computed(fast=False)
    assert not is_computed(fast=False)
    assert not is_computed()  # a full result serves a fast run
    assert not again().fast
    write()
    assert not is_computed()
    path.write_text(path.read_text() + "\n# changed\n")
    assert is_computed()
    (tmp_path / "input.txt").write_text("2")
    assert is_computed()
    (results / "data.npz").write_bytes((results / "data.npz").read_bytes()[:100])
    assert is_computed()
    facts = json.loads((results / "provenance.json").read_text())
    (results / "provenance.json").write_text(json.dumps({**facts, "key": "another"}))
    assert is_computed()
    (results / "figure.svg").unlink()
    assert not is_computed()
    assert (results / "figure.svg").exists()


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e5m2", "float8_e4m3fn", "int4"])
def test_kept_arrays_of_narrow_dtypes(dtype: str, tmp_path: Path) -> None:
    """Defect: they came back as bytes."""
    path = tmp_path / "narrow.py"
    path.write_text(
        "import ml_dtypes\nimport numpy as np\nimport precsim as ps\n"
        f"def compute(): return {{'n': np.ones(2, ml_dtypes.{dtype})}}\n"
        "def check(results): return [ps.figures.Check('n', 1, float(results['n'][0]))]\n"
    )
    outcomes = [ps.figures.run(path, out=tmp_path) for _ in range(2)]
    assert [each.reused for each in outcomes] == [False, True]
    assert all(each.checks and not each.mismatches for each in outcomes)


def test_a_kept_figure_gets_back_what_is_missing(write: Write, again: Again) -> None:
    write()
    folder = again().folder
    names = ("data.csv", "figure.svg", "figure.png")
    contents = [(folder / name).read_bytes() for name in names]
    for name in names:
        (folder / name).unlink()
    assert again().reused
    assert [(folder / name).read_bytes() for name in names[:2]] == contents[:2]
    assert (folder / names[2]).exists()


def test_a_folder_of_another_file_is_refused(write: Write, again: Again, tmp_path: Path) -> None:
    """Defect: two files of one name overwrote each other's results."""
    write()
    folder = again().folder
    facts = json.loads((folder / "provenance.json").read_text())
    assert facts["source"] == "../../mine.py"
    other = tmp_path / "elsewhere" / "mine.py"
    other.parent.mkdir()
    other.write_text("def compute(): return {'n': 1}")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    message = (
        r"recorded from '\.\./\.\./mine\.py', not from '\.\./\.\./elsewhere/mine\.py'; name ano"
    )
    with pytest.raises(ValueError, match=message):
        ps.figures.run(other, out=tmp_path / "out")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert not ps.figures.run(other, out=tmp_path / "out", force=True).reused
    assert ps.figures.run(other, out=tmp_path / "out").reused
    with pytest.raises(ValueError, match="recorded from"):
        again()


def test_a_file_and_its_results_move_together(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "few.py").write_text("def compute(): return {'n': 1}")
    ps.figures.run(tmp_path / "here" / "few.py", out=tmp_path / "here" / "out")
    (tmp_path / "here").rename(tmp_path / "there")
    there = tmp_path / "there"
    assert ps.figures.run(there / "few.py", out=there / "out").reused


def test_kept_arrays_are_the_computed_ones(write: Write, again: Again) -> None:
    write(**{"factor=1.0": "factor=0.1"})
    first, second = again(), again()
    assert second.reused
    assert second.checks == first.checks
    assert second.seconds == pytest.approx(first.seconds, abs=1e-3)


def test_results_hold_numbers_of_any_kind(write: Write, again: Again) -> None:
    write(**{"np.float64(factor)": "np.inf", 'grade="A"': 'grade="C"'})
    assert again().mismatches[0].computed == np.inf


def test_a_plot_that_fails_leaves_data_and_no_older_picture(write: Write, again: Again) -> None:
    path = write()
    folder = again().folder
    path.write_text(path.read_text() + "    results['y']\n")
    with pytest.raises(
        ValueError, match=r"mine: plot failed, so .*mine has data and no picture: Key"
    ):
        again()
    assert {file.name for file in folder.iterdir()} == {"data.csv", "data.npz", "provenance.json"}
    write(
        **{
            "axes[0].plot(results": "axes[0].set_title(r'$\\frac$')  # fails when saved\n    (results"
        }
    )
    with pytest.raises(
        ValueError, match=r"mine: plot failed, so .* no picture: ValueError: .*frac"
    ):
        again()
    assert {file.name for file in folder.iterdir()} == {"data.csv", "data.npz", "provenance.json"}


def test_own_parameters_are_recorded_drawn_and_not_compared(write: Write, again: Again) -> None:
    write()
    default = again()
    own = again(parameters={"factor": 3, "spec": "e4m3:rtz"})
    assert own.parameters == {"factor": 3.0, "spec": "e4m3:rtz"}
    assert (own.checks, own.failed) == ((), False)
    assert own.folder != default.folder
    facts = json.loads((own.folder / "provenance.json").read_text())
    assert facts["parameters"] == {"factor": 3.0, "spec": "e4m3:rtz", "lengths": [1, 2]}
    assert facts["own parameters"] == ["factor", "spec"]
    assert "published" in (default.folder / "figure.svg").read_text()
    assert "published" not in (own.folder / "figure.svg").read_text()
    assert not own.reused
    assert again(parameters={"factor": 3, "spec": "e4m3:rtz"}).reused
    assert again().reused
    assert again(parameters={"factor": 1, "lengths": [1, 2]}).folder == default.folder


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"factr": 2},
            "mine: parameter is 'factr'; allowed are 'factor', 'spec', 'lengths'; did you",
        ),
        ({"factor": "2"}, "parameter 'factor': '2' is given; allowed are finite numbers"),
        ({"factor": np.nan}, "parameter 'factor': nan is given; allowed are finite numbers"),
        ({"spec": "e4m9"}, "parameter 'spec': unknown format 'e4m9'; did you mean"),
        ({"lengths": 3}, "parameter 'lengths': 3 is given; allowed are tuples of integers"),
        ({"lengths": (3, 1.5)}, "parameter 'lengths': 1.5 is given; allowed are integers"),
    ],
)
def test_a_wrong_parameter_is_one_line(
    parameters: dict[str, Any], message: str, write: Write, again: Again, tmp_path: Path
) -> None:
    write()
    with pytest.raises(ValueError, match=r"given|unknown|allowed") as caught:
        again(parameters=parameters)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_what_is_missing_has_a_default(tmp_path: Path) -> None:
    path = tmp_path / "counts.py"
    path.write_text('"""Counts.\n\nMore."""\n\ndef compute(): return {"n": [1, 2]}\n')
    figure = load(path)
    assert (figure.title, figure.citation, figure.grade, figure.panels) == ("Counts.", "", "C", 1)
    outcome = ps.figures.run(path, out=tmp_path)
    assert {path.name for path in outcome.folder.iterdir()} == {
        "data.csv", "data.npz", "provenance.json",
    }  # fmt: skip


MALFORMED = {
    "": "mine.py: compute is None; allowed is a function",
    "def f(:": "mine.py, line 1: invalid syntax",
    "compute = 3": "mine.py: compute is 3; allowed is a function",
    "def compute(): return {}\ncheck = 3": "mine.py: check is 3; allowed is a function",
    "def compute(n): pass": "mine.py: compute takes 'n' by position; allowed are `fast`, and",
    "def compute(*, n): pass": "mine.py: the default of 'n' of compute is missing; allowed are",
    "def compute(*, n=None): pass": "mine.py: the default of 'n' of compute is None; allowed are",
    "def compute(*, n=()): pass": "mine.py: the default of 'n' of compute is (); allowed are",
    "def compute(*, n=(1, '')): pass": "mine.py: the default of 'n' of compute is (1, ''); allowed",
    "CLASS = 'D'\ndef compute(): pass": "mine.py: CLASS is 'D'; allowed are 'A', 'B', 'C'",
    "PANELS = 0\ndef compute(): pass": "mine.py: PANELS is 0; allowed are integers from 1 on",
    "INPUTS = 'a'\ndef compute(): pass": "mine.py: INPUTS is 'a'; allowed is a tuple of texts",
    "INPUTS = 3\ndef compute(): pass": "mine.py: INPUTS is 3; allowed is a tuple of texts",
    "TITLE = 3\ndef compute(): pass": "mine.py: TITLE is 3; allowed is a text",
    "CITATION = ()\ndef compute(): pass": "mine.py: CITATION is (); allowed is a text",
    "NEEDS = None\ndef compute(): pass": "mine.py: NEEDS is None; allowed is a text",
    "SECONDS = 3\ndef compute(): pass": "mine.py: SECONDS is 3; allowed is a tuple of numbers",
    "CLASS = ['A']\ndef compute(): pass": "mine.py: CLASS is ['A']; allowed are 'A', 'B', 'C'",
    "from math import nan\ndef compute(*, n=nan): pass": "mine.py: the default of 'n' of compute is nan",
    "def compute(*, n=(1, -1e999)): pass": "the default of 'n' of compute is (1, -inf); allowed are",
    "def compute(): return [1]": "mine: compute returned [1]; allowed is a dict of arrays",
    "def compute(): return {'x': None}": "mine: compute returned 'x' of dtype object; allowed are",
    "def compute(): return {'__key__': 1}": "mine: compute returned '__key__' of dtype int64; allowed",
    "def compute(): return {}\ndef check(x): return [1]": "mine: check returned [1]; allowed is a",
    "def compute(): return {}\ndef check(x): pass": "mine: check returned None; allowed is a list",
    "def compute(): return {}\ndef check(x): return 3": "mine: check returned 3; allowed is a list",
    "raise SystemExit": "mine.py: the file exits with None; a figure has to go on",
    "def compute(): raise SystemExit(0)": "mine: compute exits with 0; a figure has to go on",
    "def compute(): return {}\ndef check(x): raise SystemExit('bye')": "mine: check exits with 'bye'; a",
    "def compute(): return {}\ndef plot(*_): raise SystemExit(0)": "mine: plot exits with 0; a figure",
}


@pytest.mark.parametrize(("text", "message"), MALFORMED.items())
def test_a_malformed_figure_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"mine|INPUTS") as caught:
        ps.figures.run(path, out=tmp_path / "out")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_no_such_file() -> None:
    with pytest.raises(ValueError, match=r"there is no file nowhere\.py; allowed are Python files"):
        ps.figures.run("nowhere.py")


def test_a_file_of_a_user_imports_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_mine.py").write_text("N = 3")
    path = tmp_path / "mine.py"
    path.write_text("from beside_mine import N\ndef compute(): return {'n': N}")
    assert load(path).compute(fast=True, parameters={})["n"] == 3
