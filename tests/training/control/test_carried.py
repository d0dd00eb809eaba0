"""What the state of a training keeps when the policy changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.training.control import carried
from precsim.training.control.carried import carried_over
from precsim.training.network import as_network
from precsim.training.setup import Setup
from precsim.training.step import TrainState, initial_state

WEIGHTS = {"w": jnp.float32([1.2345678, -0.3456789])}
X, Y = jnp.ones((4, 2)), jnp.ones(4)
NETWORK = as_network((WEIGHTS, lambda weights, x: x @ weights["w"]))


def setup_of(policy: str) -> Setup:
    config = ps.TrainConfig(policy=ps.Policy.parse(policy), optimizer="momentum")
    return Setup(config, NETWORK, "mse", "rmse")


def test_buffers_move_to_the_new_formats() -> None:
    old, new = setup_of("fp32"), setup_of("bf16,update=kahan,opt=fp16,scale=1024")
    start = initial_state(old, WEIGHTS)
    noisy = jax.tree.map(lambda x: x + 1 / 3, start.optimizer_state)
    start = TrainState(
        **{n: getattr(start, n) for n in TrainState.__slots__} | {"optimizer_state": noisy}
    )
    moved = carried_over(start, old, new, "auto", X, Y)
    assert moved.params["w"].tolist() == ps.round_to(WEIGHTS["w"], "bf16").tolist()
    assert moved.compensation["w"].tolist() == [0, 0]
    for before, after in zip(
        jax.tree.leaves(noisy), jax.tree.leaves(moved.optimizer_state), strict=True
    ):
        assert np.asarray(after).tolist() == ps.round_to(before, "fp16").tolist()
    assert float(moved.loss_scale.factor) == 1024
    back = carried_over(moved, new, old, "auto", X, Y)
    assert back.compensation is None
    assert back.params["w"].tolist() == moved.params["w"].tolist()


def test_what_two_policies_share_stays() -> None:
    old, new = setup_of("fp16_mixed"), setup_of("bf16_mixed,scale=dynamic")
    start = initial_state(old, WEIGHTS)
    moved = carried_over(start, old, new, "auto", X, Y)
    assert moved == start


def test_histories_of_the_same_operands_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    old = new = setup_of("fp8_delayed")
    first = ps.DelayedScale.start("e4m3:scale=tensor", length=4)
    other = ps.DelayedScale.start("e5m2:scale=tensor", length=4)
    seen = first.update(np.float32(3))
    start = initial_state(old, WEIGHTS, (), {"a": seen, "b": seen, "gone": seen})
    wanted = {"a": first, "b": other, "c": first}
    monkeypatch.setattr(carried, "first_tensor_scales", lambda *_: wanted)
    scales = carried_over(start, old, new, "auto", X, Y).tensor_scales
    assert {name: np.asarray(scale.scale.factor).item() for name, scale in scales.items()} == {
        "a": float(seen.factor),
        "b": 1.0,
        "c": 1.0,
    }
