"""Ratings by a perceptron: it reads the learned features of a user and of an item.

Source: He et al., Neural Collaborative Filtering, WWW 2017, the part with the perceptron.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from precsim.training.data.dataset import Problem
from precsim.training.models.initial import he_normal, lecun_normal, normal, zeros
from precsim.training.models.jax_layers import dense, embed

FEATURES = 16
HIDDEN = 32


def init(rng: np.random.Generator, problem: Problem) -> dict[str, np.ndarray]:
    """Return weights for ``problem.ids`` users and items: features of deviation 0.3, biases 0."""
    users, items = problem.ids
    return {
        "users/w": normal(rng, (users, FEATURES), 0.3),
        "items/w": normal(rng, (items, FEATURES), 0.3),
        "hidden/w": he_normal(rng, (2 * FEATURES, HIDDEN)),
        "hidden/b": zeros(HIDDEN),
        "output/w": lecun_normal(rng, (HIDDEN, 1)),
        "output/b": zeros(1),
    }


def apply(params: Mapping[str, Array], pairs: Array) -> Array:
    """Return ratings (batch,) of pairs (batch, 2): the numbers of a user and of an item."""
    user, item = embed(params, "users", pairs[:, 0]), embed(params, "items", pairs[:, 1])
    x = jax.nn.relu(dense(params, "hidden", jnp.concatenate([user, item], axis=1)))
    return dense(params, "output", x)[:, 0]
