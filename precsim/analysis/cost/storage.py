"""How many bytes a machine needs that stores each array in the format of a policy."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from precsim.formats.affine import AffineFormat, Granularity
from precsim.formats.registry import AnyFormat
from precsim.formats.scaled import scaled_format
from precsim.formats.tile import TileFormat
from precsim.rounding.spec import RoundingSpec

_SCALE_BITS = 32
"""A scale of a whole array, row or channel is a float32."""


class Copy(NamedTuple):
    """A format in which an array is stored, and the runs of elements that share scales."""

    format: AnyFormat
    run: int = 0
    """Elements that a product sums over; 0 where no scale depends on it."""
    role: str = ""
    """The product that takes it, where scales depend on that."""


def copy_for(spec: RoundingSpec, run: int, role: str) -> Copy:
    """Return the copy of an array that an operand of a product is."""
    fmt: AnyFormat = spec.format
    return Copy(fmt, run, role) if _has_runs(fmt) else Copy(fmt)


def _has_runs(fmt: AnyFormat) -> bool:
    """Return whether it matters along which axis the elements with one scale lie."""
    if scaled_format(fmt) is None:
        return False
    is_whole = isinstance(fmt, TileFormat) and fmt.across is None
    is_tensor = isinstance(fmt, AffineFormat) and fmt.granularity is Granularity.TENSOR
    return not is_whole and not is_tensor


def element_bits(fmt: AnyFormat) -> float:
    """Return the bits of an element, its part of the scale of a block or tile included."""
    bits: float | None = getattr(fmt, "bits_per_element", None) or getattr(fmt, "width", None)
    if bits is None:
        raise ValueError(
            f"format is {fmt}, whose exponents have no limit; allowed are formats with a width"
        )
    return bits


def stored_bits(fmt: AnyFormat, dtype: Any) -> float:
    """Return the bits of an element of a program's array, which may be narrower than the format."""
    own = dtype_bits(dtype)
    return min(element_bits(fmt), own) if jnp.issubdtype(dtype, jnp.inexact) else own


def dtype_bits(dtype: Any) -> int:
    """Return the bits of a number of a dtype in memory; a random key of JAX has one too."""
    return int(dtype.itemsize) * 8


def scale_bits(copy: Copy, size: int) -> int:
    """Return the bits of the scales of whole arrays, rows and channels of a copy."""
    fmt = scaled_format(copy.format)
    if fmt is None:
        return 0
    per_scale = _SCALE_BITS
    count = 1
    if isinstance(fmt, AffineFormat):
        if fmt.granularity is Granularity.BLOCK:
            return 0
        per_scale += 0 if fmt.is_symmetric else fmt.bits
        is_shared = fmt.granularity is Granularity.TENSOR
        count = 1 if is_shared else math.ceil(size / max(copy.run, 1))
    elif isinstance(fmt, TileFormat):
        if fmt.along is not None:
            return 0
        count = 1 if fmt.across is None else math.ceil(size / max(copy.run, 1))
    elif fmt.tensor_scale is None:
        return 0
    return per_scale * count


def in_bytes(bits: float) -> int:
    """Return the bytes that bits need."""
    return math.ceil(bits / 8)
