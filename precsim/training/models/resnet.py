"""A small residual network: two blocks of two convolutions, each with batch normalisation.

A block adds its input to what its convolutions make of it. The second block halves the image, and
a 1 by 1 convolution brings its input to the new size. The state of the normalisations is float32
and never rounded, see `batch_norm`. Source: He, Zhang, Ren and Sun, Deep Residual Learning for
Image Recognition, CVPR 2016.
"""

from collections.abc import Mapping

import jax
import numpy as np
from jax import Array

from precsim.training.data.dataset import Problem
from precsim.training.models import batch_norm
from precsim.training.models.initial import he_normal, lecun_normal, zeros
from precsim.training.models.jax_layers import conv, dense

CHANNELS = (8, 16)
"""Of the first convolution and the first block, then of the second block."""


def init(rng: np.random.Generator, problem: Problem) -> dict[str, np.ndarray]:
    """Return weights by He's rule for images of any size; gains 1, biases 0."""
    first, second = CHANNELS
    weights = {"conv/w": he_normal(rng, (3, 3, problem.shape[-1], first))}
    weights |= batch_norm.weights("batch_norm", first)
    for block, inputs, outputs in (("block1", first, first), ("block2", first, second)):
        weights[f"{block}/conv1/w"] = he_normal(rng, (3, 3, inputs, outputs))
        weights |= batch_norm.weights(f"{block}/batch_norm1", outputs)
        weights[f"{block}/conv2/w"] = he_normal(rng, (3, 3, outputs, outputs))
        weights |= batch_norm.weights(f"{block}/batch_norm2", outputs)
    weights["block2/shortcut/w"] = lecun_normal(rng, (1, 1, first, second))
    weights["output/w"] = lecun_normal(rng, (second, problem.classes))
    weights["output/b"] = zeros(problem.classes)
    return weights


init_state = batch_norm.init_state


def apply(
    params: Mapping[str, Array], images: Array, state: Mapping[str, Array], is_training: bool
) -> tuple[Array, dict[str, Array]]:
    """Return the logits (batch, classes) of images (batch, height, width, channels); new state."""
    norm = batch_norm.BatchNorms(params, state, is_training)
    x = jax.nn.relu(norm("batch_norm", conv(params, "conv", images)))
    x = jax.nn.relu(x + _branch(params, "block1", x, norm, 1))
    shortcut = conv(params, "block2/shortcut", x, stride=2)
    x = jax.nn.relu(shortcut + _branch(params, "block2", x, norm, 2))
    return dense(params, "output", x.mean((1, 2))), norm.state


def _branch(
    params: Mapping[str, Array], block: str, x: Array, norm: batch_norm.BatchNorms, stride: int
) -> Array:
    x = jax.nn.relu(norm(f"{block}/batch_norm1", conv(params, f"{block}/conv1", x, stride=stride)))
    return norm(f"{block}/batch_norm2", conv(params, f"{block}/conv2", x))
