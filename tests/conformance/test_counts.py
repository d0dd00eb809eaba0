"""Runs that would try nothing are refused; help keeps the lines of its examples."""

import argparse
import importlib
from pathlib import Path

import pytest

import conformance
from conformance.counts import check_counts

MODULES = sorted(
    path.stem
    for path in Path(conformance.__path__[0]).glob("*.py")
    if "ArgumentParser(" in path.read_text("utf-8")
)


def test_counts_below_the_least_are_refused() -> None:
    args = argparse.Namespace(rows=0, first=0)
    check_counts(args, first=0)
    with pytest.raises(ValueError, match="--rows is 0; allowed are integers from 1 to 1000000000"):
        check_counts(args, first=0, rows=1)


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("mmasim", "--rows 0", "--rows is 0"),
        ("silicon", "--tiles -1", "--tiles is -1"),
        ("processor", "--patterns 0", "--patterns is 0"),
        ("log_probabilities", "--sequences 0", "--sequences is 0"),
        ("log_probabilities", "--length 0", "--length is 0"),
    ],
)
def test_commands_that_would_compare_nothing_are_refused_in_one_line(
    module: str, words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert importlib.import_module(f"conformance.{module}").main(words.split()) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith(f"error: {said}; allowed are integers from ")


@pytest.mark.parametrize("name", MODULES)
def test_help_keeps_the_lines_of_the_examples(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"conformance.{name}")
    with pytest.raises(SystemExit) as left:
        module.main(["--help"])
    assert left.value.code == 0
    assert str(module.__doc__).strip() in capsys.readouterr().out
