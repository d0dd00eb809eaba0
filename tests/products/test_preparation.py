"""Operands that are rotated, or rounded stochastically, before they are multiplied."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.products.preparation import rotated
from tests.products.conftest import assert_same_bits, single

F: Any = np.float32


def data(*shape: int, seed: int = 0) -> np.ndarray:
    return single(np.random.default_rng(seed).normal(size=shape))


def seeds(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 32, shape, dtype=np.uint32)


@pytest.mark.long
@pytest.mark.parametrize("spec", ["e4m3[sr]_bf16_fp32", "mxfp4_mxfp4[sr]_fp32:rht=16"])
def test_the_reference_and_the_compiled_product_have_the_same_bits(spec: str) -> None:
    a, b, bits = data(3, 20), data(20, 5, seed=2), seeds(3, 5)
    expected = ps.matmul(a, b, spec, random_bits=bits, backend="reference")
    assert_same_bits(ps.matmul(a, b, spec, random_bits=bits, backend="emulated"), expected)
    other = ps.matmul(a, b, spec, random_bits=bits ^ np.uint32(1), backend="reference")
    assert not np.array_equal(other, expected)


@pytest.mark.long
def test_stochastic_operands_are_right_on_average() -> None:
    """0.3 between 0.25 and 0.5 of e2m1's neighbours: the mean of n draws is within 5 sigma."""
    a, b = F([[0.3] * 4000]), np.eye(1, 4000, dtype=np.float32).T * 0 + F(1 / 4000)
    y = ps.matmul(a, b, "e2m1[sr]_raw_fp32:exact", random_bits=seeds(1, 1), backend="reference")
    step, share = 0.5, 0.6
    sigma = step * np.sqrt(share * (1 - share) / 4000)
    assert abs(y.item() - 0.3) < 5 * sigma


def test_random_bits_of_operands_are_asked_for() -> None:
    with pytest.raises(ValueError, match=r"random_bits is missing: the lhs of 'bf16\[sr\]"):
        ps.matmul(data(2, 2), data(2, 2), "bf16[sr]_bf16_fp32")
    narrow = seeds(2, 2).astype(np.uint8)
    with pytest.raises(ValueError, match="allowed are integers of at least the 32 bits"):
        ps.matmul(data(2, 2), data(2, 2), "bf16[sr]_bf16_fp32", random_bits=narrow)
    with pytest.raises(ValueError, match="rounded stochastically, which precsim emulates"):
        ps.matmul(data(2, 2), data(2, 2), "bf16[sr]_bf16_fp32", backend="native")


@pytest.mark.long
def test_vmap_gives_each_product_its_own_bits() -> None:
    a, b, bits = data(2, 3, 4), data(4, 2, seed=3), seeds(2, 3, 2)

    def product(a: Any, bits: Any) -> Any:
        return ps.matmul(a, b, "bf16[sr]_bf16_fp32", random_bits=bits)

    each = [product(jnp.asarray(x), jnp.asarray(r)) for x, r in zip(a, bits, strict=True)]
    assert_same_bits(jax.vmap(product)(jnp.asarray(a), jnp.asarray(bits)), np.stack(each))


def test_a_rotation_is_orthogonal_and_that_of_transformer_engine() -> None:
    """Signs, then Sylvester's matrix, over 4: integers below 2**20 stay exact."""
    signs = [1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1]
    hadamard: Any = np.ones((1, 1))
    for _ in range(4):
        hadamard = np.kron([[1, 1], [1, -1]], hadamard)
    matrix = np.diag(signs) @ hadamard / 4
    x = single(np.random.default_rng(4).integers(-1000, 1000, (3, 40)))
    padded = np.pad(x, [(0, 0), (0, 8)]).astype(np.float64)
    expected = (padded.reshape(3, 3, 16) @ matrix).reshape(3, 48)
    assert np.array_equal(rotated(x), expected)
    assert np.array_equal(jax.jit(rotated)(x), expected)
    assert np.allclose(matrix @ matrix.T, np.eye(16))


def test_a_rotation_changes_a_product_by_roundings_only() -> None:
    a, b = data(4, 33), data(33, 4, seed=5)
    turned = ps.matmul(a, b, "raw_raw_fp32:rht=16", backend="reference")
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = (33 + 8) * 2.0**-24 * 4 * (np.abs(a) @ np.abs(b)).max()
    assert np.abs(turned - exact).max() < bound


@pytest.mark.long
def test_gradients_of_a_product_with_stochastic_cotangents() -> None:
    """The bits of a gradient's operands come from that gradient's random bits."""
    a, b = data(3, 16), data(16, 2, seed=6)
    bits: Any = {"dgrad": seeds(3, 16), "wgrad": seeds(16, 2, seed=7)}
    specs: Any = {"dgrad": "e5m2[sr]_bf16_fp32", "wgrad": "bf16_e5m2[sr]_fp32:rht=16"}
    g = data(3, 2, seed=8)
    _, pull = jax.vjp(
        lambda a, b: ps.matmul(a, b, "bf16_bf16_fp32", random_bits=bits, **specs), a, b
    )
    da, db = pull(jnp.asarray(g))
    exact: Any = {"backend": "reference"}
    assert_same_bits(da, ps.matmul(g, b.T, specs["dgrad"], random_bits=bits["dgrad"], **exact))
    assert_same_bits(db, ps.matmul(a.T, g, specs["wgrad"], random_bits=bits["wgrad"], **exact))
