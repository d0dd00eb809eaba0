"""A small transformer encoder: every place sees all others.

It answers per place, for tokens that are masked, or once for a text, from the mean over its places.
A text ends where padding begins, which nothing sees then. Normalisation comes before each part;
the original has it behind. Source: Devlin et al., BERT: Pre-training of Deep Bidirectional
Transformers for Language Understanding, NAACL 2019.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from precsim.training.data.dataset import Problem
from precsim.training.models import sequences
from precsim.training.models.initial import lecun_normal, normal, ones, zeros
from precsim.training.models.plain_layers import dense, embed, layer_norm

WIDTH = 64
HEADS = 4
BLOCKS = ("block0", "block1")


def init(rng: np.random.Generator, problem: Problem) -> dict[str, np.ndarray]:
    """Return weights for texts (length,): normal, variance 1 / fan_in; gains 1, biases 0."""
    weights = {
        "tokens/w": normal(rng, (problem.ids[0], WIDTH), 1.0),
        "places/w": normal(rng, (problem.shape[0], WIDTH), 1.0),
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


def _norm(name: str) -> dict[str, np.ndarray]:
    return {f"{name}/gain": ones(WIDTH), f"{name}/bias": zeros(WIDTH)}


def apply(params: Mapping[str, Array], tokens: Array) -> Array:
    """Return logits, (batch, length, classes) or (batch, classes), of tokens (batch, length)."""
    is_pooled = sequences.is_pooled(params)
    seen = sequences.is_text(tokens) if is_pooled else jnp.ones(tokens.shape, bool)
    x = embed(params, "tokens", tokens)
    with jax.named_scope("places"):
        x = x + params["places/w"]
    for block in BLOCKS:
        x = x + _attention(params, block, layer_norm(params, f"{block}/layer_norm1", x), seen)
        y = dense(params, f"{block}/expand", layer_norm(params, f"{block}/layer_norm2", x))
        x = x + dense(params, f"{block}/contract", jax.nn.gelu(y))
    x = layer_norm(params, "layer_norm", x)
    if not is_pooled:
        return dense(params, "output", x)
    with jax.named_scope("mean"):
        total = jnp.where(seen[:, :, None], x, 0).sum(1)
        mean = total / seen.sum(1, keepdims=True).astype(x.dtype)
    return dense(params, "pooled", mean)


def _attention(params: Mapping[str, Array], block: str, x: Array, seen: Array) -> Array:
    """Mix the places of each text that are seen."""
    batch, length, width = x.shape
    qkv = dense(params, f"{block}/qkv", x).reshape(batch, length, 3, HEADS, width // HEADS)
    q, k, v = qkv.transpose(2, 0, 3, 1, 4)
    with jax.named_scope(f"{block}/scores"):
        scores = (q @ k.mT) * (width // HEADS) ** -0.5
    with jax.named_scope(f"{block}/softmax"):
        weights = jax.nn.softmax(jnp.where(seen[:, None, None, :], scores, -jnp.inf))
    with jax.named_scope(f"{block}/values"):
        y = (weights @ v).transpose(0, 2, 1, 3).reshape(x.shape)
    return dense(params, f"{block}/projection", y)
