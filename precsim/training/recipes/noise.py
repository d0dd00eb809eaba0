"""Random bits that depend on where they are used, and on nothing else.

The bits for stochastic rounding come from (seed, step, path, element index) through JAX's
counter-based Threefry generator. They are the same under jit, vmap and remat, and on any number of
devices.
"""

import zlib

import jax
import jax.numpy as jnp

from precsim._arrays import Array


def bits_at(key: Array, path: str, shape: tuple[int, ...]) -> Array:
    """Return uint32 random bits for the array at a path, under a key made from seed and step."""
    return jax.random.bits(jax.random.fold_in(key, zlib.crc32(path.encode())), shape, jnp.uint32)
