"""Linear regression: one number from a row of numbers, by least squares."""

from collections.abc import Mapping

import numpy as np
from jax import Array

from precsim.training.data.dataset import Problem
from precsim.training.models.initial import zeros
from precsim.training.models.jax_layers import dense


def init(rng: np.random.Generator, problem: Problem) -> dict[str, np.ndarray]:
    """Return zeros: the loss is convex, and every start leads to the same place."""
    return {"output/w": zeros(*problem.shape), "output/b": zeros()}


def apply(params: Mapping[str, Array], inputs: Array) -> Array:
    """Return a number per row, shape (batch,), of rows (batch, features)."""
    return dense(params, "output", inputs)
