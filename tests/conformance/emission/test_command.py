"""The command, its folder and its messages; the checker in C."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conformance.__main__ import main
from conformance.emission import command
from conformance.emission.functions import Function
from conformance.emission.layouts import CHECKER

EXAMPLE = CHECKER.with_name("example.h")


def compiled(folder: Path, *options: str) -> str:
    """Compile the checker with the example's functions; return the program."""
    shutil.copy(CHECKER, folder)
    shutil.copy(EXAMPLE, folder)
    command = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", *options]
    subprocess.run([*command, "checker.c", "-o", "checker"], cwd=folder, check=True)
    return str(folder / "checker")


def emit(folder: Path, *options: str) -> Path:
    """Run the command; return the folder that it made."""
    arguments = ["--out", str(folder / "vectors"), "--random", "50", *options]
    assert main(arguments) == 0
    return folder / "vectors"


CAST = ("--format", "e4m3", "--source", "bf16", "--operation", "convert")
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
FUNCTIONS = '-DFUNCTIONS="example.h"'


@needs_gcc
@pytest.mark.long
def test_checker_calls_functions(tmp_path: Path) -> None:
    """The example has its integer arithmetic and its flags by itself; its faults are caught."""
    modes = ("--mode", "rne", "rtz", "--rule", "saturate", "infinity")
    folder = emit(tmp_path, "--emit", "hex", *CAST, *modes)
    files = [
        folder / f"bf16_to_e4m3.{x}.hex" for x in ("rne.saturate", "rne.infinity", "rtz.infinity")
    ]
    wrong = {}
    for fault in range(3):
        program = compiled(tmp_path, FUNCTIONS, f"-DFAULT={fault}")
        done = subprocess.run(
            [program, "call", *files], capture_output=True, text=True, check=False
        )
        last = [line for line in done.stdout.splitlines() if line.endswith("wrong")]
        wrong[fault] = [int(line.split()[-2]) > 0 for line in last]
        assert done.returncode == any(wrong[fault])
    assert wrong == {0: [False] * 3, 1: [True, False, False], 2: [False, False, True]}


