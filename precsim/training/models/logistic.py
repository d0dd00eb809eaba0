"""Logistic regression with a softmax over the classes of images."""

from collections.abc import Mapping

import numpy as np
from jax import Array

from precsim.training.data.dataset import Problem
from precsim.training.models.initial import zeros
from precsim.training.models.jax_layers import dense


def init(rng: np.random.Generator, problem: Problem) -> dict[str, np.ndarray]:
    """Return zeros: the loss is convex, and every start leads to the same place."""
    size = int(np.prod(problem.shape))
    return {"output/w": zeros(size, problem.classes), "output/b": zeros(problem.classes)}


def apply(params: Mapping[str, Array], images: Array) -> Array:
    """Return the logits, shape (batch, classes), of images (batch, height, width, channels)."""
    return dense(params, "output", images.reshape(images.shape[0], -1))
