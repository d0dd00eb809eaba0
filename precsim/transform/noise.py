"""Random bits that depend on where they are used, and on nothing else.

The bits for stochastic rounding come from (seed, step, path, element index) through JAX's
counter-based Threefry generator. They are the same under jit, vmap and remat, and on any number of
devices. They are those of `jax.random`, from straight code: JAX's own consists of small loops on a
CPU, which take XLA several times as long to compile.
"""

import math
import zlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from precsim._arrays import Array
from precsim._loops import computed_once
from precsim.rounding.threefry import threefry2x32


def fold_in(key: Array, data: Any) -> Array:
    """Return ``jax.random.fold_in(key, data)``."""
    if not _is_threefry(key):
        return jax.random.fold_in(key, data)
    words: Any = computed_once(_folded(*_words(key), jnp.asarray(data, jnp.uint32)))
    folded: Array = words
    if _is_typed(key):
        folded = jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))
    return folded


def bits_at(key: Array, path: str, shape: tuple[int, ...]) -> Array:
    """Return uint32 random bits for the array at a path, under a key made from seed and step."""
    # A number that XLA does not know: so one kernel serves all paths.
    here = fold_in(key, computed_once(jnp.uint32(zlib.crc32(path.encode()))))
    size = math.prod(shape)
    if not _is_threefry(here) or size >= 1 << 32:
        return jax.random.bits(here, shape, jnp.uint32)
    bits: Array = _bits(*_words(here), size).reshape(shape)
    return bits


@jax.jit
def _folded(first: Array, second: Array, data: Array) -> Array:
    return jnp.stack(threefry2x32((first, second), (jnp.uint32(0), data)))


@partial(jax.jit, static_argnames="size")
def _bits(first: Array, second: Array, size: int) -> Array:
    words = threefry2x32((first, second), (jnp.uint32(0), jnp.arange(size, dtype=jnp.uint32)))
    bits: Array = words[0] ^ words[1]
    return bits


def _is_threefry(key: Array) -> bool:
    """Return whether a key, typed or raw, is one of Threefry's."""
    is_key = _is_typed(key) or key.shape == (2,)
    return is_key and str(jax.random.key_impl(key)) == "threefry2x32"


def _is_typed(key: Array) -> bool:
    return bool(jnp.issubdtype(key.dtype, jax.dtypes.prng_key))


def _words(key: Array) -> tuple[Array, Array]:
    words = jax.random.key_data(key) if _is_typed(key) else key
    return words[0], words[1]
