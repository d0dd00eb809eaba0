"""Scaled operands in dot_general and convolutions: the products of `matmul` on their matrices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.transform.policy import Policy
from tests.products.conftest import assert_same_bits, single

SPEC = "e4m3[scale=row]_e4m3_fp32"


@pytest.mark.long
def test_dot_general_quantizes_along_what_it_contracts() -> None:
    rng = np.random.default_rng(1)
    a, b = single(rng.normal(size=(5, 2, 3))), single(rng.normal(size=(4, 3, 5)))
    numbers = (((0, 2), (2, 1)), ((), ()))
    got = ps.dot_general(SPEC)(jnp.asarray(a), jnp.asarray(b), numbers)
    left, right = a.transpose(1, 0, 2).reshape(2, 15), b.transpose(2, 1, 0).reshape(15, 4)
    assert_same_bits(got, ps.matmul(left, right, SPEC, backend="reference"))


@pytest.mark.long
def test_a_convolution_quantizes_the_matrix_of_its_patches() -> None:
    rng = np.random.default_rng(2)
    x, w = single(rng.normal(size=(1, 4, 3, 2))), single(rng.normal(size=(2, 1, 2, 3)))
    specs: Any = {"dgrad": SPEC, "wgrad": "e4m3_e4m3_fp32"}
    product = lambda x, w: ps.conv(x, w, SPEC, padding="VALID", **specs)
    y, pullback = jax.vjp(product, jnp.asarray(x), jnp.asarray(w))
    rows = np.concatenate([x[:, :3], x[:, 1:]], axis=-1).reshape(9, 4)
    matrix = w.reshape(4, 3)
    expected = ps.matmul(rows, matrix, SPEC, backend="reference")
    assert_same_bits(y, expected.reshape(1, 3, 3, 3))
    g = single(rng.normal(size=y.shape))
    dx, _ = pullback(jnp.asarray(g))
    padded = np.pad(g, ((0, 0), (1, 1), (0, 0), (0, 0)))
    around = np.concatenate([padded[:, :4], padded[:, 1:]], axis=-1).reshape(12, 6)
    flipped = w[::-1].transpose(0, 1, 3, 2).reshape(6, 2)
    expected = ps.matmul(around, flipped, SPEC, backend="reference")
    assert_same_bits(dx, expected.reshape(1, 4, 3, 2))


def test_policies_take_scaled_products() -> None:
    text = (
        "p=fp32,fwd=int8_int8_int32->bf16,dgrad=e5m2[scale=tensor]_e4m3[scale=tensor]_fp32,"
        "wgrad=mxfp8_mxfp8_fp32"
    )
    policy = Policy.parse(text)
    assert Policy.parse(str(policy)) == policy
    assert policy.forward.has_register
    with pytest.raises(ValueError, match=r"accumulator of forward is 'q31\.0'"):
        Policy.parse("fwd=bf16_bf16_q31.0")


@pytest.mark.slow
@pytest.mark.parametrize(
    "forward", ["int8_int8_int32", "h100:e4m3[scale=1x128]_e4m3[scale=128x128]"]
)
def test_training_under_a_policy_of_scaled_products(forward: str) -> None:
    policy: Any = f"p=fp32,fwd={forward},wgrad=e4m3[scale=tensor]_e5m2[scale=tensor]_fp32"
    result = ps.train(ps.TrainConfig(policy=policy, model="mlp", steps=40))
    losses = np.asarray(result.losses)
    assert losses[-5:].mean() < 0.9 * losses[:5].mean()
