"""A small convolutional network: two convolutions of 3 by 3, pooling, one dense layer."""

from collections.abc import Mapping

import numpy as np

from precsim._arrays import Array
from precsim.training.data.dataset import Problem
from precsim.training.layers import Layers, max_pool
from precsim.training.models.initial import he_normal

CHANNELS = (8, 16)


def init(rng: np.random.Generator, problem: Problem) -> dict[str, np.ndarray]:
    """Return weights by He's rule for images whose height and width 4 divides; biases zero."""
    height, width, channels = problem.shape
    first, second = CHANNELS
    size = height // 4 * (width // 4) * second
    return {
        "conv1/w": he_normal(rng, (3, 3, channels, first)),
        "conv1/b": np.zeros(first, np.float32),
        "conv2/w": he_normal(rng, (3, 3, first, second)),
        "conv2/b": np.zeros(second, np.float32),
        "output/w": he_normal(rng, (size, problem.classes)),
        "output/b": np.zeros(problem.classes, np.float32),
    }


def apply(params: Mapping[str, Array], images: Array, layers: Layers) -> Array:
    """Return the logits, shape (batch, classes), of images (batch, height, width, channels)."""
    x = layers.data("input", images)
    for name in ("conv1", "conv2"):
        w, b = params[f"{name}/w"], params[f"{name}/b"]
        x = layers.conv(name, x, w, b, is_first=name == "conv1")
        x = max_pool(layers.functions.relu(x))
    x = x.reshape(x.shape[0], -1)
    x = layers.linear("output", x, params["output/w"], params["output/b"])
    return layers.rounded("logits", x)
