"""What a recurrent network reads, place by place, and what it answers.

Images are read row by row. Tokens are embedded first. The answer is one per place, or one for all
from the last state. In the second case padding changes no state, before a text or behind it.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from precsim.training.data.dataset import Problem
from precsim.training.models.initial import lecun_normal, normal, zeros
from precsim.training.models.jax_layers import dense, embed

PADDING = 0
"""The token that fills up texts of one answer each; where each place has one, it is as others."""

States = tuple[Array, ...]
"""Each (batch, width)."""

Cell = Callable[[Mapping[str, Array], Array, States], States]
"""The new states after one place, of the weights, the place (batch, features) and the states."""


def reading_weights(
    rng: np.random.Generator, problem: Problem, width: int
) -> tuple[dict[str, np.ndarray], int]:
    """Return the weights that tokens need, and the number of features of one place."""
    if not problem.ids:
        return {}, int(np.prod(problem.shape[1:]))
    return {"tokens/w": normal(rng, (problem.ids[0], width), 1.0)}, width


def answering_weights(
    rng: np.random.Generator, problem: Problem, width: int
) -> dict[str, np.ndarray]:
    """Return a dense layer: "output" for one answer per place, "pooled" for one in all."""
    name = "output" if problem.target_shape else "pooled"
    weights = lecun_normal(rng, (width, problem.classes))
    return {f"{name}/w": weights, f"{name}/b": zeros(problem.classes)}


def is_pooled(params: Mapping[str, Array]) -> bool:
    """Return whether there is one answer for all places."""
    return "pooled/w" in params


def is_read(params: Mapping[str, Array], tokens: Array) -> Array:
    """Return which tokens are not padding."""
    return tokens != PADDING if is_pooled(params) else jnp.ones(tokens.shape, bool)


def read(
    params: Mapping[str, Array], inputs: Array, cell: Cell, width: int, num_states: int
) -> Array:
    """Return the logits of a recurrent network that starts with states of zeros.

    The first state is what it answers from. Logits are (batch, length, classes), or (batch,
    classes) for one answer in all.
    """
    if inputs.ndim == 4:
        places = inputs.reshape(*inputs.shape[:2], -1)
        moves = jnp.ones(places.shape[:2], bool)
    else:
        places = embed(params, "tokens", inputs)
        moves = is_read(params, inputs)

    def turn(old: States, place: tuple[Array, Array]) -> tuple[States, Array]:
        x, is_moved = place
        pairs = zip(cell(params, x, old), old, strict=True)
        new = tuple(jnp.where(is_moved[:, None], after, before) for after, before in pairs)
        return new, new[0]

    start = (jnp.zeros((len(inputs), width), places.dtype),) * num_states
    (last, *_), every = lax.scan(turn, start, (places.swapaxes(0, 1), moves.T))
    if is_pooled(params):
        return dense(params, "pooled", last)
    return dense(params, "output", every.swapaxes(0, 1))
