"""Layers in plain JAX. Each runs in the named scope that its weights are named after."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array, lax

from precsim.training.data.dataset import Problem

Params = Mapping[str, Array]
EPSILON = 1e-5
"""Added to a variance before the square root."""


def dense(params: Params, name: str, x: Array) -> Array:
    """Return ``x @ w + b``; the last axis of `x` is that of the features."""
    with jax.named_scope(name):
        return x @ params[f"{name}/w"] + params[f"{name}/b"]


def conv(params: Params, name: str, x: Array, *, stride: int = 1, groups: int = 1) -> Array:
    """Convolve images (batch, height, width, channels), padded with zeros, by w; add b if any."""
    with jax.named_scope(name):
        y: Array = lax.conv_general_dilated(
            x,
            params[f"{name}/w"],
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        return y + params[f"{name}/b"] if f"{name}/b" in params else y


def average_pool(x: Array) -> Array:
    """Return the mean of each 2 by 2 square of images (batch, height, width, channels)."""
    batch, height, width, channels = x.shape
    squares = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    mean: Array = squares.mean((2, 4))
    return mean


def embed(params: Params, name: str, ids: Array) -> Array:
    """Return the rows of w that integers name; the data's loader has checked their range."""
    with jax.named_scope(name):
        rows: Array = jnp.take(params[f"{name}/w"], ids, axis=0, mode="clip")
        return rows


def layer_norm(params: Params, name: str, x: Array) -> Array:
    """Return rows of mean 0 and variance 1, times gain, plus bias (Ba et al., 2016)."""
    with jax.named_scope(name):
        centred = x - x.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        normalised: Array = centred * lax.rsqrt(variance + EPSILON)
        return normalised * params[f"{name}/gain"] + params[f"{name}/bias"]


def image_size(problem: Problem, model: str) -> tuple[int, int, int]:
    """Return height, width and channels; refuse images that cannot be halved twice."""
    height, width, channels = problem.shape
    if height % 4 or width % 4:
        raise ValueError(
            f"images have {height} by {width} pixels; allowed for model {model!r} are heights and "
            "widths that 4 divides"
        )
    return height, width, channels
