"""Layers in plain JAX against the same in NumPy, in float64 with exact or bounded results."""

from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.training.data.dataset import Problem
from precsim.training.models import jax_layers
from precsim.training.models.registry import MODELS

U = 2.0**-24
RNG = np.random.default_rng(0)


def small(*shape: int) -> Any:
    """Return integers of at most 4 in size: their products and sums are exact in float32."""
    return RNG.integers(-4, 5, shape).astype(np.float32)


def test_convolution_in_groups_filters_each_channel_by_itself() -> None:
    x, w = small(2, 4, 4, 3), small(3, 3, 1, 3)
    y = jax_layers.conv({"c/w": w}, "c", x, groups=3)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = sum(padded[:, i : i + 4, j : j + 4] * w[i, j, 0] for i in range(3) for j in range(3))
    np.testing.assert_array_equal(y, expected)


def test_convolution_adds_the_bias_that_there_is() -> None:
    x, w, b = small(1, 3, 3, 2), small(1, 1, 2, 4), small(4)
    y = jax_layers.conv({"c/w": w, "c/b": b}, "c", x, stride=2)
    np.testing.assert_array_equal(y, x[:, ::2, ::2] @ w[0, 0] + b)


def test_average_pool_is_the_mean_of_squares_of_four() -> None:
    x = small(1, 4, 6, 2)
    expected = (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
    np.testing.assert_array_equal(jax_layers.average_pool(x), expected)


def test_embed_and_dense() -> None:
    params = {"e/w": small(5, 3), "d/w": small(3, 2), "d/b": small(2)}
    ids: Any = np.array([[0, 4], [2, 2]], np.int32)
    rows = jax_layers.embed(params, "e", ids)
    np.testing.assert_array_equal(rows, params["e/w"][ids])
    expected = params["e/w"][ids] @ params["d/w"] + params["d/b"]
    np.testing.assert_array_equal(jax_layers.dense(params, "d", rows), expected)


def test_layer_norm_has_mean_0_and_variance_1() -> None:
    x: Any = RNG.normal(3, 2, (4, 16)).astype(np.float32)
    params: dict[str, Any] = {"n/gain": np.ones(16, np.float32), "n/bias": np.zeros(16, np.float32)}
    y = np.asarray(jax_layers.layer_norm(params, "n", x), np.float64)
    exact = x.astype(np.float64)
    mean, variance = exact.mean(-1, keepdims=True), exact.var(-1, keepdims=True)
    off = ps.errors.gamma(16, U) * np.abs(exact).mean(-1, keepdims=True)
    # An error of the mean moves each number by it, and the variance by its square.
    relative = ps.errors.gamma(26, U) + off**2 / variance
    expected = (exact - mean) / np.sqrt(variance + jax_layers.EPSILON)
    assert np.all(
        np.abs(y - expected) <= 2 * (off / np.sqrt(variance) + relative * np.abs(expected))
    )


def test_images_that_cannot_be_halved_twice_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="images have 10 by 8 pixels; allowed for model 'lenet'"):
        MODELS["lenet"].load().init(RNG, Problem((10, 8, 1), "float32", (), 10))
