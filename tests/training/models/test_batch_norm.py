"""Batch normalisation: the statistics, the running ones, and what no policy touches."""

from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.training.models.batch_norm import MOMENTUM, BatchNorms, init_state, weights
from precsim.training.models.jax_layers import EPSILON

U = 2.0**-24
PARAMS: Any = weights("batch_norm", 3)
X = np.random.default_rng(0).normal(2, 3, (4, 5, 2, 3)).astype(np.float32)
COUNT = X[..., 0].size


def normalised(x: Any, state: Any, is_training: bool) -> tuple[Any, dict[str, Any]]:
    norm = BatchNorms(PARAMS, state, is_training)
    y = norm("batch_norm", x)
    return y, norm.state


def bounds() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return mean and variance of each channel in float64, and how far float32 may be off."""
    x = X.astype(np.float64)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    off_mean = ps.errors.gamma(COUNT, U) * np.abs(x).mean((0, 1, 2))
    # The mean of (x - m)**2 is the variance plus the square of what m is off.
    off = off_mean**2 + ps.errors.gamma(COUNT + 4, U) * (variance + off_mean**2)
    return mean, variance, off_mean, off


def test_running_statistics_move_by_the_formula() -> None:
    state = init_state(PARAMS)
    assert {name: x.tolist() for name, x in state.items()} == {
        "batch_norm/mean": [0, 0, 0],
        "batch_norm/variance": [1, 1, 1],
    }
    _, new = normalised(X, state, True)
    mean, variance, off_mean, off_variance = bounds()
    for name, value, off in (("mean", mean, off_mean), ("variance", variance, off_variance)):
        old = state[f"batch_norm/{name}"].astype(np.float64)
        expected = MOMENTUM * old + (1 - MOMENTUM) * value
        size = MOMENTUM * old + (1 - MOMENTUM) * (np.abs(value) + off)
        allowed = (1 - MOMENTUM) * off + ps.errors.gamma(4, U) * size
        assert np.all(np.abs(np.float64(new[f"batch_norm/{name}"]) - expected) <= allowed), name


def test_training_normalises_by_the_batch() -> None:
    y, _ = normalised(X, init_state(PARAMS), True)
    mean, variance, off_mean, off_variance = bounds()
    deviation = np.sqrt(variance + EPSILON)
    expected = (X - mean) / deviation
    relative = off_variance / (2 * (variance + EPSILON)) + ps.errors.gamma(6, U)
    allowed = off_mean / deviation + (np.abs(expected) + off_mean / deviation) * relative * 1.01
    assert np.all(np.abs(np.float64(y) - expected) <= allowed)


def test_testing_normalises_by_the_running_statistics_and_keeps_them() -> None:
    state = {
        "batch_norm/mean": np.array([1, 2, 3], np.float32),
        "batch_norm/variance": np.array([4, 16, 1], np.float32),
    }
    y, new = normalised(X, state, False)
    assert all(new[name] is x for name, x in state.items())
    mean, variance = (x.astype(np.float64) for x in state.values())
    expected = (X - mean) / np.sqrt(variance + EPSILON)
    assert np.all(np.abs(np.float64(y) - expected) <= ps.errors.gamma(6, U) * np.abs(expected))


@pytest.mark.long
def test_no_policy_rounds_the_state() -> None:
    """The batch's mean is of the format; its tenth is the float32 number."""
    x = np.full((2, 1, 1, 3), 0.5, np.float32)
    state = init_state(PARAMS)

    def total(x: Any) -> tuple[Any, Any]:
        y, new = normalised(x, state, True)
        return y.sum(), new

    (_, new), _ = ps.emulate(jax.value_and_grad(total, has_aux=True), "bf16")(x)
    tenth = np.float32(1 - MOMENTUM) * np.float32(0.5)
    assert np.asarray(new["batch_norm/mean"]).tolist() == [tenth] * 3
    assert np.asarray(new["batch_norm/variance"]).tolist() == [np.float32(MOMENTUM)] * 3
