"""`precsim train` as a user sees it: the help, and the screen of a terminal."""

import re
from pathlib import Path

import pytest

from precsim.cli.main import main
from precsim.transform.presets import PRESETS
from tests.cli.test_train import replace_train


def test_help_shows_every_default_and_the_exit_statuses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    options = text.partition("options:")[2].partition("exit status:")[0]
    for option in re.split(r" (?=--[a-z]+(?:-[a-z]+)? )", options)[2:]:
        assert "(default: " in option, option
    for value in ("900", "32", "0.01", "that of the model", "mlp", "sgd", "auto"):
        assert f"(default: {value})" in text
    for status in ("0 everything", "1 with --compare-bits", "2 the input", "130 interrupted"):
        assert status in text.partition("exit status:")[2]
    for name in PRESETS:
        assert name in options


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_screen_fits_the_terminal(
    columns: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a terminal finished policies stand above the runs; at last the tables are printed."""
    replace_train(monkeypatch, draws=False)
    for name, value in {"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.chdir(tmp_path)
    long = "fp32,fwd=fp16[rtz]_fp16_fp32->bf16,wgrad=bf16_bf16_fp32"
    words = ["--policy", "bf16", long, "q3.8_sr", "--steps", "2", "--jobs", "1", "--out", "run"]
    assert main(["train", *words]) == 0
    out = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out).replace("\r", "\n")
    lines = out.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= columns
    assert "of 4 done" in out
    assert "…" not in out
    assert out.count("What each policy lost") >= 2  # while others run, and at the end
