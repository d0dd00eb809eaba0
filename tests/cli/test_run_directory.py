"""The directory of a run: names, and what is finished is kept whatever fails."""

import errno
import json
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest

import precsim as ps
from precsim.cli import run_directory
from precsim.cli import train as command
from precsim.cli.main import main
from precsim.training.replay.weights import load_weights
from tests.cli.test_train import made, replace_train


def trained(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], *, status: int
) -> tuple[Path, str, str]:
    """Run two steps of replaced training; return the run's directory and what was printed."""
    out = tmp_path / "run"
    assert main(["train", *words, "--steps", "2", "--out", str(out)]) == status
    return out, *capsys.readouterr()


@pytest.mark.long
def test_pictures_of_block_formats_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: the picture of exponents asked them for a range, after training."""
    replace_train(monkeypatch)
    policies = ["fp32,dgrad=b200:mxfp8", "fp32,wgrad=b200:mxfp4"]
    out, printed, err = trained(["--policy", *policies], tmp_path, capsys, status=0)
    assert err == ""
    assert "What each policy lost" in printed
    assert (out / "gradient_exponents.png").exists()


def test_weights_have_names_that_every_system_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: they were named after policies, with ``:`` and ``>``, in more than 255 bytes."""
    replace_train(monkeypatch, draws=False)
    product = "fp16[rtz]_fp16[rtz]_fp32->bf16"
    long = (
        f"fp32,fwd={product},dgrad={product},wgrad={product},"
        + "e=bf16:rtz:saturate,update=bf16:rtz"
    )
    names = ["fp32", "bf16,update=bf16:sr", long, "bf16,update=bf16:rtz"]
    out, _, err = trained(["--policy", *names], tmp_path, capsys, status=0)
    assert err == ""
    stored = json.loads((out / "summary.json").read_text())["weights"]
    assert sorted(stored) == sorted(names)
    files = [out / stored[name] for name in names]
    assert {path.name for path in (out / "weights").iterdir()} == {path.name for path in files}
    for path in files:
        assert not set(path.name) & set('<>:"/|?*[]')
        assert len(path.name) <= 100
        assert path.stat().st_mode == (out / "metrics.csv").stat().st_mode
        assert set(load_weights(path)) == {"w"}


def test_markup_in_names_is_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defects: ``--out 'q[/foo]'`` broke the report, and ``[rtz]`` vanished from titles."""
    replace_train(monkeypatch, draws=False)
    name = "fp32,fwd=fp16[rtz]_fp16_fp32"
    words = ["--policy", name]
    out, printed, err = trained(words, tmp_path / "q[/foo]" / ":cat:", capsys, status=0)
    assert (err, out.name) == ("", "run")
    assert str(out) in printed
    assert "[rtz]" in printed


def test_a_run_that_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: a failure while policies were queued waited for ever for those behind it."""

    def fail(config: ps.TrainConfig) -> None:
        if config.policy.name == "bf16":
            raise OSError(errno.ENOSPC, "No space left on device")
        if config.policy.name == "q3.8":
            raise AssertionError("a defect\nin lines")

    replace_train(monkeypatch, fail, draws=False)
    words = ["--policy", "bf16", "q3.8", "fp16", "q3.8_sr", "--jobs", "1"]
    out, printed, err = trained(words, tmp_path, capsys, status=2)
    assert err.splitlines() == [
        "precsim: error: bf16: No space left on device",
        "precsim: error: q3.8: AssertionError: a defect",
    ]
    assert "q3.8_sr" in printed
    summary = json.loads((out / "summary.json").read_text())
    assert summary["complete"] is False
    assert [p["policy"] for p in summary["policies"]] == ["fp32", "fp16", "q3.8_sr"]
    assert summary["failures"] == {
        "bf16": "No space left on device",
        "q3.8": "AssertionError: a defect",
    }


def test_without_the_reference_finished_runs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(config: ps.TrainConfig) -> None:
        if config.policy.name == "fp32":
            raise ValueError("no memory")

    replace_train(monkeypatch, fail)
    out, printed, err = trained(["--policy", "fp16", "--jobs", "1"], tmp_path, capsys, status=2)
    assert (printed, err) == ("", "precsim: error: fp32: no memory\n")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["weights"] == {"fp16": "weights/fp16.safetensors"}
    assert (out / "weights" / "fp16.safetensors").exists()
    assert (out / "metrics.csv").exists()


@pytest.mark.long
def test_the_table_comes_before_the_pictures_and_complete_after_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defects: a picture's failure left no table, and ``complete`` was true before the pictures."""
    replace_train(monkeypatch)
    seen: list[bool] = []
    draw = run_directory.draw

    def failing(path: Path, name: str, results: Any) -> Path:
        seen.append(json.loads((path / "summary.json").read_text())["complete"])
        if name == "loss_curves":
            raise ValueError("nothing to draw")
        return draw(path, name, results)

    monkeypatch.setattr(run_directory, "draw", failing)
    out, printed, err = trained(["--policy", "bf16"], tmp_path, capsys, status=2)
    assert err == "precsim: error: picture loss_curves: nothing to draw\n"
    assert "What each policy lost" in printed
    names = [line.split()[0] for line in printed.splitlines()[-6:]]
    assert names == [
        *("summary.json", "metrics.csv", "weights"),
        *("gradient_exponents.png", "weight_drift.png", "*.svg"),
    ]
    assert seen == [False] * 3
    summary = json.loads((out / "summary.json").read_text())
    assert summary["complete"] is False
    assert summary["failures"] == {"picture loss_curves": "nothing to draw"}


def test_runs_of_the_same_second_get_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: the second one ended with "exists already; try again"."""

    class Noon(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Noon":
            return cls(2026, 1, 2, 12)

    replace_train(monkeypatch, draws=False)
    monkeypatch.setattr(command, "datetime", Noon)
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        assert main(["train", "--policy", "fp32", "--steps", "2"]) == 0
    made = sorted(path.parent.name for path in tmp_path.glob("runs/*/summary.json"))
    assert made == [f"train-20260102-120000{number}" for number in ("", "-2", "-3")]


def test_metrics_stand_in_the_order_of_the_policies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: with several jobs, and after --resume, they stood as the runs had ended."""

    def backwards(train_one: Any, configs: Any, progress: Any) -> Any:
        return [(config, made(config)) for config in reversed(configs)]

    replace_train(monkeypatch, draws=False)
    monkeypatch.setattr(command, "train_all", backwards)
    names = ["fp16", "bf16", "fp16_mixed"]
    out, _, _ = trained(["--policy", *names], tmp_path, capsys, status=0)
    lines = (out / "metrics.csv").read_text().splitlines()
    assert list(dict.fromkeys(line.split(",")[0] for line in lines[1:])) == ["fp32", *names]
    assert len(lines) == 1 + 2 * (1 + len(names))
