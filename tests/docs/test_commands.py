"""Commands: each that a page shows is one that `precsim` understands, and its help fits."""

import re
import shlex
from pathlib import Path

import pytest

from precsim.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCED = re.compile(r"^```(?:bash|sh|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINE = re.compile(r"^(?:\$ |.*&& )?(?:\.venv/bin/)?(precsim [a-z].*)$", re.MULTILINE)
_INLINE = re.compile(r"`(precsim [a-z]+ [^`]*--[^`]*)`")
_FILES = ("counting.py", "own.py", "...")
"""What only the reader has."""

_VALUED = ("--policy", "--format", "--schedule", "--model", "--verify-bits")
"""What a sentence names without the value."""


def commands() -> list[str]:
    """Return the commands of all pages that have an option."""
    found: dict[str, None] = {}
    for page in PAGES:
        text = page.read_text("utf-8")
        for block in _FENCED.findall(text):
            found |= dict.fromkeys(_LINE.findall(block.replace("\\\n", " ")))
        found |= dict.fromkeys(" ".join(each.split()) for each in _INLINE.findall(text))
    return [each for each in found if "--" in each and not any(name in each for name in _FILES)]


@pytest.mark.parametrize("line", commands())
def test_commands_on_pages_are_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their options are written out, and have values of the right kind."""
    words = shlex.split(line.replace(" NAME", " g03"), comments=True)[1:]
    monkeypatch.setattr(f"precsim.cli.{words[0]}.run", lambda args: 0)
    words = ["1" if word.startswith("$") else word for word in words if word != "$@"]
    words += ["1"] * (words[-1] in _VALUED)
    assert main(words) == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: the text behind the options of `train` had 82 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == 0
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())
