"""A multilayer perceptron with one hidden layer, ReLU."""

from collections.abc import Mapping

import numpy as np

from precsim._arrays import Array
from precsim.training.data.dataset import Problem
from precsim.training.layers import Layers
from precsim.training.models.initial import he_normal


def init(rng: np.random.Generator, problem: Problem) -> dict[str, np.ndarray]:
    """Return weights by He's rule for images, 64 hidden units; float32, biases zero."""
    size = int(np.prod(problem.shape))
    hidden = 64
    return {
        "hidden/w": he_normal(rng, (size, hidden)),
        "hidden/b": np.zeros(hidden, np.float32),
        "output/w": he_normal(rng, (hidden, problem.classes)),
        "output/b": np.zeros(problem.classes, np.float32),
    }


def apply(params: Mapping[str, Array], images: Array, layers: Layers) -> Array:
    """Return the logits, shape (batch, classes), of images (batch, height, width, channels)."""
    x = layers.data("input", images.reshape(images.shape[0], -1))
    x = layers.linear("hidden", x, params["hidden/w"], params["hidden/b"], is_first=True)
    x = layers.functions.relu(x)
    x = layers.linear("output", x, params["output/w"], params["output/b"])
    return layers.rounded("logits", x)
