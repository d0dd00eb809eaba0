"""Sums of products of integers in a register of up to 32 bits, which wraps or saturates."""

from typing import Any

import numpy as np

from precsim._arrays import Array, entry, is_jax, namespace
from precsim._loops import repeat
from precsim.formats.fixed_point import FixedPointFormat
from precsim.products.shapes import result_shape, with_k_first
from precsim.products.specs.scaling import LARGEST_REGISTER
from precsim.rounding.modes import OverflowMode
from precsim.rounding.spec import RoundingSpec

_I = np.int32


def integer_matmul(a: Array, b: Array, register: RoundingSpec) -> Array:
    """Return a @ b of int32 arrays, shapes (..., M, K) and (..., K, N), as float32.

    Wrapping is the same after each addition and at the end; saturation is after each, k ascending.
    The sum is rounded to float32 once, to nearest.
    """
    assert isinstance(register.format, FixedPointFormat)
    bits = register.format.width
    if register.overflow is OverflowMode.SATURATE:
        total = _saturated(a, b, bits)
    else:
        total = _wrapped(a, b)
        spare = _I(LARGEST_REGISTER - bits)
        total = (total << spare) >> spare
    return total.astype(np.float32)


def _wrapped(a: Array, b: Array) -> Array:
    """Return the product modulo 2**32."""
    if not is_jax(a):
        product: Array = np.matmul(a, b)
        return product
    import jax.numpy as jnp

    total: Array = jnp.matmul(a, b, preferred_element_type=np.int32)
    return total


def _saturated(a: Array, b: Array, bits: int) -> Array:
    """Add products of less than 31 bits, one after the other, each sum clamped to `bits` bits."""
    xp = namespace(a, b)
    columns, rows = with_k_first(a, b)
    most = _I((1 << (bits - 1)) - 1)

    def add(k: Any, total: Array) -> Array:
        product = entry(columns, k) * entry(rows, k)
        # The sum of the halves tells an overflow of 32 bits.
        last = (total & _I(1)) + (product & _I(1))
        half = (total >> _I(1)) + (product >> _I(1)) + (last >> _I(1))
        clamped = xp.clip(half, -(most >> _I(1)) - _I(1), most >> _I(1))
        exact = (half << _I(1)) | (last & _I(1))
        return xp.where(half == clamped, exact, xp.where(half < _I(0), -most - _I(1), most))

    zero = xp.zeros(result_shape(a, b), np.int32)
    return repeat(a.shape[-1], add, zero)