@needs_gcc
@pytest.mark.long
def test_checker_compares_results(tmp_path: Path) -> None:
    options = (
        "--emit",
        "hex",
        "--machine",
        "mi300x:bf16",
        "--format",
        "e2m1",
        "--operation",
        "dot",
        "add",
    )
    folder = emit(tmp_path, *options)
    program = compiled(tmp_path)

    def run(command: str, path: Path, text: str = "") -> tuple[int, str]:
        done = subprocess.run(
            [program, command, path], input=text, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    for path in folder.glob("*.hex"):
        words = [x.split() for x in path.read_text().splitlines() if not x.startswith("//")]
        columns = 2 if path.name.startswith("e2m1") else 1
        _, inputs = run("inputs", path)
        assert [[int(w, 16) for w in x.split()] for x in inputs.splitlines()] == [
            [int(w, 16) for w in x[:-columns]] for x in words
        ]
        right = [" ".join(x[-columns:]) for x in words]
        assert run("compare", path, "\n".join(right) + "\n")[0] == 0
        assert run("compare", path, "\n".join(right) + "\n\n \r\n")[0] == 0
        other = "1" if int(words[6][-columns], 16) == 0 else "0"
        status, printed = run("compare", path, "\n".join([*right[:6], other, *right[7:]]) + "\n")
        assert (status, " case 7: " in printed, "1 wrong" in printed) == (1, True, True)
        assert "more cases than there are results" in run("compare", path, "0\n")[1]
        assert "fewer cases" in run("compare", path, "\n".join([*right, "0"]))[1]
        text = path.read_text()
        for damage in (
            text[:-60],
            text.replace("// words", "// word"),
            text.replace("\n0", "\nx", 1),
        ):
            (tmp_path / "damaged.hex").write_text(damage)
            assert run("compare", tmp_path / "damaged.hex", "\n".join(right) + "\n")[0] in (1, 2)
    assert "has no function" in run("call", path)[1]
    assert run("compare", tmp_path / "nowhere.hex")[0] == 2
    assert run("look", path)[1].startswith("usage: ")


@needs_gcc
@pytest.mark.long
def test_checker_without_files(tmp_path: Path) -> None:
    modes = ("--mode", "rne", "rtz", "--rule", "saturate", "infinity")
    machine = ("--machine", "mi300x:e4m3fnuz", "--operation", "dot")
    folder = emit(tmp_path, "--emit", "c", *CAST, *modes, *machine)
    for fault, status in ((0, 0), (1, 1)):
        program = compiled(folder, FUNCTIONS, f"-DFAULT={fault}", '-DVECTORS="all.h"')
        done = subprocess.run([program], capture_output=True, text=True, check=False)
        assert done.returncode == status
        assert done.stdout.count(" wrong\n") == 3


def test_folder_and_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = emit(
        tmp_path, "--emit", "testfloat", "--format", "binary4p2sf", "--operation", "divide"
    )
    (path,) = (p for p in folder.iterdir() if p.name != "index.txt")
    assert path.name == "binary4p2sf_div.rne.satnone.txt"
    index = (folder / "index.txt").read_text()
    assert f"cases: 306, 256 hard, {path.stat().st_size} bytes" in index
    assert "rule: satnone (overflow: infinity_or_max" in index
    assert all(len(line.split()) == 4 for line in path.read_text().splitlines())
    assert "1 files in" in capsys.readouterr().out
    assert main(["--emit", "hex", "--out", str(folder)]) == 2
    assert "which exists; allowed is a new folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "fp99"], "unknown format 'fp99'"),
        (["--format", "q3.4"], "format is q3.4; allowed are floating-point formats"),
        (["--format", "e8m0", "--operation", "add"], "e8m0 has no add; allowed are signed formats"),
        (["--format", "nvfp4"], "format is nvfp4; allowed are MX formats of floats"),
        (["--source", "tf31"], "unknown format 'tf31'"),
        (["--mode", "sr8"], "--mode has 'sr8'; allowed are rne"),
        (["--rule", "wrap"], "--rule has 'wrap'; allowed are infinity"),
        (["--operation", "round"], "--operation has 'round'; allowed are convert"),
        (["--machine", "h100:fp17"], "h100 has no product"),
        (["--machine", "fp16_fp16_fp32"], "machine is 'fp16_fp16_fp32'; allowed are products in"),
        (["--machine", "h100:fp16", "--k", "0"], "--k is 0; allowed are integers from 1 to 1024"),
        (
            ["--machine", "h100:fp16", "--k", "2000"],
            "--k is 2000; allowed are integers from 1 to 1024",
        ),
        (["--machine", "b200:mxfp4", "--k", "40"], "--k is 40; allowed are multiples of 32"),
        (["--machine", "h100:fp16", "--operation", "add"], "no function is both"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--emit", "hex", "--out", str(tmp_path / "new"), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_folders_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--emit", "hex", "--out", str(tmp_path / "a" / "b"), "--format", "e2m1"]) == 2
    assert "there is no folder" in capsys.readouterr().err
    arguments = ["--emit", "testfloat", "--machine", "h100:fp16", "--out", str(tmp_path / "c")]
    assert main(arguments) == 2
    assert "--emit testfloat has no dot products" in capsys.readouterr().err


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), OSError("no space"), AssertionError()])
def test_what_ends_early_leaves_no_folder(
    problem: BaseException,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first file is written, the second is not; then the same command works."""
    written = command.emit

    def emit_one(function: Function, *rest: Any) -> command.Written:
        if function.name.endswith("saturate"):
            raise problem
        return written(function, *rest)

    arguments = ["--emit", "hex", *CAST, "--mode", "rne", "--random", "5"]
    arguments += ["--rule", "infinity", "saturate", "--out", str(tmp_path / "new")]
    with monkeypatch.context() as patched:
        patched.setattr(command, "emit", emit_one)
        if isinstance(problem, AssertionError):
            with pytest.raises(AssertionError):
                main(arguments)
        else:
            said, status = ("error: no space\n", 2) if problem.args else ("interrupted\n", 130)
            assert main(arguments) == status
            assert capsys.readouterr().err == said
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new.partial").mkdir()
    assert main(arguments) == 2
    assert "new.partial exists" in capsys.readouterr().err
    (tmp_path / "new.partial").rmdir()
    assert main(arguments) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("before", [["--emit"], ["--emit", "hex"], ["--emit=c"]])
def test_help_needs_no_layout(before: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*before, "--help"]) == 0
    assert "--operation convert" in capsys.readouterr().out
