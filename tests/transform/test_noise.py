"""Random bits from straight code are those of `jax.random`, for every kind of key."""

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
