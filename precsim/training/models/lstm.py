"""Long short-term memory over the rows of an image, characters, or the words of a text.

One product makes all four gates from the input and the state before. Source: Hochreiter and
Schmidhuber, Long Short-Term Memory, Neural Computation, 1997, with the forget gate of Gers et al.,
2000, whose bias starts at 1.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from precsim.training.data.dataset import Problem
from precsim.training.models import sequences
from precsim.training.models.initial import lecun_normal, zeros
from precsim.training.models.jax_layers import dense

WIDTH = 64


def init(rng: np.random.Generator, problem: Problem) -> dict[str, np.ndarray]:
    """Return weights of variance 1 / fan_in; biases 0, those of the forget gates 1."""
    weights, features = sequences.reading_weights(rng, problem, WIDTH)
    weights["gates/w"] = lecun_normal(rng, (features + WIDTH, 4 * WIDTH))
    weights["gates/b"] = zeros(4 * WIDTH)
    weights["gates/b"][WIDTH : 2 * WIDTH] = 1
    return weights | sequences.answering_weights(rng, problem, WIDTH)


def apply(params: Mapping[str, Array], inputs: Array) -> Array:
    """Return the logits of images (batch, height, width, channels) or tokens (batch, length)."""
    return sequences.read(params, inputs, _cell, WIDTH, 2)


def _cell(params: Mapping[str, Array], x: Array, states: sequences.States) -> sequences.States:
    output, memory = states
    gates = dense(params, "gates", jnp.concatenate([x, output], axis=1))
    enter, keep, new, leave = jnp.split(gates, 4, axis=1)
    memory = jax.nn.sigmoid(keep) * memory + jax.nn.sigmoid(enter) * jnp.tanh(new)
    return jax.nn.sigmoid(leave) * jnp.tanh(memory), memory
