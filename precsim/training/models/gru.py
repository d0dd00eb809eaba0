"""Gated recurrent units over the rows of an image, characters, or the words of a text.

One product makes the two gates, update and reset, and one the candidate for the new state, from
the input and the reset state. Source: Cho et al., Learning Phrase Representations using RNN
Encoder-Decoder for Statistical Machine Translation, EMNLP 2014.
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
    """Return weights of variance 1 / fan_in; biases 0."""
    weights, features = sequences.reading_weights(rng, problem, WIDTH)
    for name, size in (("gates", 2 * WIDTH), ("candidate", WIDTH)):
        weights[f"{name}/w"] = lecun_normal(rng, (features + WIDTH, size))
        weights[f"{name}/b"] = zeros(size)
    return weights | sequences.answering_weights(rng, problem, WIDTH)


def apply(params: Mapping[str, Array], inputs: Array) -> Array:
    """Return the logits of images (batch, height, width, channels) or tokens (batch, length)."""
    return sequences.read(params, inputs, _cell, WIDTH, 1)


def _cell(params: Mapping[str, Array], x: Array, states: sequences.States) -> sequences.States:
    (state,) = states
    gates = jax.nn.sigmoid(dense(params, "gates", jnp.concatenate([x, state], axis=1)))
    update, reset = jnp.split(gates, 2, axis=1)
    both = jnp.concatenate([x, reset * state], axis=1)
    candidate = jnp.tanh(dense(params, "candidate", both))
    return (update * state + (1 - update) * candidate,)
