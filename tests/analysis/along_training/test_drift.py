"""Drift: local and inherited parts against runs made by hand."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps

RNG = np.random.default_rng(11)
STATE = {
    "layer0": {"w": RNG.normal(size=(3, 4)).astype(np.float32), "b": np.zeros(4, np.float32)},
    "layer1": {"w": RNG.normal(size=4).astype(np.float32)},
    "count": np.int32(0),
}
BATCHES = [(RNG.normal(size=(5, 3)).astype(np.float32),) for _ in range(4)]


def step(state: Any, x: Any) -> Any:
    def loss(layers: Any) -> Any:
        first, second = layers
        return jnp.sum((jnp.maximum(x @ first["w"] + first["b"], 0) * second["w"]) ** 2)

    layers = state["layer0"], state["layer1"]
    new = jax.tree.map(lambda w, g: w - 2.0**-9 * g, layers, jax.grad(loss)(layers))
    return {"layer0": new[0], "layer1": new[1], "count": state["count"] + 1}


@pytest.fixture(scope="module")
def drift() -> ps.Drift:
    return ps.track_drift(step, "bf16", STATE, BATCHES)


@pytest.mark.long
def test_parts_are_those_of_runs_made_by_hand(drift: ps.Drift) -> None:
    low, exact = jax.jit(ps.emulate(step, "bf16")), jax.jit(step)
    shadow: Any = STATE
    run: Any = STATE
    assert drift.paths == ("layer0/b", "layer0/w", "layer1/w")
    row = drift.paths.index("layer1/w")
    for k, batch in enumerate(BATCHES):
        from_run = exact(run, *batch)
        before, shadow, run = run, exact(shadow, *batch), low(run, *batch)
        w, f, s = (np.asarray(x["layer1"]["w"]) for x in (run, from_run, shadow))
        expected = {
            "total": np.linalg.norm(w - s),
            "local": np.linalg.norm(w - f),
            "inherited": np.linalg.norm(f - s),
            "size": np.linalg.norm(s),
            "amax": np.abs(w).max(),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(drift, name)[row, k], value, rtol=1e-5)
        old = np.asarray(before["layer1"]["w"])
        assert drift.updates[row, k] == np.count_nonzero(f != old)
        assert drift.swallowed[row, k] == np.count_nonzero((f != old) & (w == old))


def test_first_step_inherits_nothing(drift: ps.Drift) -> None:
    assert not drift.inherited[:, 0].any()
    np.testing.assert_array_equal(drift.local[:, 0], drift.total[:, 0])
    assert (drift.inherited[:, 1:] > 0).all()


def test_swallowed_updates_and_the_rule_that_saves_them() -> None:
    """One added 1000 times to 256 in bfloat16, and in float32 by a rule for its scope."""

    def count(w: Any, x: Any) -> Any:
        with jax.named_scope("update"):
            return w + x

    batches = [(np.float32(1),)] * 3
    lost = ps.track_drift(count, "bf16", np.full(2, 256, np.float32), batches)
    assert lost.swallowed.tolist() == lost.updates.tolist() == [[2, 2, 2]]
    assert lost.swallowed_share.tolist() == [[1, 1, 1]]
    assert "100 % of all updates are swallowed" in lost.sentence
    kept = ps.track_drift(count, "bf16;update:fp32", np.full(2, 256, np.float32), batches)
    assert not kept.swallowed.any()
    assert not kept.total.any()


def test_float32_policy_has_no_drift() -> None:
    none = ps.track_drift(lambda w, x: w + x, "fp32", np.ones(3, np.float32), [(np.float32(0.1),)])
    assert not none.total.any()
    assert none.relative().tolist() == [[0]]


def test_layers(drift: ps.Drift) -> None:
    layers = drift.by_layer
    assert layers.paths == ("layer0", "layer1")
    np.testing.assert_allclose(layers.total[0] ** 2, (drift.total[:2] ** 2).sum(axis=0))
    assert layers.updates[0].tolist() == drift.updates[:2].sum(axis=0).tolist()


def test_own_low_step_with_a_loss_scale() -> None:
    """States need not have the same leaves: a scale is traced where both have it."""

    def scaled(state: Any, x: Any) -> Any:
        return {"w": state["w"] + x, "scale": state["scale"] * 2}

    def low(state: Any, x: Any) -> Any:
        w = ps.add(state["w"], x, "e5m2")
        return {"w": w, "scale": state["scale"] * 2, "skipped": state["skipped"]}, "metrics"

    first = {"w": jnp.ones(2), "scale": jnp.float32(1)}
    found = ps.track_drift(
        scaled, low, first, [(jnp.float32(0.125),)] * 3, low_state={**first, "skipped": jnp.ones(3)}
    )
    assert found.paths == ("scale", "w")
    assert found.amax[0].tolist() == [2, 4, 8]
    assert found.swallowed[1].tolist() == [2, 2, 2]


def test_not_finite_states_are_seen() -> None:
    grown = ps.track_drift(
        lambda w, x: w * x, "fp16", np.full(2, 300, np.float32), [(np.float32(300),)] * 2
    )
    assert np.isinf(grown.total).any()
    assert json.loads(grown.to_json())["total"][0][0] is None
    assert "state is farthest" in grown.sentence


def test_report(drift: ps.Drift) -> None:
    assert str(drift).startswith(drift.sentence)
    assert len(str(drift).splitlines()) == 2 + 1 + len(drift.paths)
    assert "<table>" in drift._repr_html_()
    assert np.shape(json.loads(drift.to_json())["local"]) == drift.local.shape


@pytest.mark.slow
def test_runs_of_train() -> None:
    """The low run of `train` beside its float32 run, whose states differ in the loss scale."""
    low, shadow = (
        ps.replay.prepare_run(ps.TrainConfig(policy=ps.Policy.parse(name), batch_size=8))
        for name in ("fp16_mixed", "fp32")
    )
    batches = [shadow.batch(k) for k in range(3)]
    found = ps.track_drift(shadow.step, low.step, shadow.state, batches, low_state=low.state)
    assert "params/hidden/w" in found.paths
    drift = found.relative()[found.paths.index("params/hidden/w")]
    assert 0 < drift[0] < 1e-3


def test_bad_arguments_are_one_line() -> None:
    one = np.ones(1, np.float32)
    with pytest.raises(TypeError, match="low is 3; allowed are a policy and a step function"):
        ps.track_drift(step, 3, STATE, BATCHES)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batches has no steps"):
        ps.track_drift(lambda w: w, "bf16", one, [])
    with pytest.raises(TypeError, match="batches is 3; allowed are iterables of tuples"):
        ps.track_drift(lambda w: w, "bf16", one, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"step returned .*; allowed are a state like"):
        ps.track_drift(lambda w: (w, w, w), "bf16", one, [()])
    with pytest.raises(ValueError, match="state has no floating-point leaf in common"):
        ps.track_drift(lambda w: w, "bf16", one, [()], low_state=np.ones(2, np.float32))
    with pytest.raises(ValueError, match="kind is 'all'; allowed are"):
        ps.track_drift(lambda w: w, "bf16", one, [()]).relative("all")
