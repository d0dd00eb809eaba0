"""Portable optimizers: near optax's rules in float64, and their bits, operation by operation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import precsim as ps
from precsim.training.recipes.optimizers import make_optimizer, portable_adamw, portable_sgd
from tests.training.conftest import assert_same_bits, single

STEPS = 20
U = 2.0**-24
RNG = np.random.default_rng(0)
GRADIENTS = single(RNG.standard_normal((STEPS, 17)) * 10.0 ** RNG.integers(-4, 3, 17))
WEIGHTS = single(RNG.standard_normal(17))
RULES: dict[str, tuple[Any, Any]] = {
    "sgd": (portable_sgd(0.1), optax.sgd(0.1)),
    "momentum": (portable_sgd(0.1, momentum=0.9), optax.sgd(0.1, momentum=0.9)),
    "adam": (portable_adamw(0.01, weight_decay=0.0), optax.adam(0.01)),
    "adamw": (portable_adamw(0.01), optax.adamw(0.01, weight_decay=0.01)),
}


def updates(optimizer: Any, gradients: Any) -> Any:
    """Return the updates of fixed weights for each gradient, shape (steps, 17)."""
    weights = {"w": jnp.asarray(WEIGHTS, gradients.dtype)}

    def body(state: Any, g: Any) -> Any:
        change, state = optimizer.update({"w": g}, state, weights)
        return state, change["w"]

    return np.asarray(
        jax.jit(lambda g: jax.lax.scan(body, optimizer.init(weights), g)[1])(gradients)
    )


def magnitudes(name: str) -> np.ndarray:
    """What the error of each update is proportional to: the same rule, all terms positive."""
    g = np.abs(GRADIENTS.astype(np.float64))
    if name == "sgd":
        return 0.1 * g
    if name == "momentum":
        return 0.1 * np.array([averages(g[: t + 1], 0.9, 1.0) for t in range(STEPS)])
    rows = []
    for t in range(1, STEPS + 1):
        first = averages(g[:t], 0.9, 0.1) / (1 - 0.9**t)
        second = averages(g[:t] ** 2, 0.999, 0.001) / (1 - 0.999**t)
        # 1 - b**t cancels: an error of u in b**t is one of u / (1 - b**t) there.
        lost = 1 / (1 - 0.9**t) + 1 / (1 - 0.999**t)
        decay = 0.01 * np.abs(WEIGHTS) if name == "adamw" else 0
        rows.append(0.01 * (first / np.sqrt(second) * (1 + lost) + decay))
    return np.array(rows)


def averages(values: np.ndarray, kept: float, new: float) -> Any:
    total = np.zeros(17)
    for value in values:
        total = kept * total + new * value
    return total


@pytest.mark.long
@pytest.mark.parametrize("name", RULES)
def test_updates_are_near_those_of_optax_in_float64(name: str) -> None:
    """An update is within gamma(roundings) of its terms' sum: three a step, ten at the end."""
    portable, reference = RULES[name]
    got = updates(portable, jnp.asarray(GRADIENTS))
    with jax.enable_x64(True):
        expected = updates(reference, jnp.asarray(GRADIENTS, jnp.float64))
    assert expected.dtype == np.float64
    roundings = 3 * (np.arange(STEPS)[:, None] + 1) + 10
    error = np.abs(got - expected)
    assert (error <= roundings * U * magnitudes(name)).all()
    assert (np.abs(expected) > 10 * roundings * U * magnitudes(name)).mean() > 0.9  # it can tell


def test_momentum_has_the_bits_of_two_roundings_per_step() -> None:
    """Contracted into a fused operation, the sum would have one."""
    got = updates(portable_sgd(0.1, momentum=0.9), jnp.asarray(GRADIENTS))
    trace = np.zeros(17, np.float32)
    for k, g in enumerate(GRADIENTS):
        trace = ps.add(ps.multiply(np.float32(0.9), trace, "fp32"), g, "fp32")
        assert_same_bits(got[k], ps.multiply(np.float32(-0.1), trace, "fp32"), k)


