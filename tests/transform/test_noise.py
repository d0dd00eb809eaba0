"""Random bits from straight code are those of `jax.random`, for every kind of key."""

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.transform.noise import bits_at, fold_in


def words(key: Any) -> np.ndarray:
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(key) if is_typed else key)


KEYS: dict[str, Callable[[int], Any]] = {
    "typed": jax.random.key,
    "raw": jax.random.PRNGKey,
    "of another generator": partial(jax.random.key, impl="rbg"),
}


@pytest.mark.long
@pytest.mark.parametrize("kind", KEYS)
def test_bits_are_those_of_jax(kind: str) -> None:
    for seed in (0, 2**31 - 1):
        key = KEYS[kind](seed)
        mine, theirs = fold_in(key, jnp.int32(7)), jax.random.fold_in(key, 7)
        assert mine.dtype == theirs.dtype
        assert (words(mine) == words(theirs)).all()
        here = jax.random.fold_in(theirs, zlib.crc32(b"hidden/w"))
        for shape in ((), (0,), (3, 5), (2, 1, 4)):
            got = bits_at(mine, "hidden/w", shape)
            assert (got.shape, got.dtype) == (shape, jnp.uint32)
            np.testing.assert_array_equal(got, jax.random.bits(here, shape, jnp.uint32))


X = (np.arange(12, dtype=np.float32) * 37 - 201).reshape(3, 4)
W = (np.arange(20, dtype=np.float32) * 53 - 511).reshape(4, 5)


@pytest.mark.parametrize(
    ("policy", "function", "path", "axes"),
    [
        # The columns of the right operand come first in the product.
        ("fp32,fwd=fp32_fp32_fp32->bf16[sr]", lambda x, w: x @ w, "/0/forward", (1, 0)),
        ("fp32,e=bf16:sr", lambda x, w: x * x, "/0", (0, 1)),  # bf16 has all operands
    ],
    ids=["product", "elementwise"],
)
def test_emulated_roundings_draw_the_bits_of_their_place(
    policy: str, function: Any, path: str, axes: tuple[int, int]
) -> None:
    """The exact results are integers that float32 has, so the bits alone decide."""
    exact = function(X, W)
    bits = bits_at(jax.random.key(7), path, tuple(exact.shape[n] for n in axes))
    want = ps.round_to(exact, "bf16:sr", random_bits=np.asarray(bits).transpose(axes))
    got = jax.jit(ps.emulate(function, policy, seed=7))(X, W)
    np.testing.assert_array_equal(got, want)
    assert not np.array_equal(want, ps.round_to(exact, "bf16"))
