"""From `matmul`'s operands, of either library and any batch shape, to the differentiable product."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array, is_jax
from precsim._calls import on_cpu
from precsim.products.gradients import Noise, Specs, matmul_with_gradients


def run_matmul(a: Array, b: Array, c: Array | None, noise: dict[str, Any], specs: Specs) -> Array:
    """Run a checked product under JAX; NumPy operands give a NumPy result, computed on the CPU."""
    if any(map(is_jax, (a, b, c))):
        return _batched(a, b, c, noise, specs)
    with on_cpu(a.dtype):
        # A copy, since what JAX hands out is read-only.
        return np.array(_batched(a, b, c, noise, specs))


def _batched(a: Array, b: Array, c: Array | None, noise: dict[str, Any], specs: Specs) -> Array:
    """Make batch dimensions equal; a batch of rows times one matrix is one product."""
    arrays = {key: jnp.asarray(bits) for key, bits in noise.items() if bits is not None}
    a, b = jnp.asarray(a), jnp.asarray(b)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*batch, a.shape[-2], b.shape[-1])
    c = None if c is None else jnp.broadcast_to(c, shape)
    if b.ndim == 2:
        rows = math.prod(a.shape[:-1])
        flat = Noise(**{key: bits.reshape(-1, bits.shape[-1]) for key, bits in arrays.items()})
        flat_c = None if c is None else c.reshape(rows, b.shape[-1])
        flat_a = a.reshape(rows, a.shape[-1])
        return matmul_with_gradients(flat_a, b, flat_c, flat, specs).reshape(shape)
    a = jnp.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = jnp.broadcast_to(b, (*batch, *b.shape[-2:]))
    return matmul_with_gradients(a, b, c, Noise(**arrays), specs)
