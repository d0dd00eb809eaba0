"""In which formats a machine stores an array that the steps of a program read."""

from fractions import Fraction
from typing import Any, NamedTuple

import jax.numpy as jnp

from precsim.formats import storage
from precsim.formats.registry import AnyFormat
from precsim.formats.scaled import scaled_format
from precsim.rounding.spec import RoundingSpec


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
    is_alike = scaled_format(fmt) is None or storage.has_one_scale(fmt)
    return Copy(fmt) if is_alike else Copy(fmt, run, role)


def scale_bits(copy: Copy, size: int) -> int:
    """Return the bits of the scales of whole arrays, rows and channels of a copy."""
    return storage.scale_bits(copy.format, -(-size // copy.run) if copy.run else 1)


def stored_bits(fmt: AnyFormat, dtype: Any) -> Fraction:
    """Return the bits of an element of a program's array, which may be narrower than the format."""
    own = Fraction(dtype_bits(dtype))
    return min(storage.element_bits(fmt), own) if jnp.issubdtype(dtype, jnp.inexact) else own


def dtype_bits(dtype: Any) -> int:
    """Return the bits of a number of a dtype in memory; a random key of JAX has one too."""
    return int(dtype.itemsize) * 8
