"""Current tensor scaling: one power of two per tensor, from the tensor itself."""

import jax.numpy as jnp
from jax import lax

from precsim._arrays import Array
from precsim.formats.carrier import FLOAT32
from precsim.rounding.kernel.limits import limits
from precsim.rounding.spec import RoundingSpec

_LARGEST = 100
"""Bound on the exponent of a scale: scale and inverse are normal, products do not overflow."""


def current_scale(x: Array, spec: RoundingSpec) -> tuple[Array, Array]:
    """Return the largest power of two that keeps max abs(x) inside the format, and its inverse.

    For all-zero, empty, infinite and NaN tensors the scale is 1. It is a power of two, so it rounds
    nothing (elements that it makes smaller than 2**-126 are far below every 8-bit format's range).
    """
    magnitude = lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(FLOAT32.sign_bit - 1)
    largest = jnp.max(magnitude, initial=0)
    # Patterns grow with the values: the difference of two exponents, and a borrow of fractions.
    room = jnp.int32(limits(spec, FLOAT32).max_positive) - largest.astype(jnp.int32)
    exponent = jnp.clip(room >> FLOAT32.trailing, -_LARGEST, _LARGEST)
    is_usable = (largest != 0) & (largest < jnp.uint32(FLOAT32.infinity))
    exponent = jnp.where(is_usable, exponent, 0)
    return _power_of_two(exponent), _power_of_two(-exponent)


def _power_of_two(exponent: Array) -> Array:
    bits = ((exponent + FLOAT32.bias) << FLOAT32.trailing).astype(jnp.uint32)
    return lax.bitcast_convert_type(bits, jnp.float32)
