"""Trainings whose policy changes: bits, state, compilations, the log."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.training import prepared
from precsim.training.step import TrainState

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 3)).astype(np.float32)
DATA = X, X @ np.array([1, -2, 3], np.float32)
START = np.array([0.1, 0.2, 0.3], np.float32)
MODEL = (lambda key: {"w": START}), (lambda weights, x: x @ weights["w"])


def train(policy: str = "fp32", **options: Any) -> ps.TrainResult:
    config = ps.TrainConfig(
        policy=ps.Policy.parse(policy), steps=8, batch_size=4, snapshots=8, optimizer="momentum"
    )
    return ps.train(config, model=MODEL, data=DATA, **options)


@pytest.mark.long
def test_phases_carry_the_state_and_compile_once_per_policy() -> None:
    """The steps up to a change have the bits of a run without one; then the formats change."""
    states: list[dict[str, Any]] = []

    def look(step: int, state: TrainState) -> None:
        states.append(
            {
                "w": np.asarray(state.params["w"]).copy(),
                "scale": type(state.loss_scale).__name__,
                "kahan": state.compensation is not None,
            }
        )

    prepared._compiled_step.cache_clear()
    control = "fp16_mixed@0,bf16_kahan@2,fp32@4,fp16_mixed@6"
    result = train(control=control, on_state=look)
    assert prepared._compiled_step.cache_info().misses == 3
    static = train("fp16_mixed")
    assert prepared._compiled_step.cache_info().misses == 3
    assert result.losses[:2].tolist() == static.losses[:2].tolist()
    assert result.losses[2] != static.losses[2]

    assert [d.step for d in result.decisions] == [0, 2, 4, 6]
    assert [d.policy for d in result.decisions] == [
        "fp16_mixed",
        "bf16_kahan",
        "fp32",
        "fp16_mixed",
    ]
    assert result.config.policy.name == control
    for k, state in enumerate(states[1:]):
        is_bf16 = bool((ps.round_to(state["w"], "bf16") == state["w"]).all())
        assert is_bf16 == state["kahan"] == (k in (2, 3))
        assert state["scale"] == ("DynamicLossScale" if k in (0, 1, 6, 7) else "NoLossScale")
    assert (result.loss_scales > 1).tolist() == [k in (0, 1, 6, 7) for k in range(8)]


def test_one_phase_has_the_bits_of_no_schedule() -> None:
    phased, static = train(control="fp16_mixed@0,fp16_mixed@3"), train("fp16_mixed")
    assert phased.weights["w"].tobytes() == static.weights["w"].tobytes()
    assert len(phased.decisions) == len(static.decisions) == 1


def test_a_killed_run_goes_on_under_its_schedule(tmp_path: Path) -> None:
    """Also where it was killed under a policy whose state has other parts than the first one's."""
    control = "fp16_mixed@0,bf16_kahan@2,fp32@4,fp16_mixed@6"
    whole = train(control=control)
    for kill in (3, 5, 7):
        kept = ps.replay.Checkpoints(folder=tmp_path / str(kill), every=1)

        def until(step: int, state: TrainState, kill: int = kill) -> None:
            if step == kill:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(control=control, checkpoints=kept, on_state=until)
        resumed = train(control=control, checkpoints=kept)
        assert resumed.decisions == whole.decisions
        assert resumed.losses.tobytes() == whole.losses.tobytes()
        assert resumed.weights["w"].tobytes() == whole.weights["w"].tobytes()
    with pytest.raises(ValueError, match="is of a run whose"):
        train(control="fp16_mixed@0,bf16_kahan@2,fp32@5", checkpoints=kept)


def test_wrong_controls_are_refused() -> None:
    with pytest.raises(TypeError, match="control is 3; allowed are the string of a Schedule"):
        train(control=3)
    with pytest.raises(ValueError, match="have functions platform and portable; allowed is one"):
        train(control="bf16@0,bf16,fn=portable@3")
    with pytest.raises(ValueError, match="unknown policy"):
        train(control="nope@0")
