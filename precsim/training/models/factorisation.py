"""Ratings by matrix factorisation: the product of two rows of features, plus three biases.

A rating is ``mean + user bias + item bias + user features . item features``. Source: Koren, Bell
and Volinsky, Matrix Factorization Techniques for Recommender Systems, IEEE Computer, 2009. Its
penalty on large weights is the optimizer's matter (weight decay).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from precsim.training.data.dataset import Problem
from precsim.training.models.initial import normal, zeros
from precsim.training.models.jax_layers import embed

FEATURES = 8


def init(rng: np.random.Generator, problem: Problem) -> dict[str, np.ndarray]:
    """Return weights for ``problem.ids`` users and items: features of deviation 0.1, biases 0."""
    users, items = problem.ids
    return {
        "users/w": normal(rng, (users, FEATURES), 0.1),
        "items/w": normal(rng, (items, FEATURES), 0.1),
        "user_bias/w": zeros(users),
        "item_bias/w": zeros(items),
        "mean/b": zeros(),
    }


def apply(params: Mapping[str, Array], pairs: Array) -> Array:
    """Return ratings (batch,) of pairs (batch, 2): the numbers of a user and of an item."""
    users, items = pairs[:, 0], pairs[:, 1]
    user, item = embed(params, "users", users), embed(params, "items", items)
    with jax.named_scope("product"):
        match: Array = jnp.einsum("bf,bf->b", user, item)
    biases = embed(params, "user_bias", users) + embed(params, "item_bias", items)
    with jax.named_scope("mean"):
        return match + biases + params["mean/b"]
