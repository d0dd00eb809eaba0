"""The rounding kernel under JAX: compiled, with a stated gradient."""

from functools import partial
from typing import Any

import jax
import numpy as np

from precsim._arrays import Array
from precsim.rounding.api import round_array
from precsim.rounding.spec import RoundingSpec


@partial(jax.custom_jvp, nondiff_argnums=(2,))
@partial(jax.jit, static_argnums=2)
def round_straight_through(x: Array, random_bits: Array | None, spec: RoundingSpec) -> Array:
    """Round; under differentiation the tangent passes unchanged (Bengio et al., arXiv 1308.3432)."""
    return round_array(x, random_bits, spec)


@round_straight_through.defjvp
def _round_jvp(
    spec: RoundingSpec, primals: tuple[Any, Any], tangents: tuple[Any, Any]
) -> tuple[Array, Array]:
    x, random_bits = primals
    return round_straight_through(x, random_bits, spec), tangents[0]


def round_numpy(x: np.ndarray, random_bits: np.ndarray | None, spec: RoundingSpec) -> np.ndarray:
    """Round a NumPy array with the compiled kernel on the CPU; the result is a NumPy array."""
    with (
        jax.enable_x64(x.dtype == np.float64),
        jax.default_device(jax.local_devices(backend="cpu")[0]),
    ):
        # A copy, since what JAX hands out is read-only.
        return np.array(round_straight_through(x, random_bits, spec))
