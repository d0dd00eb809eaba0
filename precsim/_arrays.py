"""All that precsim knows about the difference between NumPy and JAX arrays."""

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

Array: TypeAlias = Any
"""A `numpy.ndarray` or a `jax.Array` (also a tracer)."""


def is_jax(x: object) -> bool:
    """Tell whether `x` is a JAX array or tracer, without importing jax."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(x, jax.Array)


def namespace(*arrays: object) -> Any:
    """Return `jax.numpy` if any argument is a JAX array, else `numpy`."""
    if any(is_jax(x) for x in arrays):
        import jax.numpy as jnp

        return jnp
    return np


def repeat(count: int, body: Callable[[Any, Any], Any], state: Any) -> Any:
    """Apply ``state = body(k, state)`` for k = 0 .. count - 1; one compiled loop under JAX."""
    leaves = state if isinstance(state, tuple) else (state,)
    if any(is_jax(x) for x in leaves):
        from jax import lax

        return lax.fori_loop(0, count, body, state)
    for k in range(count):
        state = body(k, state)
    return state


def bitcast(x: Array, dtype: DTypeLike) -> Array:
    """Read the bits of `x` as another dtype of the same width."""
    if is_jax(x):
        from jax import lax

        return lax.bitcast_convert_type(x, np.dtype(dtype))
    return np.ascontiguousarray(x).view(dtype).reshape(np.shape(x))
