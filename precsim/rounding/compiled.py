"""The rounding kernel under JAX: compiled, with a stated gradient."""

from functools import partial

import numpy as np

from precsim._arrays import Array
from precsim._calls import compiled, in_pieces, refuse_fast_math, straight_through
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.spec import RoundingSpec


# Compiled outside the rule of differentiation: a call from Python costs microseconds, not 0.6 ms.
@compiled(static_argnums=2)
def round_straight_through(x: Array, random_bits: Array | None, spec: RoundingSpec) -> Array:
    """Round; under differentiation the tangent passes unchanged."""
    refuse_fast_math()
    return straight_through(partial(_round, spec), x, random_bits)


def _round(spec: RoundingSpec, x: Array, random_bits: Array | None) -> Array:
    return round_array(x, random_bits, spec)


def round_numpy(x: Array, random_bits: Array | None, spec: RoundingSpec) -> np.ndarray:
    """Round a NumPy array with the compiled kernel on the CPU; the result is a NumPy array."""

    def run(x: Array, random_bits: Array | None) -> Array:
        return round_straight_through(x, random_bits, spec)

    return in_pieces(run, x.dtype, x, random_bits)
