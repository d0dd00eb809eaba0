"""Finding, running, recording and resuming experiments; what the command prints and returns."""

import csv
import json
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

import experiments
from experiments import record
from experiments.__main__ import main
from experiments.frame import Outcome, Request, discover, find, run
from experiments.record import PACKAGES

MODULE = '''
"""A figure for tests."""

from pathlib import Path

import numpy as np

from experiments.check import Check

TITLE, CITATION, CLASS, SEED = "A test", "Nobody, 2026", "A", 7
PUBLISHED = {"two": 2.0}
INPUTS = ("input.txt",)
PANELS = 2

def compute(fast):
    log = Path(__file__).parent / "runs.txt"
    log.write_text(log.read_text() + "x" if log.exists() else "x")
    return {"x": np.arange(3.0), "pairs": np.arange(4).reshape(2, 2), "one": np.float64(FACTOR)}

def check(results):
    return [Check("two", 2.0, 2.0 * float(results["one"]), grade="GRADE"), Check("inf", np.inf, np.inf)]

def plot(results, axes):
    axes[0].plot(results["x"])
'''

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Return a function that writes the experiment g98_test with parts of its text replaced."""
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "input.txt").write_text("1")
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(folder)])

    def make(name: str = "g98_test", **replaced: str) -> Path:
        sys.modules.pop(f"experiments.{name}", None)
        text = MODULE
        for old, new in {"FACTOR": "1.0", "GRADE": "A", **replaced}.items():
            text = text.replace(old, new)
        path = folder / f"{name}.py"
        path.write_text(text)
        return path

    # A rewritten module must be read again although its size and second of writing are the same.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield make
    for name in list(sys.modules):
        if name.startswith("experiments.g9"):
            del sys.modules[name]


@pytest.fixture
def again(tmp_path: Path) -> Callable[..., Outcome]:
    """Return a function that runs g98_test with given options."""

    def run_it(*, fast: bool = True, force: bool = False) -> Outcome:
        return run(Request(name="g98_test", out=tmp_path / "out", fast=fast, force=force))

    return run_it


def test_every_experiment_has_its_parts() -> None:
    assert {"g02_harmonic", "g03_euler"} <= set(discover())
    for name in discover():
        module = __import__(f"experiments.{name}", fromlist=["TITLE"])
        assert {"CITATION", "CLASS", "PUBLISHED", "TITLE", "check", "compute", "plot"} <= set(
            vars(module)
        )
        assert module.CLASS in "ABC"
        assert module.__doc__


def test_words_for_an_experiment() -> None:
    assert {find(word) for word in ("g03_euler", "g03", "G3", "3", "g03_euler.py")} == {"g03_euler"}
    with pytest.raises(LookupError, match="did you mean 'g03_euler'"):
        find("g03_eular")
    with pytest.raises(LookupError, match="known are g01_formats, g02_harmonic"):
        find("zebra")


def test_files_of_a_run(write: Write, tmp_path: Path) -> None:
    write()
    request = Request(name="g98_test", out=tmp_path / "out", command="python -m experiments g98")
    outcome = run(request)
    assert (len(outcome.checks), outcome.mismatches, outcome.failed) == (2, [], False)
    folder = tmp_path / "out" / "g98_test"
    names = {path.name for path in folder.iterdir()}
    assert names == {"data.csv", "data.npz", "provenance.json", "figure.svg", "figure.png"}
    facts = json.loads((folder / "provenance.json").read_text())
    assert (facts["command"], facts["seed"], facts["matched"]) == (request.command, 7, "2/2")
    assert set(PACKAGES) < set(facts["versions"])
    assert facts["device"]
    assert facts["checks"][1]["published"] == "inf"
    rows = list(csv.reader((folder / "data.csv").read_text().splitlines()))
    assert rows[0] == ["array", "index0", "index1", "value"]
    assert rows[1:4] == [["x", "0", "0", "0.0"], ["x", "1", "0", "1.0"], ["x", "2", "0", "2.0"]]
    assert rows[4:6] == [["pairs", "0", "0", "0"], ["pairs", "0", "1", "1"]]
    assert rows[8:] == [["one", "0", "0", "1.0"]]


def test_the_same_picture_is_the_same_file(write: Write, again: Callable[..., Outcome]) -> None:
    folder = write().parent.parent / "out" / "g98_test"
    pictures = []
    for _ in range(2):
        again(force=True)
        pictures.append((folder / "figure.svg").read_bytes())
    assert pictures[0] == pictures[1]
    assert b"<svg" in pictures[0]


@pytest.mark.long
def test_resumption(write: Write, again: Callable[..., Outcome], tmp_path: Path) -> None:
    path = write()
    runs = path.parent / "runs.txt"
    results = tmp_path / "out" / "g98_test"

    def is_computed(**options: bool) -> bool:
        before = len(runs.read_text()) if runs.exists() else 0
        outcome = again(**options)
        assert not outcome.error
        computed = len(runs.read_text()) > before
        assert outcome.reused is not computed
        return computed

    assert is_computed()
    assert not is_computed()
    assert is_computed(force=True)
    assert is_computed(fast=False)
    assert not is_computed(fast=False)
    assert not is_computed()  # a full result serves a fast run
    write(TITLE="TITLE")
    assert not is_computed()
    path.write_text(path.read_text() + "\n# changed\n")
    assert is_computed()
    (path.parent / "input.txt").write_text("2")
    assert is_computed()
    (results / "data.npz").write_bytes((results / "data.npz").read_bytes()[:100])
    assert is_computed()
    (results / "provenance.json").write_text("{}")
    assert is_computed()
    (results / "figure.svg").unlink()
    assert not is_computed()
    assert (results / "figure.svg").exists()


@pytest.mark.long
def test_kept_arrays_are_the_computed_ones(write: Write, again: Callable[..., Outcome]) -> None:
    write(FACTOR="0.1")
    first, second = again(), again()
    assert second.reused
    assert second.checks == first.checks
    assert second.seconds == pytest.approx(first.seconds, abs=1e-3)


@pytest.mark.parametrize(
    ("factor", "grade", "status"), [("1", "A", 0), ("3", "A", 1), ("3", "C", 0)]
)
def test_exit_status_and_table(
    write: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    factor: str,
    grade: str,
    status: int,
) -> None:
    write(FACTOR=factor, GRADE=grade)
    assert main(["g98", "--out", str(tmp_path / "out")]) == status
    printed = capsys.readouterr().out
    assert ("2/2" if factor == "1" else "1/2") in printed
    assert ("Numbers that do not match" in printed) is (factor == "3")
    assert "Nobody, 2026" in printed


def test_a_broken_experiment_does_not_stop_the_others(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write()
    write("g97_broken", FACTOR="1 / 0")
    assert main(["g97", "g98", "--out", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert "ZeroDivisionError" in captured.out
    assert "2/2" in captured.out
    assert "Traceback" in captured.err


def test_a_figure_without_reference_numbers_is_fine(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write()
    path.write_text(path.read_text().replace("return [Check(", "return [] and [Check("))
    assert main(["g98", "--out", str(tmp_path / "out"), "--width", "8.5"]) == 0
    assert "no numbers" in capsys.readouterr().out
    svg = (tmp_path / "out" / "g98_test" / "figure.svg").read_text()
    assert f'width="{8.5 / 2.54 * 72:.6f}pt"' in svg
    assert Outcome(name="g99_broken", error="ZeroDivisionError").failed


@pytest.mark.parametrize("width", ["wide", "0", "-8.5", "nan"])
def test_widths_are_centimetres(width: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["g03", "--width", width])
    assert stopped.value.code == 2
    assert "is not a width in centimetres: 5 to 100" in capsys.readouterr().err


def test_unknown_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["g03_eular"]) == 2
    error = capsys.readouterr().err
    assert error == "error: unknown experiment 'g03_eular'; did you mean 'g03_euler'?\n"


@pytest.mark.parametrize("jobs", ["0", "-1", "two"])
def test_number_of_jobs(jobs: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["g03", "--jobs", jobs])
    assert stopped.value.code == 2
    assert "not a number of processes" in capsys.readouterr().err


def test_results_hold_arrays_of_any_kind(write: Write, again: Callable[..., Outcome]) -> None:
    write(FACTOR="np.inf", GRADE="C")
    assert again().mismatches[0].computed == np.inf


def test_damaged_records_are_none(tmp_path: Path) -> None:
    """Property: a record damaged at random is computed again, or has the arrays of before."""
    arrays = {"x": np.arange(3.0), "text": np.array("abc")}
    record.save(tmp_path, "key", arrays, {"seconds": 1.5})
    kept = record.load(tmp_path, ["other", "key"])
    assert kept is not None
    assert kept.seconds == 1.5
    assert record.load(tmp_path, ["other"]) is None
    whole = {name: (tmp_path / name).read_bytes() for name in ("data.npz", "provenance.json")}
    rng, read_well = random.Random(0), 0
    for _ in range(300):
        name = rng.choice(list(whole))
        content = bytearray(whole[name])
        at = rng.randrange(len(content))
        match rng.randrange(3):
            case 0:
                content[at] ^= 1 << rng.randrange(8)
            case 1:
                del content[at:]
            case _:
                content[at:at] = rng.choice((b"[" * 20_000, b"null", b"\xff", b"{", b"0" * 9))
        (tmp_path / name).write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of zip files
            found = record.load(tmp_path, ["key"])
        read_well += found is not None
        if found is not None and name == "provenance.json":
            assert found.results.keys() == arrays.keys()
        (tmp_path / name).write_bytes(whole[name])
    assert 0 < read_well < 150


def test_records_that_are_something_else_are_none(tmp_path: Path) -> None:
    """Defects: these were tracebacks instead of a new computation."""
    record.save(tmp_path, "key", {"x": np.arange(3.0)}, {"seconds": 1.5})
    facts = tmp_path / "provenance.json"
    text = facts.read_text()
    for other in ("[]", "null", "5", '{"key": []}', "[" * 100_000):
        facts.write_text(other)
        assert record.load(tmp_path, ["key"]) is None
    facts.write_text(text)
    np.savez(tmp_path / "data.npz", __key__=np.array("key"), x=np.arange(3.0))
    assert record.load(tmp_path, ["key"]) is None
    np.savez(tmp_path / "data.npz", __key__=np.array("key"), __seconds__=np.arange(3.0))
    assert record.load(tmp_path, ["key"]) is None
    (tmp_path / "data.npz").unlink()
    (tmp_path / "data.npz").mkdir()
    assert record.load(tmp_path, ["key"]) is None


def test_no_device_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def devices() -> None:
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    assert main(["g03"]) == 2
    error = "error: JAX has no device here; JAX_PLATFORMS is 'cuda'\n"
    assert capsys.readouterr().err == error
