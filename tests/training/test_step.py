"""What becomes of a gradient in a step: accumulated, repeated, clipped, delayed, on two models."""

from typing import Any

import numpy as np
import pytest

import precsim as ps
from tests.training.conftest import assert_same_bits, single
from tests.training.test_loop import one_layer

RNG = np.random.default_rng(2)
INPUTS = single(RNG.standard_normal((8, 3)))
TARGETS = single(INPUTS @ [1.0, -2.0, 3.0])
RATE = 0.125


def trained(policy: str = "fp32", **options: Any) -> ps.TrainResult:
    """Fit a plane in full batches: the gradient of the loss is 2 / n * X.T (X w - y)."""
    model = ({"w": np.zeros(3, np.float32)}, lambda p, x: x @ p["w"])
    config: Any = {"policy": policy, "steps": 5, "batch_size": 8, "learning_rate": RATE} | options
    return ps.train(ps.TrainConfig(**config), model=model, data=(INPUTS, TARGETS), loss="mse")


def gradient_at(w: np.ndarray) -> Any:
    error = INPUTS.astype(float) @ w - TARGETS
    return 2 / 8 * INPUTS.T.astype(float) @ error


@pytest.mark.long
def test_a_delayed_and_clipped_run_is_that_of_numpy() -> None:
    """The gradient at the weights of three steps before, shortened to norm 2 and then bounded."""
    result = trained(delay=3, clip_norm=2.0, clip_value=1.5, steps=8)
    weights, gradients = [np.zeros(3)], []
    for k in range(8):
        g = gradient_at(weights[-1])
        g *= min(1, 2 / np.linalg.norm(g))
        gradients.append(np.clip(g, -1.5, 1.5))
        weights.append(weights[-1] - (RATE * gradients[k - 3] if k >= 3 else 0))
    for k, w in result.snapshots.items():
        np.testing.assert_allclose(w["w"], weights[k], rtol=1e-5)
    assert result.taken.tolist() == [False] * 3 + [True] * 5
    # What is measured is the gradient before it is clipped.
    np.testing.assert_allclose(result.first_gradient["w"], gradient_at(np.zeros(3)), rtol=1e-5)


@pytest.mark.long
def test_a_threshold_of_clipping_does_not_know_the_loss_scale() -> None:
    """Clipped before it is unscaled, a gradient would be shorter by the factor."""
    plain, scaled = (trained(f"scale={s}", clip_norm=2.0) for s in ("none", "1024"))
    assert_same_bits(scaled.weights["w"], plain.weights["w"])
    step = np.linalg.norm(plain.snapshots[1]["w"]) / RATE
    assert abs(step - 2) < 1e-6


@pytest.mark.long
def test_microbatches_have_the_loss_and_the_gradient_of_the_batch() -> None:
    whole, parts = trained(), trained(accumulate=4)
    np.testing.assert_allclose(parts.losses, whole.losses, rtol=1e-5)
    np.testing.assert_allclose(parts.weights["w"], whole.weights["w"], rtol=1e-5)
    rounded = trained(accumulate=4, accumulator="e4m3")
    # The first step by hand: the gradients of four pairs, added up in E4M3 from zero.
    total = np.float32(0)
    for k in range(4):
        order = np.random.default_rng([0, 2]).permutation(8)[2 * k : 2 * k + 2]
        x, y = INPUTS[order].astype(float), TARGETS[order].astype(float)
        total = ps.add(total, single(-x.T @ y), "e4m3")
    np.testing.assert_array_equal(rounded.first_gradient["w"], total / 4)


@pytest.mark.long
def test_redo_takes_every_step() -> None:
    """From a scale that overflows: without redo the first steps are skipped, with it none."""
    scale = "dynamic@65536[max=65536"
    policy = "p=fp32,c=fp16,o=fp16,scale="
    skipping, redone = trained(f"{policy}{scale}]"), trained(f"{policy}{scale},redo]")
    lost = skipping.skipped_steps
    assert lost > 0
    assert redone.skipped_steps == 0
    first = redone.loss_scales[0]
    assert skipping.loss_scales[lost] == first
    assert_same_bits(redone.snapshots[1]["w"], skipping.snapshots[lost + 1]["w"])


@pytest.mark.long
def test_all_at_once_on_a_model_of_layers() -> None:
    with one_layer():
        config: Any = {
            "policy": "fp16_mixed,scale=dynamic@16777216[redo]",
            "task": "digits",
            "steps": 4,
            "accumulate": 2,
            "accumulator": "bf16",
            "clip_norm": 1.0,
            "delay": 1,
        }
        result = ps.train(ps.TrainConfig(**config))
    assert result.taken.tolist() == [False, True, True, True]
    assert np.isfinite(result.losses).all()
    assert result.loss_scales[0] < 2.0**24
    assert {events.shape for events in result.forward_events.values()} == {(4, 7)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"accumulate": 3}, "accumulate is 3; allowed are divisors of batch_size, 8"),
        ({"accumulator": "bf16"}, "accumulator is 'bf16'; allowed with accumulate 1"),
        ({"accumulate": 2, "accumulator": "bf17"}, "unknown format 'bf17'"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0; allowed are positive float32 numbers"),
        ({"clip_rule": "tf"}, "clip_rule is 'tf'; allowed are 'optax', 'torch'"),
        ({"delay": -1}, "delay is -1; allowed are integers"),
        ({"delay": 5}, "delay is 5; allowed with steps 5 are 0 to 4"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trained(**options)
