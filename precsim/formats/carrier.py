"""Carriers: the float32 and float64 arrays whose elements hold emulated values.

Every routine here works on bit patterns with integer operations only, so its result does not depend
on a flush-to-zero mode, on fused multiply-adds, or on the array library.
"""

from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np

from precsim import _arrays
from precsim._arrays import Array, ArrayLike, as_array, is_array, namespace
from precsim.formats.arguments import shown
from precsim.formats.layout import BINARY32, BINARY64, Layout


@dataclass(frozen=True, slots=True)
class Carrier(Layout):
    """A layout, and the dtypes of arrays in it."""

    float_dtype: Any
    uint_dtype: Any
    int_dtype: Any

    def uint(self, value: int) -> Array:
        """Constant of the carrier's unsigned type."""
        constant: Array = self.uint_dtype(value)
        return constant

    def signed(self, value: int) -> Array:
        """Constant of the carrier's signed type."""
        constant: Array = self.int_dtype(value)
        return constant


def _carrier(layout: Layout, *dtypes: Any) -> Carrier:
    return Carrier(layout.name, layout.precision, layout.exponent_bits, *dtypes)


FLOAT32 = _carrier(BINARY32, np.float32, np.uint32, np.int32)
FLOAT64 = _carrier(BINARY64, np.float64, np.uint64, np.int64)


def as_carrier(x: ArrayLike, argument: str = "x") -> tuple[Array, Carrier]:
    """Return `x` as a float32 or float64 array, and its carrier.

    This is the one rule for every public function that takes numbers:

    * float32 and float64 arrays are taken as they are.
    * Arrays of narrower floats (float16, bfloat16 and those of 8, 6 and 4 bits) become float32,
      which holds all their values. The result of the function is float32 then.
    * Python numbers and lists of them become float64 NumPy arrays. A number that float64 does not
      hold exactly is refused.
    * All other arrays are refused: integers and booleans, since converting them could round;
      complex numbers; longer floats; objects and strings; masked arrays.
    * Arrays of other libraries on the CPU count as NumPy arrays.
    """
    array = as_array(x, argument)
    if array.dtype == np.float32:
        return array, FLOAT32
    if is_narrow_float(array.dtype):
        return array.astype(np.float32), FLOAT32
    if not is_array(x):
        return exactly(x, np.float64, argument), FLOAT64
    if array.dtype == np.float64:
        return array, FLOAT64
    raise _wrong_dtype(argument, array.dtype)


def is_narrow_float(dtype: Any) -> bool:
    """Return whether all values of a dtype are float32 numbers of fewer bits."""
    name = str(dtype)
    return name in ("float16", "bfloat16") or name.startswith(("float8_", "float6_", "float4_"))


def exactly(x: ArrayLike, dtype: Any, argument: str) -> np.ndarray:
    """Return Python numbers as a NumPy array of a carrier's dtype; refuse what it does not hold."""
    given = np.asarray(as_array(x, argument))
    is_number = given.dtype.kind in "biuf" or (
        given.dtype.kind == "O"
        and all(isinstance(v, Number) and not isinstance(v, complex) for v in given.flat)
    )
    if not is_number:
        raise _wrong_dtype(argument, given.dtype)
    # As Python objects, numbers of any type compare exactly; NumPy's own compare as float64. A list
    # of integers and floats would become floats at once.
    python = np.frompyfunc(lambda v: v.item() if isinstance(v, np.generic) else v, 1, 1)
    objects = np.asarray(python(np.asarray(x, dtype=object)), dtype=object)
    objects = objects if objects.shape == given.shape else given.astype(object)
    try:
        with np.errstate(over="ignore", under="ignore"):
            narrow: np.ndarray = given.astype(np.float64).astype(dtype)
        held = (objects == narrow.astype(object)) | (objects != objects)  # noqa: PLR0124  (NaN)
    except OverflowError:  # an integer beyond float64's range
        held = np.zeros(given.shape, bool)
    if not np.all(held):
        first = objects.reshape(-1)[int(np.argmin(held))]
        raise TypeError(
            f"{argument} has {shown(first)}, which is not exact in {np.dtype(dtype)}, the carrier; "
            "convert it first"
        )
    return narrow


