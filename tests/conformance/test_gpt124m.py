"""GPT-2 small, bit by bit: hashes that an H200's tensor cores gave, and the command around them."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import precsim as ps
from conformance import gpt124m, training

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "bit-exact-training.md"
SEEDS = {0: 20, 1: 3}
"""Seed -> the steps that are stored."""


def stored(seed: int) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (gpt124m.FOLDER / f"seed{seed}-sequence256.json").read_text("utf-8")
    )
    return content


@pytest.mark.parametrize("seed", SEEDS)
def test_stored_runs_are_those_of_tensor_cores(seed: int) -> None:
    found = stored(seed)
    about = found["about"]
    assert (about["backend"], about["sequence"], about["seed"]) == ("native", 256, seed)
    assert "H200" in about["device"]
    assert about["policy"] == str(ps.Policy.parse(gpt124m.MODEL["policy"]))
    assert list(found["steps"]) == [str(k) for k in range(SEEDS[seed] + 1)]
    for hashes in found["steps"].values():
        assert hashes.keys() == found["steps"]["0"].keys()
        assert all(len(digits) == 64 for digits in hashes.values())
    whole = [hashes[""] for seed in SEEDS for hashes in stored(seed)["steps"].values()]
    assert len(set(whole)) == len(whole)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "steps"), [(0, 2), (1, 1)])
def test_steps_have_the_bits_of_the_tensor_cores(
    seed: int, steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seven gigabytes, and minutes of compilation and of each step."""
    arguments = ["gpt124m", "--steps", str(steps), "--seed", str(seed)]
    assert training.main(arguments) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    said = {line[1]: (line[2], line[3].rstrip(",")) for line in lines}
    wanted = {str(k): (stored(seed)["steps"][str(k)][""][:16], "same") for k in range(steps + 1)}
    assert said == wanted


def test_page_has_the_stored_hashes() -> None:
    page = PAGE.read_text("utf-8")
    rows = re.findall(r"^\| (\d), step (\d+) \| (.*) \|$", page, re.MULTILINE)
    assert [(int(seed), int(step)) for seed, step, _ in rows] == [(0, 1), (0, 2), (0, 20), (1, 1)]
    for seed, step, cells in rows:
        wanted = stored(int(seed))["steps"][step][""][:16]
        assert set(cells.split(" | ")) - {"not run"} == {wanted}


class State(NamedTuple):
    """Weights alone."""

    params: Any


class Metrics(NamedTuple):
    """What the command reads of a step."""

    loss: Any
    untrusted: Any


def counting(is_other: bool = False, untrusted: int = 0) -> Any:
    """Return what prepares a run that counts its steps, in place of the model."""

    def step(state: State, inputs: Any, targets: Any) -> tuple[State, Metrics]:
        counted = jax.tree.map(lambda w: w + 1, state)
        return counted, Metrics(inputs.sum() * 0 + 1.5, targets.sum() * 0 + untrusted)

    def prepare(config: ps.TrainConfig, *, data: Any, classes: int, is_guarded: bool) -> Any:
        assert data[0].shape[1] == 4
        assert np.array_equal(data[0][:, 1:], data[1][:, :-1])
        assert classes == gpt124m.VOCABULARY > data[1].max()
        assert not is_guarded
        state = State(
            {"a": np.array([config.seed], np.float32), "w": np.array([is_other], np.float32)}
        )
        return SimpleNamespace(
            state=state, step=step, batch=lambda k: (data[0][k : k + 1], data[1][k : k + 1])
        )

    return prepare


def test_each_step_is_compared_with_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ps.replay, "prepare_run", counting())
    monkeypatch.setattr(gpt124m, "FOLDER", tmp_path)
    usual = ["gpt124m", "--steps", "2", "--sequence", "4"]
    assert training.main([*usual, "--record", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("nothing stored") == 3
    assert training.main([*usual, "--seed", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("gpt124m emulated, seed 0: 2 weights, sequence 4, on ")
    assert [line.split()[3].rstrip(",") for line in lines[1:]] == ["same"] * 3
    assert "loss 1.5000" in lines[2]
    assert training.main([*usual, "--record", str(tmp_path)]) == 2
    assert "exists; name another folder" in capsys.readouterr().err
    monkeypatch.setattr(ps.replay, "prepare_run", counting(is_other=True))
    assert training.main(usual) == 1
    assert capsys.readouterr().out.count(", first in params/w") == 3


def test_what_no_rule_decides_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ps.replay, "prepare_run", counting(untrusted=1))
    assert training.main(["gpt124m", "--steps", "1", "--sequence", "4"]) == 2
    said = capsys.readouterr().err
    assert said == "error: step 1 multiplies infinities or NaN; its bits are not stated\n"
    for sequence in ("0", "100000"):
        assert training.main(["gpt124m", "--steps", "1", "--sequence", sequence]) == 2
        assert f"sequence is {sequence}; allowed are 1 to " in capsys.readouterr().err


def test_words_and_marks_are_numbered_as_they_come() -> None:
    found = gpt124m.tokens("to be, or not to be", 2)
    assert found.tolist() == [[0, 1, 2], [3, 4, 0]]
    whole = gpt124m.tokens((training.FOLDER / "text.txt").read_text("utf-8"), 256)
    assert whole.shape[0] > max(SEEDS.values())  # no sequence is read twice in the stored steps
    assert whole.max() < gpt124m.VOCABULARY
