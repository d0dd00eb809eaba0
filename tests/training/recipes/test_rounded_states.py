"""Moments of an optimizer in formats of their own, against NumPy's Adam."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import precsim as ps
from tests.training.recipes.test_rounded_updates import GRADIENTS, START
from tests.training.test_policy_runs import taken_steps

F: Any = np.float32
MOMENTS = {".mu": "e5m2", ".first": "e5m2", ".nu": "bf16", ".second": "bf16"}


def test_each_moment_has_its_own_format() -> None:
    """The buffers are those of a step that began with the rounded buffers of the last one."""
    specs = {"mu": "e5m2:saturate", "nu": "fp32"}
    optimizer = ps.optax.round_states(optax.adam(1e-3), "bf16", **specs)  # type: ignore[arg-type]
    state = optimizer.init(START)
    moments = {name: jax.tree.map(np.zeros_like, START) for name in specs}
    for gradient in GRADIENTS[:3]:
        _, state = optimizer.update(gradient, state, START)
        exact = optax.adam(1e-3).init(START)
        adam = exact[0]._replace(count=state.inner_state[0].count - 1, **moments)
        _, (plain, *_) = optax.adam(1e-3).update(gradient, (adam, *exact[1:]), START)
        for name, spec in specs.items():
            moments[name] = jax.tree.map(
                lambda x, spec=spec: ps.round_to(np.asarray(x), spec), getattr(plain, name)
            )
            got = getattr(state.inner_state[0], name)
            for key, expected in moments[name].items():
                assert np.array_equal(np.asarray(got[key]), expected), (name, key)
    assert any(np.asarray(x).any() for x in state.inner_state[0].mu.values())


def test_weights_may_be_called_like_a_moment() -> None:
    """Momentum of a weight `mu` follows the rounding of all buffers."""
    optimizer = ps.optax.round_states(optax.sgd(1.0, momentum=0.5), "e4m3")
    w = {"mu": jnp.zeros(1), "nu": jnp.zeros(1)}
    _, state = optimizer.update({"mu": F([1.1]), "nu": F([3.3])}, optimizer.init(w), w)
    assert [x.item() for x in state.inner_state[0].trace.values()] == [1.125, 3.25]
    with pytest.raises(ValueError, match="mu is 'bf16', and the optimizer's state has no such"):
        ps.optax.round_states(optax.sgd(1.0, momentum=0.5), "fp32", mu="bf16").init(w)


def test_blocks_of_tables_run_over_whole_buffers_and_keep_small_second_moments() -> None:
    """Even steps lose second moments below 1/510 of the block's largest; the table has decades."""
    gradient = F(10.0 ** np.linspace(-3, 0, 300)).reshape(100, 3).T
    w, found = jnp.zeros((3, 100)), {}
    for fmt in ("udynamic8_block256", "uint8_block300"):
        optimizer = ps.optax.round_states(optax.adam(1e-3), "fp32", nu=fmt)
        _, state = optimizer.update(gradient, optimizer.init(w), w)
        found[fmt] = np.asarray(state.inner_state[0].nu)
    exact = F(0.001) * gradient**2
    table = found["udynamic8_block256"]
    assert np.array_equal(
        table.ravel()[:256], ps.round_to(exact.ravel()[:256], "udynamic8_block256")
    )
    assert np.array_equal(
        table.ravel()[256:], ps.round_to(exact.ravel()[256:], "udynamic8_block44")
    )
    assert np.max(np.abs(table / exact - 1)) < 0.5
    assert np.sum(found["uint8_block300"] == 0) > 100


@pytest.mark.long
@pytest.mark.parametrize("functions", ["platform", "portable"])
def test_trainings_round_the_moments_that_the_policy_names(functions: str) -> None:
    policy = f"fp32,fn={functions},mu=e5m2,nu=bf16"
    state, _ = taken_steps(policy, "adam", 2)[-1]
    wide = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.optimizer_state):
        name, x = jax.tree_util.keystr(path), np.asarray(leaf)
        for field, spec in MOMENTS.items():
            if field in name:
                assert np.array_equal(x, ps.round_to(x, spec)), name
                if not np.array_equal(x, ps.round_to(x, "e5m2")):
                    wide.add(field)
    assert len(wide) == 1
    assert MOMENTS[wide.pop()] == "bf16"


def test_moments_that_the_optimizer_does_not_have_are_refused_before_the_first_step() -> None:
    config = ps.TrainConfig(policy="fp32,nu=bf16", optimizer="momentum", steps=1)
    with pytest.raises(ValueError, match="nu is 'bf16', and the optimizer's state has no such"):
        ps.train(config)


def test_a_policy_writes_its_moments() -> None:
    policy = ps.Policy.parse("bf16_mixed,mu=dynamic8_block256,nu=udynamic8_block256")
    assert "opt=fp32,mu=dynamic8_block256,nu=udynamic8_block256" in str(policy)
    assert ps.Policy.parse(str(policy)) == policy
    assert str(policy.buffers["nu"]) == "udynamic8_block256"
    with pytest.raises(ValueError, match="mu= is given; p, update, opt, mu, nu, scale, out exist"):
        ps.Policy.parse("bf16;head:mu=fp32")


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (lambda inner: ps.optax.round_states(inner, "fp32"), "round_states"),
        (lambda inner: ps.optax.master_params(inner, "bf16"), "master_params"),
        (ps.optax.apply_unscaled, "apply_unscaled"),
        (lambda inner: ps.optax.keep_masks(inner, {}), "keep_masks"),
    ],
)
def test_what_is_no_optimizer_is_refused(wrap: Any, name: str) -> None:
    """Defect: "'str' object has no attribute 'init'", at the first step."""
    with pytest.raises(TypeError, match=r"^inner is 'adam'; allowed is an optimizer of optax$"):
        wrap("adam")


@pytest.mark.parametrize("name", ["rounding", "mu", "nu"])
def test_formats_beyond_float32_are_refused(name: str) -> None:
    given: dict[str, Any] = {"rounding": "bf16"} | {name: "fp64"}
    with pytest.raises(ValueError, match=rf"^{name} is 'fp64'; allowed are formats"):
        ps.optax.round_states(optax.adam(0.1), **given)
