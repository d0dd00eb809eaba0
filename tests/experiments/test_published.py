"""Our numbers are the published ones, and a wrong rounding makes the table say which are not."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import precsim as ps
from experiments import g02_harmonic, g03_euler
from precsim.cli.main import main


def matched(name: str, out: Path) -> tuple[Counter[str], list[str]]:
    """Return how many numbers of each class match, and the names of those that do not."""
    outcome = ps.figures.run(f"experiments.{name}", out=out)
    good = Counter[str](check.grade for check in outcome.checks if check.matched)
    return good, [check.name for check in outcome.mismatches]


@pytest.mark.slow  # `.ci/run` runs all figures
def test_euler_64_of_64(tmp_path: Path) -> None:
    assert matched("g03_euler", tmp_path) == ({"A": 64}, [])
    assert json.loads((tmp_path / "g03_euler/provenance.json").read_text())["matched"] == "64/64"


@pytest.mark.slow  # `.ci/run` runs all figures
def test_harmonic_all_deterministic_entries(tmp_path: Path) -> None:
    assert matched("g02_harmonic", tmp_path) == ({"A": 37, "B": 2, "C": 6}, [])


@pytest.mark.slow
def test_full_run_in_two_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "g02", "g03", "--full", "--jobs", "2", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "45/45" in printed
    assert "66/66" in printed


def set_default(monkeypatch: pytest.MonkeyPatch, compute: Any, specs: tuple[str, ...]) -> None:
    """Change the default of `specs`, so that the run is compared with what is published."""
    monkeypatch.setitem(compute.__kwdefaults__, "specs", specs)


@pytest.mark.long
def test_ties_away_in_the_harmonic_sums(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("float(e=3,p=5):rne", "e4m3:rne", "e4m3:rtz")
    monkeypatch.setattr(g02_harmonic, "SPECS", {x: x.replace("rne", "rna") for x in names})
    set_default(monkeypatch, g02_harmonic.compute, names)
    assert main(["reproduce", "g02", "--out", str(tmp_path)]) == 1
    table = capsys.readouterr().out.partition("do not match")[2]
    for cells in (
        ("float(e=3,p=5):rne, sum", "3.5", "4.0"),
        ("float(e=3,p=5):rne, n", "16", "19.0"),
        ("e4m3:rne, sum", "3.0", "3.25"),
    ):
        assert any(all(cell in line for cell in cells) for line in table.splitlines())
    assert "e4m3:rtz" not in table


@pytest.mark.long
def test_ties_away_in_euler(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(g03_euler, "ARITHMETICS", {"fp16": "fp16:rna"})
    set_default(monkeypatch, g03_euler.compute, ("fp16:rna",))
    assert main(["reproduce", "g03", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "8/16" in printed
    assert "8.110495512e-06" in printed.partition("do not match")[2]
