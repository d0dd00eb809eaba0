"""MODULE:FUNCTION in a command: what is wrong with it is one line, and status 2."""

import importlib
import sys
from pathlib import Path

import pytest

from precsim.cli.main import main

OWN = """
import numpy as np

DATA = np.zeros((64, 1)), np.zeros(64)
same = lambda weights, x: x
data = lambda: DATA
nothing = lambda: None
numbers = lambda: (1, 2)
empty = lambda: ({}, same)
text = lambda: ({"a": "b"}, same)
a_word = lambda: ({"a": np.ones(1)}, lambda weights, x: "word")
unknown = lambda: ({"a": np.ones(1)}, lambda weights, x: x * weights["b"])


def broken():
    raise RuntimeError("a reason\\nand more")
"""
FAULTS = {
    "nothing": "model is None; allowed are a pair (init, apply)",
    "numbers": "model is (1, 2); allowed are a pair (init, apply)",
    "empty": "has no weights; allowed are models that have some",
    "text": "weights['a'] of model <lambda> is 'b'; allowed are arrays of numbers",
    "a_word": "str",
    "unknown": "KeyError: 'b'",
    "broken": "RuntimeError: a reason; raised by own_of_shell:broken, which model names",
}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_of_shell", raising=False)
    Path("own_of_shell.py").write_text(OWN)
    Path("own_of_shell_2.py").write_text("x = = 1")
    importlib.invalidate_caches()
    return "own_of_shell"


@pytest.mark.parametrize("command", ["train", "cost"])
def test_a_faulty_model_is_one_line(
    command: str, module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: all of these were tracebacks, with the status that `train` has for other bits."""
    few = ["--policy", "bf16", *(["--no-cache", "--out", "run"] if command == "train" else [])]
    for name, message in FAULTS.items():
        if (command, name) == ("cost", "empty"):
            continue  # it has a cost, and learns nothing
        assert main([command, "--model", f"{module}:{name}", "--task", f"{module}:data", *few]) == 2
        err = capsys.readouterr().err
        assert err.startswith("precsim: error: ")
        assert message in err
        assert err.count("\n") == 1
    for words in (["--task", f"{module}:broken"], ["--model", "own_of_shell_2:model"]):
        assert main([command, "--model", f"{module}:text", *few, *words]) == 2
        assert "raised by " in capsys.readouterr().err
    assert not Path("run").exists()


def test_traceback_shows_the_lines_of_the_module(module: str) -> None:
    words = ["--traceback", "train", "--model", f"{module}:broken", "--task", f"{module}:data"]
    with pytest.raises(ValueError, match="a reason") as caught:
        main([*words, "--policy", "bf16"])
    assert isinstance(caught.value.__cause__, RuntimeError)
