"""The rounding kernel under JAX: compiled, with a stated gradient."""

from functools import partial
from typing import Any

import jax
import numpy as np

from precsim._arrays import Array
from precsim._calls import on_cpu, refuse_fast_math
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.spec import RoundingSpec

PIECE = 1 << 17
"""Elements of a NumPy array that are rounded at a time: large beside a call's cost, small for a cache."""


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _round(x: Array, random_bits: Array | None, spec: RoundingSpec) -> Array:
    return round_array(x, random_bits, spec)


@_round.defjvp
def _round_jvp(
    spec: RoundingSpec, primals: tuple[Any, Any], tangents: tuple[Any, Any]
) -> tuple[Array, Array]:
    x, random_bits = primals
    return _round(x, random_bits, spec), tangents[0]


# Compiled outside the rule of differentiation: a call from Python then costs microseconds, not 0.6 ms.
@partial(jax.jit, static_argnums=2)
def round_straight_through(x: Array, random_bits: Array | None, spec: RoundingSpec) -> Array:
    """Round; under differentiation the tangent passes unchanged (Bengio et al., arXiv 1308.3432)."""
    refuse_fast_math()
    return _round(x, random_bits, spec)


def round_numpy(x: np.ndarray, random_bits: np.ndarray | None, spec: RoundingSpec) -> np.ndarray:
    """Round a NumPy array with the compiled kernel on the CPU; the result is a NumPy array.

    In pieces of one size, which stay in the cache and share one compilation, whatever the array's size.
    """
    flat = x.reshape(-1)
    draws = None if random_bits is None else random_bits.reshape(-1)
    result = np.empty_like(flat)
    size = min(PIECE, 1 << (flat.size - 1).bit_length())
    with on_cpu(x.dtype):
        for start in range(0, flat.size, size):
            here = slice(start, start + size)
            r = None if draws is None else _padded(draws[here], size)
            rounded = round_straight_through(_padded(flat[here], size), r, spec)
            result[here] = np.asarray(rounded)[: flat.size - start]
    return result.reshape(x.shape)


def _padded(piece: np.ndarray, size: int) -> np.ndarray:
    return piece if piece.size == size else np.pad(piece, (0, size - piece.size))
