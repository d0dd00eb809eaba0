"""Values of an emulated program: an array, and what is known of its numbers before it runs.

What is known saves roundings: a number of a format needs none, however often it is moved.
"""

import enum
from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.formats.carrier import FLOAT32, FLOAT64, Carrier, is_narrow_float
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat, Specials
from precsim.formats.registry import get_format
from precsim.rounding.oracle import round_exact
from precsim.rounding.spec import RoundingSpec

Format = FloatFormat | FixedPointFormat


class Origin(enum.Enum):
    """What an array is computed from; it says which product of a gradient an operand belongs to."""

    WEIGHTS = "weights"
    """Parameters and constants alone."""
    COTANGENTS = "cotangents"
    """Something of the backward pass."""
    HOST = "host"
    """What a call of the host made of no floats; with others, an activation."""
    ACTIVATIONS = "activations"
    """Anything else."""


class Value(NamedTuple):
    """An array of an emulated program.

    Parameters
    ----------
    array : jax.Array
        The numbers; emulated ones are values of their format in the dtype of the program.
    format : Format, optional
        A format that has all the numbers, where one is known.
    constant : float, optional
        The number that all elements equal, where that is known.
    origin : Origin
        What the array is computed from.
    """

    array: Any
    format: Format | None = None
    constant: float | None = None
    origin: Origin = Origin.WEIGHTS


def is_float(x: Any) -> bool:
    """Return whether an array, or what stands for one, has real floating-point numbers."""
    return bool(jnp.issubdtype(x.dtype, jnp.floating))


def is_inexact(x: Any) -> bool:
    """Return whether an array, or what stands for one, has real or complex numbers."""
    return bool(jnp.issubdtype(x.dtype, jnp.inexact))


def carrier_of(dtype: Any) -> Carrier:
    """Return the carrier in which numbers of a floating-point dtype are rounded."""
    return FLOAT64 if np.dtype(dtype) == np.float64 else FLOAT32


def real_dtype(dtype: Any) -> Any:
    """Return the dtype of the parts of complex numbers; of a real dtype itself."""
    return np.zeros((), dtype).real.dtype


def format_of(dtype: Any) -> Format:
    """Return the format of a floating-point dtype."""
    return _format_of(np.dtype(dtype))


@lru_cache(maxsize=64)
def _format_of(dtype: np.dtype[Any]) -> Format:
    fmt: Format = get_format(dtype)
    return fmt


@lru_cache(maxsize=1024)
def has_all_of(outer: Format, inner: Format) -> bool:
    """Return whether a format is known to have all values of another one, special ones included."""
    if outer == inner:
        return True
    if not isinstance(outer, FloatFormat) or outer.exponent_bits is None:
        return False
    if not (outer.has_nan and outer.has_infinity and outer.has_negative_zero and outer.is_signed):
        return False
    if isinstance(inner, FixedPointFormat):
        bits = inner.integer_bits + inner.fraction_bits
        least, largest = -inner.fraction_bits, inner.integer_bits
    elif inner.exponent_bits is None:
        return False
    else:
        bits = inner.precision
        least, largest = inner.emin - (bits - 1) * inner.has_subnormals, inner.emax
    lowest = outer.emin - (outer.precision - 1) * outer.has_subnormals
    return bits <= outer.precision and least >= lowest and largest <= outer.emax


def rounds_nothing(spec: RoundingSpec, dtype: Any) -> bool:
    """Return whether all numbers of a dtype are values of a spec's format."""
    return has_all_of(spec.format, format_of(dtype))


def is_known(value: Value, fmt: Format) -> bool:
    """Return whether all numbers are known to be of a format."""
    if value.format is not None and has_all_of(fmt, value.format):
        return True
    return value.constant is not None and _has(fmt, value.constant)


@lru_cache(maxsize=4096)
def _has(fmt: Format, number: float) -> bool:
    if not np.isfinite(number):
        return isinstance(fmt, FloatFormat) and fmt.has_infinity and fmt.has_nan
    if number == 0:
        is_negative = np.signbit(number)
        return not is_negative or (isinstance(fmt, FloatFormat) and fmt.has_negative_zero)
    return round_exact(number, RoundingSpec(format=fmt)).value == number


def common_format(values: list[Value]) -> Format | None:
    """Return a format that has the numbers of all values, where one is known."""
    known = [value.format for value in values if value.format is not None]
    for fmt in dict.fromkeys(known):
        if all(is_known(value, fmt) for value in values):
            return fmt
    return None


def common_origin(values: list[Value], *, is_backward: bool) -> Origin:
    """Return what the result of an operation is computed from."""
    if all(value.origin is Origin.WEIGHTS for value in values):
        return Origin.WEIGHTS
    if is_backward or any(value.origin is Origin.COTANGENTS for value in values):
        return Origin.COTANGENTS
    return Origin.ACTIVATIONS


def negated_format(fmt: Format | None) -> FloatFormat | None:
    """Return the format if it has the negative of each of its values, None otherwise."""
    if isinstance(fmt, FloatFormat) and fmt.is_signed and fmt.specials is Specials.IEEE:
        return fmt
    return None


def widened(x: Array) -> Array:
    """Return numbers of a narrow dtype in the carrier, exactly; others as they are."""
    return x.astype(np.float32) if is_narrow_float(x.dtype) else x
