"""A small MobileNet: two depthwise-separable convolutions, each with batch normalisation.

A depthwise convolution filters each channel by itself, a pointwise one (1 by 1) then mixes the
channels. The state of the normalisations is float32 and never rounded, see `batch_norm`. Source:
Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications,
arXiv 1704.04861, 2017.
"""

from collections.abc import Mapping

import jax
import numpy as np
from jax import Array

from precsim.training.data.dataset import Problem
from precsim.training.models import batch_norm
from precsim.training.models.initial import he_normal, lecun_normal, zeros
from precsim.training.models.jax_layers import conv, dense

FIRST = 16
"""Channels of the first, ordinary convolution."""
BLOCKS = {"block1": 32, "block2": 32}
"""Channels of each depthwise-separable convolution; the first one halves the image."""


def init(rng: np.random.Generator, problem: Problem) -> dict[str, np.ndarray]:
    """Return weights by He's rule for images of any size; gains 1, biases 0."""
    weights = {"conv/w": he_normal(rng, (3, 3, problem.shape[-1], FIRST))}
    weights |= batch_norm.weights("batch_norm", FIRST)
    channels = FIRST
    for block, outputs in BLOCKS.items():
        weights[f"{block}/depthwise/w"] = he_normal(rng, (3, 3, 1, channels))
        weights |= batch_norm.weights(f"{block}/batch_norm1", channels)
        weights[f"{block}/pointwise/w"] = he_normal(rng, (1, 1, channels, outputs))
        weights |= batch_norm.weights(f"{block}/batch_norm2", outputs)
        channels = outputs
    weights["output/w"] = lecun_normal(rng, (channels, problem.classes))
    weights["output/b"] = zeros(problem.classes)
    return weights


init_state = batch_norm.init_state


def apply(
    params: Mapping[str, Array], images: Array, state: Mapping[str, Array], is_training: bool
) -> tuple[Array, dict[str, Array]]:
    """Return the logits (batch, classes) of images (batch, height, width, channels); new state."""
    norm = batch_norm.BatchNorms(params, state, is_training)
    x = jax.nn.relu(norm("batch_norm", conv(params, "conv", images)))
    for block in BLOCKS:
        stride = 2 if block == "block1" else 1
        x = conv(params, f"{block}/depthwise", x, stride=stride, groups=x.shape[-1])
        x = jax.nn.relu(norm(f"{block}/batch_norm1", x))
        x = conv(params, f"{block}/pointwise", x)
        x = jax.nn.relu(norm(f"{block}/batch_norm2", x))
    return dense(params, "output", x.mean((1, 2))), norm.state
