"""Clipping: stated arithmetic in NumPy and under jit, near optax's and PyTorch's formulas."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from precsim.training.recipes.clipping import Clipping, clip, global_norm
from tests.training.conftest import assert_same_bits, single

RNG = np.random.default_rng(5)
GRADIENT = {"b": single(RNG.standard_normal(7)), "w": single(RNG.standard_normal((5, 3)))}
U = 2.0**-24


def exact_norm(tree: Any) -> float:
    return math.sqrt(math.fsum(float(x) ** 2 for leaf in tree.values() for x in leaf.flat))


def pairwise_norm(tree: Any) -> Any:
    """The norm in NumPy's float32, one rounding per operation, as the docstring says it."""
    x = np.concatenate([leaf.reshape(-1) for leaf in tree.values()])
    scale = np.float32(2.0 ** math.floor(math.log2(abs(x).max())))
    squares = np.square(x / scale)
    size = 1 << (len(x) - 1).bit_length()
    squares = np.concatenate([squares, np.zeros(size - len(x), np.float32)])
    while len(squares) > 1:
        squares = squares[: len(squares) // 2] + squares[len(squares) // 2 :]
    return np.sqrt(squares[0]) * scale


def test_the_norm_has_the_bits_of_its_description_and_its_error_is_bounded() -> None:
    norm = jax.jit(global_norm)
    for scale in (1.0, 1e-30, 3e37, 2.0**-120):
        tree = {name: single(leaf * scale) for name, leaf in GRADIENT.items()}
        got = norm(tree)
        assert_same_bits(got, pairwise_norm(tree), scale)
        bound = (math.log2(22) / 2 + 2) * U
        assert abs(float(got) / exact_norm(tree) - 1) <= bound


def test_squares_neither_overflow_nor_vanish() -> None:
    """2**100 and 2**-100 have no squares in float32; four of them have the norm 2**101, 2**-99."""
    norm = jax.jit(lambda x: global_norm({"w": x, "n": jnp.arange(3)}))
    for size in (2.0**100, 2.0**-100, 0.0):
        assert float(norm(np.full(4, size, np.float32))) == 2 * size
    assert not np.isfinite(norm(single([1, np.inf, 2, 3])))
    assert float(global_norm({})) == float(global_norm({"n": jnp.arange(3)})) == 0


@pytest.mark.long
def test_clips_as_optax_does() -> None:
    """Norms differ by their order of addition only: by 8 u at most, each formula by 2 u."""
    ours = jax.jit(lambda g, c: clip(g, Clipping(norm=1.5)))(GRADIENT, 0)
    theirs, _ = optax.clip_by_global_norm(1.5).update(GRADIENT, optax.EmptyState())
    for name, leaf in ours.items():
        np.testing.assert_allclose(leaf, theirs[name], rtol=12 * U)


@pytest.mark.long
def test_clips_as_torch_does_where_that_is_asked_for() -> None:
    """min(1, c / (norm + 1e-6)): a gradient of norm c exactly is made shorter, by 1e-6 / c."""
    tree = {"w": single([3, 4])}
    torch = jax.jit(lambda tree, c: clip(tree, Clipping(norm=c, rule="torch")), static_argnums=1)
    got = torch(tree, 0.001)["w"]
    coefficient = np.float32(0.001) / (np.float32(5) + np.float32(1e-6))
    assert_same_bits(got, tree["w"] * coefficient)
    small = {"w": single([3e-6, 4e-6])}
    short = torch(small, 5e-6)["w"]
    np.testing.assert_allclose(short, small["w"] * (5 / 6), rtol=1e-6)


@pytest.mark.parametrize("rule", ["optax", "torch"])
def test_a_gradient_within_its_bounds_keeps_its_bits(rule: str) -> None:
    tree = {"w": single([1e-45, -0.0, 3.0]), "n": np.arange(2)}
    got = jax.jit(lambda g: clip(g, Clipping(norm=4.0, value=3.5, rule=rule)))(tree)
    assert_same_bits(got["w"], tree["w"])
    assert got["n"].tolist() == [0, 1]


def test_clips_by_value() -> None:
    got = clip({"w": single([-5, -0.25, 0.25, 5, np.nan])}, Clipping(value=0.5))["w"]
    np.testing.assert_array_equal(got, single([-0.5, -0.25, 0.25, 0.5, np.nan]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"norm": 0}, "clip_norm is 0; allowed are positive float32 numbers"),
        ({"norm": float("nan")}, "clip_norm is nan; allowed are positive float32 numbers"),
        ({"value": "1"}, "clip_value is '1'; allowed are positive float32 numbers"),
        ({"value": 1e39}, r"clip_value is 1e\+39; allowed are positive float32 numbers"),
        ({"norm": 1.0, "rule": "tf"}, "clip_rule is 'tf'; allowed are 'optax', 'torch'"),
    ],
)
def test_wrong_bounds_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Clipping(**options)