def _wrong_dtype(argument: str, dtype: Any) -> TypeError:
    return TypeError(
        f"{argument} has dtype {dtype}; allowed are float32 and float64, and floats of 16 bits or fewer, "
        "which become float32"
    )


def is_nan(bits: Array, carrier: Carrier) -> Array:
    """Return which patterns are NaN."""
    return (bits & carrier.uint(carrier.sign_bit - 1)) > carrier.uint(carrier.infinity)


def is_infinite(bits: Array, carrier: Carrier) -> Array:
    """Return which patterns are infinities."""
    return (bits & carrier.uint(carrier.sign_bit - 1)) == carrier.uint(carrier.infinity)


def is_zero(bits: Array, carrier: Carrier) -> Array:
    """Return which patterns are zeros."""
    return (bits & carrier.uint(carrier.sign_bit - 1)) == carrier.uint(0)


def select(condition: Array, yes: Array | bool, no: Array | bool) -> Array:
    """`where` for arrays or constants of one dtype."""
    return namespace(condition, yes, no).where(condition, yes, no)


def shift_left(x: Array, count: Array, carrier: Carrier) -> Array:
    """Shift by a signed `count`: 0 from the carrier's width on, nothing for negative counts."""
    return _arrays.shift_left(x, _shift_count(count, carrier))


def shift_right(x: Array, count: Array, carrier: Carrier) -> Array:
    """Shift by a signed `count`: 0 from the carrier's width on, nothing for negative counts."""
    return _arrays.shift_right(x, _shift_count(count, carrier))


def _shift_count(count: Array, carrier: Carrier) -> Array:
    return namespace(count).maximum(count, carrier.signed(0)).astype(carrier.uint_dtype)


def bit_length(x: Array, carrier: Carrier) -> Array:
    """Position of the highest set bit plus one, 0 for 0; unsigned in, signed out."""
    return carrier.signed(carrier.width) - _arrays.leading_zeros(x).astype(carrier.int_dtype)


def floor_log2(magnitude: Array, carrier: Carrier) -> Array:
    """Exponent of the leading bit of finite patterns without sign; below all others for zero."""
    field = (magnitude >> carrier.uint(carrier.trailing)).astype(carrier.int_dtype)
    lead = bit_length(magnitude, carrier) + carrier.signed(carrier.lsb_min - 1)
    return select(field == 0, lead, field - carrier.signed(carrier.bias))


def decompose(bits: Array, carrier: Carrier) -> tuple[Array, Array]:
    """Split finite patterns into (significand, exponent of its last bit); the sign is ignored."""
    u = carrier.uint
    magnitude = bits & u(carrier.sign_bit - 1)
    field = magnitude >> u(carrier.trailing)
    implicit = select(field != u(0), u(1 << carrier.trailing), u(0))
    significand = (magnitude & u((1 << carrier.trailing) - 1)) | implicit
    xp = namespace(bits)
    exponent = xp.maximum(field, u(1)).astype(carrier.int_dtype)
    return significand, exponent - carrier.signed(carrier.bias + carrier.trailing)


def compose(significand: Array, exponent: Array | int, carrier: Carrier) -> Array:
    """Return the bits of significand * 2**exponent, exact where the carrier has that number.

    Elsewhere they are undefined.
    """
    xp = namespace(significand)
    u, i = carrier.uint, carrier.signed
    lead = bit_length(significand, carrier) - i(1) + exponent
    base = xp.maximum(lead, i(carrier.emin))
    shift = exponent - (base - i(carrier.trailing))
    limit = i(carrier.width - 1)
    left = significand << xp.clip(shift, i(0), limit).astype(carrier.uint_dtype)
    right = left >> xp.clip(-shift, i(0), limit).astype(carrier.uint_dtype)
    field = (base + i(carrier.bias - 1)).astype(carrier.uint_dtype)
    return select(significand != u(0), (field << u(carrier.trailing)) + right, u(0))
