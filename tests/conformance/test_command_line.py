"""Runs that would try nothing are refused in a line; help fits a terminal, examples as they are."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

import conformance
from conformance.command_line import CommandLine

MODULES = sorted(
    path.stem
    for path in Path(conformance.__path__[0]).glob("*.py")
    if "= CommandLine(" in path.read_text("utf-8")
)


def refused(capsys: pytest.CaptureFixture[str], run: Callable[[], object]) -> str:
    """Return the one line that is said before a command exits with status 2."""
    with pytest.raises(SystemExit) as left:
        run()
    printed = capsys.readouterr()
    assert (left.value.code, printed.out, printed.err.count("\n")) == (2, "", 1)
    return printed.err


def test_counts_below_the_least_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandLine("conformance", "")
    for name in ("--rows", "--first"):
        parser.add_argument(name, type=int, default=0)
    assert parser.read([], first=0).rows == 0
    said = refused(capsys, lambda: parser.read([], first=0, rows=1))
    assert said == "error: --rows is 0; allowed are integers from 1 to 1000000000\n"


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("mmasim", "--rows 0", "--rows is 0"),
        ("silicon", "--tiles -1", "--tiles is -1"),
        ("processor", "--patterns 0", "--patterns is 0"),
        ("log_probabilities", "--sequences 0", "--sequences is 0"),
        ("log_probabilities", "--length 0", "--length is 0"),
        ("mmasim", "mi9:fp16", "unknown kind 'mi9:fp16'; known are mi100:fp16, "),
        ("parallel", "mlp", "unknown case 'mlp'; known are mlp_bf16, "),
        (
            "__main__",
            "--emit hex --out new --random -1",
            "--random is -1; allowed are integers from",
        ),
        ("silicon", "--nope", "unrecognized arguments: --nope"),
    ],
)
def test_commands_that_would_compare_nothing_are_refused_in_one_line(
    module: str, words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main = importlib.import_module(f"conformance.{module}").main
    error = refused(capsys, lambda: main(words.split()))
    assert error.startswith(f"error: {said}")


@pytest.mark.parametrize("name", MODULES)
def test_help_fits_a_terminal_and_keeps_the_lines_of_the_examples(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: help was 100 columns wide, on terminals of 80."""
    monkeypatch.setenv("COLUMNS", "80")
    module = importlib.import_module(f"conformance.{name}")
    with pytest.raises(SystemExit) as left:
        module.main(["--help"])
    assert left.value.code == 0
    printed = capsys.readouterr().out.splitlines()
    examples = [line for line in str(module.__doc__).splitlines() if line.startswith("    ")]
    assert set(examples) <= set(printed)
    assert all(len(line) <= 80 for line in printed if line not in examples)
    assert all(option.count(" ") > 2 for option in printed if option.startswith("  --")), name
