"""Published data files: found by the end of their name, read, handed on, or named as absent."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from precsim.analysis.figures.data_files import locate, read_columns
from precsim.cli.main import main

MODULE = '''
"""A figure for tests."""

import numpy as np

from precsim.figures import Check

TITLE, CITATION, CLASS = "A test", "Nobody, 2026", "A"
PUBLISHED = {"two": 2.0}
TABLES = ("numbers_1.dat",)

def compute(fast):
    return {"x": np.arange(3.0)}

def check(results, tables=None):
    columns = (tables or {}).get(TABLES[0], {"x": [0.0]})
    return [Check("x", theirs, ours) for theirs, ours in zip(columns["x"], results["x"].tolist())]

def plot(results, axes, tables=None):
    axes[0].plot(results["x"], label=",".join(tables))
'''

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs a figure with one table: status and output."""
    path = tmp_path / "tables.py"
    path.write_text(MODULE)

    def run_it(*words: str) -> tuple[int, str]:
        status = main(["reproduce", str(path), "--out", str(tmp_path / "out"), *words])
        return status, " ".join(capsys.readouterr().out.split())

    return run_it


def write(folder: Path, name: str, numbers: str = "0 1 2") -> Path:
    path = folder / "clone" / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("n x \n" + "".join(f"{k} {x} \n" for k, x in enumerate(numbers.split())))
    return path


def test_no_folder_is_said_by_name(command: Command) -> None:
    status, printed = command()
    assert status == 0
    assert "1/1" in printed
    assert "tables is compared with the numbers typed in its source only" in printed
    assert "no file numbers_1.dat under --data-dir (not given)" in printed


def test_a_file_of_a_clone_is_compared(command: Command, tmp_path: Path) -> None:
    write(tmp_path, "matmul_test_numbers_1.dat")
    write(tmp_path, "matmul_test_numbers_2.dat", "7")
    status, printed = command("--data-dir", str(tmp_path / "clone"))
    assert status == 0
    assert "3/3" in printed
    assert "typed in its source" not in printed


@pytest.mark.long
def test_the_record_is_that_of_the_files(command: Command, tmp_path: Path) -> None:
    command()
    path = write(tmp_path, "numbers_1.dat")
    record = tmp_path / "out" / "tables" / "provenance.json"
    options = ("--data-dir", str(path.parent))
    for numbers, status, matched in (("0 1 2", 0, "3/3"), ("0 1 5", 1, "2/3")):
        write(tmp_path, path.name, numbers)
        assert command(*options)[0] == status
        assert json.loads(record.read_text())["matched"] == matched
    assert "(kept)" in command(*options)[1]


def test_a_folder_without_the_file(command: Command, tmp_path: Path) -> None:
    write(tmp_path, "numbers_2.dat")
    status, printed = command("--data-dir", str(tmp_path / "clone"))
    assert status == 0
    assert "no file numbers_1.dat under --data-dir" in printed


def test_copies_are_taken_and_contradictions_refused(tmp_path: Path) -> None:
    paths = [write(tmp_path / part, "numbers_1.dat") for part in ("a", "b")]
    assert locate(tmp_path, ["numbers_1.dat", "other.dat"]) == {"numbers_1.dat": paths[0]}
    assert locate(None, ["numbers_1.dat"]) == {}
    write(tmp_path / "b", "numbers_1.dat", "9")
    with pytest.raises(ValueError, match=r"--data-dir has different files ending in 'numbers_1\."):
        locate(tmp_path, ["numbers_1.dat"])


def test_columns_are_read_or_refused(tmp_path: Path) -> None:
    columns = read_columns(write(tmp_path, "numbers_1.dat", "1.5e-3 inf"))
    assert list(columns) == ["n", "x"]
    np.testing.assert_array_equal(columns["x"], [1.5e-3, np.inf])
    for bad in ("two", ""):
        path = write(tmp_path, "numbers_1.dat", bad)
        path.write_text(path.read_text() + "3\n")
        with pytest.raises(ValueError, match=r"numbers_1.dat is no table with the columns"):
            read_columns(path)


@pytest.mark.parametrize(
    "content", [b"", b"\n1 2\n", b"n n\n1 2\n", b"n x\n1 2 3\n", b"n \xff\n1 2\n"]
)
def test_damaged_tables_are_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "numbers_1.dat"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^numbers_1.dat is no table with the columns .*[^\n]$"):
        read_columns(path)
    (tmp_path / "folder_numbers_1.dat").mkdir()  # no file, so not taken for one
    assert locate(tmp_path, ["numbers_1.dat"]) == {"numbers_1.dat": path}
