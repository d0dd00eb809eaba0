"""LeNet-5, adapted to the size of the images: two convolutions, means, three dense layers.

As in the original: 5 by 5 filters, 6 and 16 channels, means over 2 by 2 pixels, tanh, then 120 and
84 units. Otherwise: images are padded with zeros so that convolutions keep their size, each
channel sees all channels before it, and the output is a softmax. Source: LeCun, Bottou, Bengio and
Haffner, Gradient-based learning applied to document recognition, Proceedings of the IEEE, 1998.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jax import Array

from precsim.training.data.dataset import Problem
from precsim.training.models.initial import he_normal, zeros
from precsim.training.models.jax_layers import average_pool, conv, dense, image_size


def init(rng: np.random.Generator, problem: Problem) -> dict[str, np.ndarray]:
    """Return weights of variance 2 / fan_in for images whose height and width 4 divides."""
    height, width, channels = image_size(problem, "lenet")
    shapes = {
        "conv1": (5, 5, channels, 6),
        "conv2": (5, 5, 6, 16),
        "dense1": (height // 4 * (width // 4) * 16, 120),
        "dense2": (120, 84),
        "output": (84, problem.classes),
    }
    weights = {}
    for name, shape in shapes.items():
        weights[f"{name}/w"] = he_normal(rng, shape)
        weights[f"{name}/b"] = zeros(shape[-1])
    return weights


def apply(params: Mapping[str, Array], images: Array) -> Array:
    """Return the logits, shape (batch, classes), of images (batch, height, width, channels)."""
    x = average_pool(jnp.tanh(conv(params, "conv1", images)))
    x = average_pool(jnp.tanh(conv(params, "conv2", x)))
    x = x.reshape(x.shape[0], -1)
    x = jnp.tanh(dense(params, "dense1", x))
    x = jnp.tanh(dense(params, "dense2", x))
    return dense(params, "output", x)
