"""Optimizers of the user's own: which run, and which are refused before the first step."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import precsim as ps
from tests.training.test_own_models import traced


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(1, 9))),
        optax.MultiSteps(optax.adam(0.1), 2),
        optax.masked(optax.sgd(0.1), {"w": True, "b": False}),
        optax.inject_hyperparams(optax.adam)(optax.linear_schedule(0.1, 0.0, 9)),
        optax.polyak_sgd(),
        optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()),
        optax.lbfgs(0.1, linesearch=None),
    ],
)
def test_optimizers_of_optax(optimizer: Any) -> None:
    traced(optimizer=optimizer)


def test_an_optimizer_that_evaluates_the_loss_itself_is_refused_at_once() -> None:
    with pytest.raises(
        ValueError, match=r"^optimizer needs 'value_fn'; allowed are optimizers that"
    ):
        traced(optimizer=optax.lbfgs())


@pytest.mark.long
def test_the_step_of_polyak_follows_from_the_loss() -> None:
    """One step by hand: loss / |gradient|**2 is the rate, at most `max_learning_rate`."""
    start = {"w": np.ones((4, 1), np.float32)}
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    data = x, np.array([1.0, 2.0], np.float32)
    found = ps.train(
        ps.TrainConfig(policy="fp32", steps=1, batch_size=2),
        model=(start, lambda w, x: (x @ w["w"])[:, 0]),
        data=data,
        loss=lambda outputs, targets: jnp.mean((outputs - targets) ** 2),
        metric=lambda outputs, targets: 0.0,
        optimizer=optax.polyak_sgd(max_learning_rate=1.0),
    )
    errors = x @ start["w"][:, 0] - data[1]
    gradient = x.T @ errors
    loss = np.mean(errors**2)
    expected = start["w"][:, 0] - loss / np.sum(gradient**2) * gradient
    np.testing.assert_allclose(found.weights["w"][:, 0], expected, rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("name", ["lbfgs", "prodigy"])
def test_states_that_hold_an_array_twice_run(name: str) -> None:
    """Defect: "Attempt to donate the same buffer twice"; L-BFGS and Prodigy hold the weights."""
    optimizer = {
        "lbfgs": optax.lbfgs(0.1, linesearch=None),
        "prodigy": optax.contrib.prodigy(0.1),
    }[name]
    config = ps.TrainConfig(policy="fp32", steps=2, batch_size=2)
    model = ({"w": np.ones((4, 1), np.float32)}, lambda w, x: (x @ w["w"])[:, 0])
    data = np.arange(8, dtype=np.float32).reshape(2, 4) / 8, np.array([1, 2], np.float32)
    found = ps.train(config, model=model, data=data, optimizer=optimizer)
    assert np.isfinite(found.losses).all()
    assert (found.weights["w"] != 1).any()
