"""A small transformer that predicts the next character: two blocks of attention and a perceptron.

Normalisation before each part, learned places, no dropout, as in GPT-2 (Radford et al., 2019), at
a 10,000th of its size. Values that are used twice go through `fork`: portable functions can then
add their gradients.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.training.data.dataset import Problem
from precsim.training.layers import Layers

WIDTH = 64
HEADS = 4
BLOCKS = ("block0", "block1")


def init(rng: np.random.Generator, problem: Problem) -> dict[str, np.ndarray]:
    """Return weights for contexts (length,): normal, variance 1 / fan_in; gains 1, biases 0."""
    weights = {
        "tokens": _normal(rng, (problem.classes, WIDTH), 1.0),
        "places": _normal(rng, (problem.shape[0], WIDTH), 1.0),
    }
    for block in BLOCKS:
        for norm in ("norm1", "norm2"):
            weights |= _norm(f"{block}/{norm}")
        for name, rows, columns in (
            ("qkv", WIDTH, 3 * WIDTH),
            ("projection", WIDTH, WIDTH),
            ("expand", WIDTH, 4 * WIDTH),
            ("contract", 4 * WIDTH, WIDTH),
        ):
            weights[f"{block}/{name}/w"] = _normal(rng, (rows, columns), rows**-0.5)
            weights[f"{block}/{name}/b"] = np.zeros(columns, np.float32)
    weights |= _norm("norm")
    weights["output/w"] = _normal(rng, (WIDTH, problem.classes), WIDTH**-0.5)
    weights["output/b"] = np.zeros(problem.classes, np.float32)
    return weights


def _normal(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    return (rng.standard_normal(shape) * deviation).astype(np.float32)


def _norm(name: str) -> dict[str, np.ndarray]:
    return {f"{name}/gain": np.ones(WIDTH, np.float32), f"{name}/bias": np.zeros(WIDTH, np.float32)}


def apply(params: Mapping[str, Array], tokens: Array, layers: Layers) -> Array:
    """Return each next character's logits (batch, length, classes), of tokens (batch, length)."""
    f = layers.functions
    batch, length = tokens.shape
    x = f.add(f.embed(params["tokens"], tokens), params["places"])
    x = x.reshape(batch * length, WIDTH)
    for block in BLOCKS:
        x, branch = f.fork(x)
        branch = _normalised(f"{block}/norm1", params, branch, layers)
        branch = _attention(block, params, branch, (batch, length), layers)
        x, branch = f.fork(f.add(x, branch))
        branch = _normalised(f"{block}/norm2", params, branch, layers)
        branch = f.gelu(_linear(f"{block}/expand", params, branch, layers))
        x = f.add(x, _linear(f"{block}/contract", params, branch, layers))
    x = _normalised("norm", params, x, layers)
    x = layers.rounded("logits", _linear("output", params, x, layers))
    return x.reshape(batch, length, -1)


def _linear(name: str, params: Mapping[str, Array], x: Array, layers: Layers) -> Array:
    return layers.linear(name, x, params[f"{name}/w"], params[f"{name}/b"])


def _normalised(name: str, params: Mapping[str, Array], x: Array, layers: Layers) -> Array:
    gain, bias = params[f"{name}/gain"], params[f"{name}/bias"]
    normalised: Array = layers.functions.layer_norm(x, gain, bias)
    return normalised


def _attention(
    block: str, params: Mapping[str, Array], x: Array, shape: tuple[int, int], layers: Layers
) -> Array:
    """Mix the rows of each context, every row with itself and those before it."""
    batch, length = shape
    size = WIDTH // HEADS
    qkv = _linear(f"{block}/qkv", params, x, layers).reshape(batch, length, 3, HEADS, size)
    q, k, v = (
        part.reshape(batch * HEADS, length, size)
        for part in jnp.split(qkv.transpose(2, 0, 3, 1, 4), 3)
    )
    scores = layers.functions.scale(layers.product(f"{block}/scores", q, k.mT), size**-0.5)
    is_visible = np.tril(np.ones((length, length), bool))
    weights = layers.functions.softmax(jnp.where(is_visible, scores, -jnp.inf))
    y = layers.product(f"{block}/values", weights, v)
    y = y.reshape(batch, HEADS, length, size).transpose(0, 2, 1, 3).reshape(x.shape)
    return _linear(f"{block}/projection", params, y, layers)
