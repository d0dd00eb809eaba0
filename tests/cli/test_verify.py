"""`precsim train --verify-bits`: hashes along a run, equal and different runs, bad input."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.cli import verify
from precsim.cli.main import main
from precsim.training import prepared
from precsim.training.data import digits
from precsim.training.replay.weights import load_weights, save_weights
from tests.training.test_loop import one_layer

WORDS = ["train", "--policy", "h100_bf16", "--steps", "4", "--batch-size", "8", "--verify-bits"]


@pytest.fixture(scope="module", autouse=True)
def small_model() -> Iterator[None]:
    """One layer, which compiles quickly."""
    with one_layer():
        yield


@pytest.fixture(scope="module")
def stored(small_model: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bits") / "first"
    assert main([*WORDS, "2", "--out", str(path)]) == 0
    return path


def hashes(path: Path) -> dict[str, dict[str, str]]:
    steps: dict[str, dict[str, str]] = json.loads((path / "hashes.json").read_text())["steps"]
    return steps


@pytest.mark.long
def test_hashes_are_printed_and_stored(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "2", "--out", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "h100_bf16, emulated: SHA-256 of all state, first 16 digits" in " ".join(out.split())
    found = hashes(tmp_path / "run" / "h100_bf16")
    assert list(found) == ["0", "2", "4"]
    assert found == hashes(stored / "h100_bf16")
    for of_step in found.values():
        assert of_step[""][:16] in out
        assert set(of_step) == {"", "params/b", "params/w", "step"}
    assert "3 hashes stored" in out
    states = tmp_path / "run" / "h100_bf16" / "states"
    assert sorted(path.name for path in states.iterdir()) == [
        f"{k:08d}.safetensors" for k in (0, 2, 4)
    ]
    about = json.loads((tmp_path / "run" / "h100_bf16" / "hashes.json").read_text())["about"]
    assert about["config"]["learning_rate"] == 0.01
    assert ps.Policy.parse(about["policy"]) == ps.Policy.parse("h100_bf16")
    assert about["result"]["backend"] == "emulated"
    assert about["kernels"] == {}


def test_one_line_says_why_products_are_not_native(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody should believe that a tensor core was checked where none ran."""
    assert main([*WORDS, "4", "--out", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if "products are emulated" in line]
    assert len(told) == 1
    reason = verify.emulated_because(ps.TrainConfig(policy="h100_bf16"))
    assert reason
    assert told[0].startswith("h100_bf16: ")
    assert reason in told[0]
    for policy, backend in (("h100_bf16", "emulated"), ("bf16", "auto")):
        config = ps.TrainConfig(policy=policy, backend=backend)
        assert verify.emulated_because(config) is None


def test_native_products_without_the_machine_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*WORDS, "2", "--backend", "native", "--out", str(out)]) == 2
    printed, err = capsys.readouterr()
    assert printed == ""
    assert err.startswith("precsim: error: no native kernel computes 'h100:bf16")
    assert err.count("\n") == 1
    assert not out.exists()


