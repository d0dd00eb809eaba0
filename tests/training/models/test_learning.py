"""Each plain model learns its default task, in float32 with optax: `adam`, learning rate 0.005."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from precsim.training.data.registry import TASKS
from tests.training.models.conftest import loss_of, started


def trained(name: str, task: str, steps: int) -> tuple[Any, float, np.ndarray]:
    """Return the data, the loss on the examples for testing, and the outputs there."""
    data = TASKS[task].load(0, "")
    model, params, state = started(name, data.problem)
    loss, optimizer = loss_of(model, data.problem), optax.adam(5e-3)

    @jax.jit
    def step(params: Any, state: Any, optimizer_state: Any, x: Any, targets: Any) -> Any:
        gradient = jax.grad(loss, has_aux=True)
        g, (_, state) = gradient(params, state, x, targets)
        updates, optimizer_state = optimizer.update(g, optimizer_state, params)
        return optax.apply_updates(params, updates), state, optimizer_state

    optimizer_state, rng = optimizer.init(params), np.random.default_rng(1)
    for _ in range(steps):
        batch = rng.integers(len(data.train_targets), size=32)
        x, targets = data.train_inputs[batch], data.train_targets[batch]
        params, state, optimizer_state = step(params, state, optimizer_state, x, targets)
    value, (outputs, _) = jax.jit(lambda *args: loss(*args, is_training=False))(
        params, state, data.test_inputs, data.test_targets
    )
    return data, float(value), np.asarray(outputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "accuracy", "steps"),
    [
        ("logistic", 0.9, 300),
        ("lenet", 0.9, 300),
        ("mobilenet", 0.9, 300),
        ("resnet", 0.9, 200),
        ("gru", 0.85, 300),
        ("lstm", 0.85, 400),
    ],
)
def test_classes_of_digits(name: str, accuracy: float, steps: int) -> None:
    data, _, outputs = trained(name, "digits", steps)
    assert np.mean(outputs.argmax(-1) == data.test_targets) > accuracy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task", "steps"),
    [("gru", "text", 200), ("lstm", "text", 200), ("encoder", "masked", 500)],
)
def test_characters_are_predicted_better_than_by_their_frequency(
    name: str, task: str, steps: int
) -> None:
    data, loss, _ = trained(name, task, steps)
    counts = np.bincount(data.train_targets[data.train_targets >= 0])
    shares = counts[counts > 0] / counts.sum()
    assert loss < -np.sum(shares * np.log(shares)) - 0.4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task", "share", "steps"),
    [
        ("linear", "regression", 0.75, 500),
        ("recommender", "ratings", 0.4, 1000),
        ("factorisation", "ratings", 0.25, 1000),
    ],
)
def test_numbers_are_predicted_better_than_by_their_mean(
    name: str, task: str, share: float, steps: int
) -> None:
    data, loss, outputs = trained(name, task, steps)
    assert outputs.shape == data.test_targets.shape
    assert loss < share * jnp.var(data.test_targets)