def test_momentum_of_a_run_keeps_its_buffers_where_optax_has_them() -> None:
    """The random bits of a stochastic optimizer state depend on the path."""
    config = ps.TrainConfig(policy="bf16", optimizer="momentum")
    params = {"w": jnp.zeros(2)}
    ours, theirs = (o.init(params) for o in (make_optimizer(config), optax.sgd(0.1, momentum=0.9)))
    paths = [[path for path, _ in jax.tree.leaves_with_path(s)] for s in (ours, theirs)]
    assert paths[0] == paths[1]


def times(x: Any, y: Any) -> Any:
    return ps.multiply(single(x), single(y), "fp32")


def plus(x: Any, y: Any) -> Any:
    return ps.add(single(x), single(y), "fp32")


def over(x: Any, y: Any) -> Any:
    return ps.divide(single(x), single(y), "fp32")


@pytest.mark.long
def test_adamw_has_the_bits_of_its_operations_one_by_one() -> None:
    got = updates(portable_adamw(0.01), jnp.asarray(GRADIENTS[:4]))
    first = second = single(np.zeros(17))
    powers = single([1, 1])
    for k, g in enumerate(GRADIENTS[:4]):
        first = plus(times(0.9, first), times(1 - 0.9, g))
        second = plus(times(0.999, second), times(1 - 0.999, times(g, g)))
        powers = times(powers, [0.9, 0.999])
        inverse = over(1, ps.subtract(np.float32(1), powers, "fp32"))
        root = plus(ps.sqrt(times(second, inverse[1]), "fp32"), 1e-8)
        step = plus(over(times(first, inverse[0]), root), times(0.01, WEIGHTS))
        assert_same_bits(got[k], times(-0.01, step), k)


def test_weight_decay_needs_the_weights() -> None:
    optimizer = portable_adamw(0.01)
    gradients = {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"params is None; weight decay needs the weights"):
        optimizer.update(gradients, optimizer.init(gradients))


@pytest.mark.long
def test_without_weight_decay_the_weights_are_not_needed() -> None:
    gradients = jnp.ones(2)
    optimizer = portable_adamw(0.5, weight_decay=0.0)

    @jax.jit
    def both(g: Any) -> Any:
        state = optimizer.init(g)
        return optimizer.update(g, state), optimizer.update(g, state, -3 * g)

    (change, state), (same, _) = both(gradients)
    assert_same_bits(change, same)
    assert abs(float(change[0]) + 0.5) < 1e-5
    assert state.powers.tolist() == [np.float32(0.9), np.float32(0.999)]


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw"])
def test_a_policy_chooses_between_portable_and_the_platforms(name: str) -> None:
    """By what the update is made of; both have optax's interface. SGD is always portable."""
    w = {"w": jnp.ones(3), "b": jnp.ones(2)}
    for policy, is_portable in (("h100_bf16", True), ("bf16_mixed", False)):
        config = ps.TrainConfig(policy=policy, optimizer=name)
        optimizer = make_optimizer(config)
        state = optimizer.init(w)
        found = ps.replay.find_unportable(optimizer.update, w, state, w)
        assert (found == ()) == (is_portable or name in ("sgd", "momentum"))


@pytest.mark.long
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_leaves_without_a_gradient_stay_as_they_are(name: str) -> None:
    params = {"w": jnp.ones(2), "count": jnp.arange(3)}
    gradient = jax.grad(lambda p: jnp.sum(p["w"]) * p["count"][1], allow_int=True)(params)
    sgd = portable_sgd(0.5, momentum=0.5)
    optimizer = sgd if name == "sgd" else portable_adamw(0.5)
    updates, state = optimizer.update(gradient, optimizer.init(params), params)
    new = ps.apply_updates(params, updates)
    assert new["count"] is params["count"]
    assert new["w"][0] < 1
    buffers = [x for x in jax.tree.leaves(state) if x.shape == (3,)]
    assert all(not x.any() and x.dtype == jnp.int32 for x in buffers)