def test_the_same_run_has_the_same_bits(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every second step is stored, each is hashed; the folder of all runs or the file is named."""
    for k, folder in enumerate((stored, stored / "h100_bf16" / "hashes.json")):
        words = [*WORDS, "1", "--compare-bits", str(folder), "--out", str(tmp_path / str(k))]
        assert main(words) == 0
        out = capsys.readouterr().out
        assert "the same bits as" in out
        assert "at all 3 compared steps" in " ".join(out.split())


@pytest.fixture(scope="module")
def disturbed(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with the last bit of one weight changed at step 2, hashes and state."""
    path = tmp_path_factory.mktemp("bits") / "disturbed"
    shutil.copytree(stored, path)
    folder = path / "h100_bf16"
    state = folder / "states" / "00000002.safetensors"
    arrays = {name: x.copy() for name, x in load_weights(state).items()}
    arrays["params/b"].view("u4")[3] ^= 1
    state.unlink()
    save_weights(state, arrays)
    content = json.loads((folder / "hashes.json").read_text())
    content["steps"]["2"] = ps.replay.hash_state(arrays)
    (folder / "hashes.json").write_text(json.dumps(content))
    return path


def test_one_other_bit_is_found_with_tensor_and_element(
    stored: Path, disturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = [*WORDS, "2", "--compare-bits", str(disturbed)]
    assert main([*words, "--out", str(out)]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "not the same bits as" in printed
    state = stored / "h100_bf16" / "states" / "00000002.safetensors"
    bits = int(load_weights(state)["params/b"].view("u4")[3])
    named = f"step 2: params/b[3] differs, 0x{bits:08x} against 0x{bits ^ 1:08x}"
    assert named in printed


def test_json_has_what_was_printed_and_stored(
    stored: Path, disturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: --json was ignored beside --verify-bits."""
    words = [*WORDS, "2", "--json", "--compare-bits", str(stored)]
    assert main([*words, "--out", str(tmp_path / "same")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    (run,) = json.loads(out)["policies"]
    log = json.loads((tmp_path / "same" / "h100_bf16" / "hashes.json").read_text())
    assert run["hashes"] == {step: found[""] for step, found in log["steps"].items()}
    assert list(run["hashes"]) == ["0", "2", "4"]
    assert {name: run[name] for name in log["about"]} == log["about"]
    assert run["kernels"] == {}
    assert run["result"]["emulated_because"]
    assert (run["folder"], run["every"]) == (str(tmp_path / "same" / "h100_bf16"), 2)
    assert run["comparison"] == {
        "stored": str(stored / "h100_bf16"),
        "compared_steps": 3,
        "is_equal": True,
        "difference": None,
    }
    words = [*WORDS, "2", "--json", "--compare-bits", str(disturbed)]
    assert main([*words, "--out", str(tmp_path / "other")]) == 1
    found = json.loads(capsys.readouterr().out)["policies"][0]["comparison"]
    assert not found["is_equal"]
    difference = found["difference"]
    assert (difference["step"], difference["tensor"]) == (2, "params/b")
    assert difference["ours"] != difference["theirs"]
    assert main([*WORDS, "4", "--json", "--out", str(tmp_path / "alone")]) == 0
    assert json.loads(capsys.readouterr().out)["policies"][0]["comparison"] is None


def test_data_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: once for their hash and once more for the run."""
    reads: list[int] = []
    load = digits.load

    def counted(seed: int) -> Any:
        reads.append(seed)
        return load(seed)

    monkeypatch.setattr(digits, "load", counted)
    assert main([*WORDS, "4", "--out", str(tmp_path / "run")]) == 0
    assert reads == [0]


def test_other_data_are_refused(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A different text is no difference between machines: not status 1."""
    words = [*WORDS, "2", "--compare-bits", str(stored), "--seed", "1", "--out"]
    assert main([*words, str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the training data differ from those of" in line
    assert "text.txt" not in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--compare-bits", "x"], "--compare-bits is given without --verify-bits N"),
        (["--verify-bits", "0"], "--verify-bits is 0; allowed are integers from 1 on"),
        (["--verify-bits", "5", "--steps", "4"], "--verify-bits is 5; allowed with --steps 4 are"),
        (["--verify-bits", "x"], "argument --verify-bits: 'x' is not a whole number"),
        (["--verify-bits", "2", "--compare-bits", "nowhere"], "nowhere, which does not exist"),
        (["--verify-bits", "2", "--compare-bits", "text"], "text is not a file of hashes"),
        (["--verify-bits", "2", "--compare-bits", "deep"], "deep is not a file of hashes: nested"),
        (["--verify-bits", "2", "--data-dir", "x"], "--data-dir is 'x'; task 'digits' reads no"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("hash: 1")
    Path("deep").write_text('{"steps":' * 100_000)
    out = tmp_path / "run"
    assert main(["train", "--policy", "h100_bf16", *words, "--out", str(out)]) == 2
    printed, err = capsys.readouterr()
    assert printed == ""
    assert message in err
    assert err.count("\n") == 1
    assert not out.exists()


def test_a_stored_run_without_common_steps_is_refused(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "hashes.json"
    content = json.loads((stored / "h100_bf16" / "hashes.json").read_text())
    del content["steps"]["0"]
    own.write_text(json.dumps(content))
    words = [*WORDS, "3", "--compare-bits", str(own), "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "--verify-bits is 3; " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_interrupted_run_leaves_the_hashes_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled = prepared._compiled_step

    def interrupted(*args: Any) -> Any:
        step = compiled(*args)
        calls: list[int] = []

        def run(*state: Any) -> Any:
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return step(*state)

        return run

    monkeypatch.setattr(prepared, "_compiled_step", interrupted)
    assert main([*WORDS, "1", "--out", str(tmp_path / "run")]) == 130
    assert list(hashes(tmp_path / "run" / "h100_bf16")) == ["0", "1", "2"]


def test_a_run_that_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train_on(data: Any, config: ps.TrainConfig, *, on_state: Any, on_step: Any) -> Any:
        on_state(0, {"w": np.ones(1, np.float32)})
        raise ValueError("no room")

    monkeypatch.setattr(verify, "train_on", train_on)
    out = tmp_path / "run"
    names = ("bf16,update=bf16:sr", "fp16")
    words = ["train", "--policy", *names, "--steps", "4", "--verify-bits", "2", "--json"]
    assert main([*words, "--out", str(out)]) == 2
    printed, err = capsys.readouterr()
    assert err == "".join(f"precsim: error: {name}: no room\n" for name in names)
    told = json.loads(printed)
    assert told["failures"] == dict.fromkeys(names, "no room")
    assert [run["name"] for run in told["policies"]] == list(names)
    for run in told["policies"]:
        assert list(hashes(Path(run["folder"]))) == ["0"]
        assert ":" not in Path(run["folder"]).name


def test_a_place_that_is_taken_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: another run with the same --out was one line for each policy."""
    out = tmp_path / "run"

    def train_on(data: Any, config: ps.TrainConfig, **options: Any) -> Any:
        (out / "fp16").mkdir()
        (out / "fp16" / "hashes.json").touch()
        raise ValueError("no room")

    monkeypatch.setattr(verify, "train_on", train_on)
    words = ["train", "--policy", "bf16", "fp16", "fp32", "--steps", "2", "--verify-bits", "2"]
    assert main([*words, "--out", str(out)]) == 2
    refusal = f"precsim: error: --out is {out / 'fp16'}, which holds files; name another directory"
    assert capsys.readouterr().err.splitlines() == ["precsim: error: bf16: no room", refusal]


def test_progress_is_shown_on_a_terminal_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train_on(data: Any, config: ps.TrainConfig, *, on_state: Any, on_step: Any) -> Any:
        on_step(1, 2.5)
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "train_on", train_on)
    assert main([*WORDS, "2", "--out", str(tmp_path / "quiet")]) == 130
    assert "step 1 of 4" not in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main([*WORDS, "2", "--out", str(tmp_path / "loud")]) == 130
    assert "h100_bf16     step 1 of 4, loss 2.500" in capsys.readouterr().out
