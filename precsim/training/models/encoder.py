"""A small transformer encoder: every place sees all others.

It answers per place, for tokens that are masked, or once for a text, from the mean over its
tokens, which see no padding then. Normalisation comes before each part; the original has it
behind. The learned vectors of places start as the waves of Vaswani et al., 2017. Source: Devlin
et al., BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding, 2019.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from precsim.training.data.dataset import Problem
from precsim.training.models import sequences
from precsim.training.models.initial import lecun_normal, normal, ones, zeros
from precsim.training.models.jax_layers import dense, embed, layer_norm

WIDTH = 64
HEADS = 4
BLOCKS = ("block0",)
_UNSEEN = -1e4
"""The score of padding: its weight is 0; finite, so that a text of padding alone gives no NaN."""


def init(rng: np.random.Generator, problem: Problem) -> dict[str, np.ndarray]:
    """Return weights for texts (length,): variance 1 / fan_in; gains 1, biases 0."""
    weights = {
        "tokens/w": normal(rng, (problem.ids[0], WIDTH), 1.0),
        "places/w": _waves(problem.shape[0]),
    }
    for block in BLOCKS:
        weights |= _norm(f"{block}/layer_norm1") | _norm(f"{block}/layer_norm2")
        for name, rows, columns in (
            ("qkv", WIDTH, 3 * WIDTH),
            ("projection", WIDTH, WIDTH),
            ("expand", WIDTH, 2 * WIDTH),
            ("contract", 2 * WIDTH, WIDTH),
        ):
            weights[f"{block}/{name}/w"] = lecun_normal(rng, (rows, columns))
            weights[f"{block}/{name}/b"] = zeros(columns)
    return weights | _norm("layer_norm") | sequences.answering_weights(rng, problem, WIDTH)


def _waves(length: int) -> np.ndarray:
    """Return sines and cosines of each place, whose periods grow from 6 places to 600."""
    periods = 100.0 ** (np.arange(WIDTH // 2) / (WIDTH // 2))
    angles = np.arange(length)[:, None] / periods
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def _norm(name: str) -> dict[str, np.ndarray]:
    return {f"{name}/gain": ones(WIDTH), f"{name}/bias": zeros(WIDTH)}


def apply(params: Mapping[str, Array], tokens: Array) -> Array:
    """Return logits, (batch, length, classes) or (batch, classes), of tokens (batch, length)."""
    seen = sequences.is_read(params, tokens)
    x = embed(params, "tokens", tokens)
    with jax.named_scope("places"):
        x = x + params["places/w"]
    for block in BLOCKS:
        x = x + _attention(params, block, layer_norm(params, f"{block}/layer_norm1", x), seen)
        y = dense(params, f"{block}/expand", layer_norm(params, f"{block}/layer_norm2", x))
        x = x + dense(params, f"{block}/contract", jax.nn.gelu(y))
    x = layer_norm(params, "layer_norm", x)
    if not sequences.is_pooled(params):
        return dense(params, "output", x)
    with jax.named_scope("mean"):
        total = jnp.where(seen[:, :, None], x, 0).sum(1)
        count = jnp.maximum(seen.sum(1, keepdims=True), 1)
        mean = total / count.astype(x.dtype)
    return dense(params, "pooled", mean)


def _attention(params: Mapping[str, Array], block: str, x: Array, seen: Array) -> Array:
    """Mix the places of each text that are seen."""
    batch, length, width = x.shape
    qkv = dense(params, f"{block}/qkv", x).reshape(batch, length, 3, HEADS, width // HEADS)
    q, k, v = qkv.transpose(2, 0, 3, 1, 4)
    with jax.named_scope(f"{block}/scores"):
        scores = (q @ k.mT) * (width // HEADS) ** -0.5
    with jax.named_scope(f"{block}/softmax"):
        weights = jax.nn.softmax(jnp.where(seen[:, None, None, :], scores, _UNSEEN))
    with jax.named_scope(f"{block}/values"):
        y = (weights @ v).transpose(0, 2, 1, 3).reshape(x.shape)
    return dense(params, f"{block}/projection", y)
