"""Conversions between formats, and from and to integers: one rounding each."""

from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from precsim._arrays import Array, ArrayLike, as_integers, bitcast, is_jax, is_traced
from precsim._calls import call_elementwise
from precsim.formats.arguments import member, not_allowed, shown
from precsim.formats.carrier import (
    FLOAT32,
    FLOAT64,
    Carrier,
    as_carrier,
    decompose,
    is_nan,
    select,
    shift_left,
    shift_right,
)
from precsim.formats.codec import (
    as_codes,
    code_dtype,
    decode_bits,
    encode_array,
    require_64_bits,
    smallest_carrier,
)
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.registry import Format, get_format
from precsim.formats.scaled import refuse_scaled
from precsim.rounding.kernel import wide
from precsim.rounding.kernel.kernel import round_array, round_bits
from precsim.rounding.kernel.limits import limits
from precsim.rounding.modes import OverflowMode, RoundingMode
from precsim.rounding.random_bits import as_random_bits
from precsim.rounding.spec import RoundingSpec, SpecLike


def convert(
    codes: ArrayLike,
    source_format: str | Format,
    target_spec: SpecLike,
    *,
    random_bits: ArrayLike | None = None,
) -> Array:
    """Convert bit patterns of one format to bit patterns of another.

    Parameters
    ----------
    codes : array_like of int, shape (...)
        Bit patterns of `source_format`, as in `decode`.
    source_format : str, FloatFormat or FixedPointFormat
        The format of `codes`.
    target_spec : str, Format or RoundingSpec
        Format and rule of the result.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    ndarray or jax.Array of unsigned int, shape (...)
        Codes of the target in the smallest unsigned type that holds them; same library as `codes`.

    Raises
    ------
    ValueError
        If no carrier holds both formats (JAX has float64 with jax_enable_x64 only), one of them has
        no codes, a code is out of range, `random_bits` are missing in mode sr, or a NaN meets a
        target without NaN.
    TypeError
        If `codes` or `random_bits` are not integers.

    Notes
    -----
    The exact value of each code is rounded once, straight to the target. Float32 only carries it,
    or float64 where float32 does not hold both formats.

    Special values: as in `decode`, `round_to` and `encode`. A NaN that meets a target without NaN
    is an error, which names `RoundingSpec.nans`. Under `jax.jit` values cannot be looked at, and it
    becomes the code of zero.

    Examples
    --------
    >>> import precsim as ps
    >>> [hex(c) for c in ps.convert([0x3C00, 0x5F80, 0x8001], "fp16", "e4m3:saturate")]
    ['0x38', '0x7e', '0x80']
    >>> ps.convert([0x70, 0x80], "q3.4", "e5m2").tolist()
    [71, 200]
    """
    source, spec = get_format(source_format), RoundingSpec.parse(target_spec)
    refuse_scaled(source, "source_format")
    refuse_scaled(spec.format, "target_spec")
    codes = as_codes(codes, source)
    carrier = _wide_enough(spec.format, smallest_carrier(source))
    limits(spec, carrier)  # refuses before any work if no carrier holds both
    if is_jax(codes) and carrier is FLOAT64:
        require_64_bits(f"the conversion of {source} to {spec.format} needs 64 bits")
    bits = as_random_bits(random_bits, (codes,), carrier, spec, "element of codes")
    option = source, spec, carrier, code_dtype(spec.format)
    converted, has_nan = call_elementwise(_convert, option, codes, bits, x64=carrier is FLOAT64)
    if not (spec.format.has_nan or is_traced(has_nan)) and np.asarray(has_nan).any():
        raise ValueError(
            f"codes have a NaN of {source}, but {spec.format} has none; allowed is a rule that says what "
            f"it becomes, for example target_spec='{spec}:nan_to_zero'"
        )
    return converted


def from_integer(n: ArrayLike, spec: SpecLike, *, random_bits: ArrayLike | None = None) -> Array:
    """Round integers to a format.

    Parameters
    ----------
    n : array_like of int, shape (...)
        Integers of 8 to 64 bits, signed or unsigned; Python integers of 64 bits at most
        (`round_exact` takes any).
    spec : str, Format or RoundingSpec
        Format and rule of the result.
    random_bits : array_like of int, broadcastable to shape (...), optional
        For mode sr: one integer per element.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        Values, in float32 if that holds the format, else in float64; same library as `n`.

    Raises
    ------
    ValueError
        If no carrier holds the format, or `random_bits` are missing in mode sr, or JAX would need
        64 bits without jax_enable_x64.
    TypeError
        If `n` or `random_bits` are not such integers.

    Notes
    -----
    All 64 bits count: the exact integer is rounded once, whatever the carrier (convertFromInt, IEEE
    754-2019, 5.4.1). Zero gives +0. Error: that of one rounding. Cost: about 70 integer operations
    per element.

    Examples
    --------
    Half way between two values of bfloat16, but for the last bit; by way of float32 that bit is
    lost:

    >>> import precsim as ps
    >>> ps.ieee.from_integer(2**24 + 2**16 + 1, "bf16").item()
    16908288.0
    >>> ps.ieee.from_integer([-1, 2**53 + 1], "fp64:rtp").tolist()
    [-1.0, 9007199254740994.0]
    """
    spec = RoundingSpec.parse(spec)
    refuse_scaled(spec.format, "spec")
    n = as_integers(n, "n")
    carrier = _wide_enough(spec.format, FLOAT32)
    limits(spec, carrier)  # refuses before any work if the carrier cannot hold the format
    random_bits = as_random_bits(random_bits, (n,), carrier, spec, "element of n")
    if any(map(is_jax, (n, random_bits))) and (carrier is FLOAT64 or n.dtype.itemsize == 8):
        require_64_bits(f"the rounding of {n.dtype} to {spec.format} needs 64 bits")
    return call_elementwise(_round_integers, (spec, carrier), n, random_bits, x64=True)


def to_integer(
    x: ArrayLike,
    dtype: DTypeLike,
    *,
    mode: RoundingMode | str = RoundingMode.TOWARD_ZERO,
    overflow: OverflowMode | str = OverflowMode.SATURATE,
) -> Array:
    """Round to integers.

    Parameters
    ----------
    x : array_like of float, shape (...)
        Carrier values, float32 or float64 (Python numbers and lists count as float64).
    dtype : dtype-like
        Integer type of 8 to 64 bits, signed or unsigned.
    mode : RoundingMode or str
        Any mode except "sr"; toward zero by default, as casts in C.
    overflow : {"saturate", "wrap"}
        What integers outside the type become: its nearest integer, or their low bits.

    Returns
    -------
    ndarray or jax.Array of `dtype`, shape (...)
        Integers; same library as `x`.

    Raises
    ------
    ValueError
        If `mode` or `overflow` is not one of these, or JAX would need 64 bits without
        jax_enable_x64.
    TypeError
        If `x` has a dtype that `round_to` does not take, or `dtype` is not an integer type.

    Notes
    -----
    Exact except for the rounding to an integer; overflow is decided after it (convertToInteger,
    IEEE 754-2019, 5.8). Special values: NaN gives 0. Infinities saturate; in "wrap" they give 0
    (ECMAScript's ToInt32 has these rules). No gradient. Cost: about 50 integer operations per
    element.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.ieee.to_integer([2.5, -1.5, 300.0, float("nan")], "int8").tolist()
    [2, -1, 127, 0]
    >>> ps.ieee.to_integer([2.5, -1.5, 300.0], "uint8", mode="rne", overflow="wrap").tolist()
    [2, 254, 44]
    """
    x, carrier = as_carrier(x)
    kind = _integer_dtype(dtype)
    if overflow not in ("saturate", "wrap"):
        raise not_allowed("overflow", overflow, ("saturate", "wrap"))
    spec = _INTEGERS[carrier.name][member(RoundingMode, mode, "mode")]
    if spec.mode is RoundingMode.STOCHASTIC:
        raise ValueError(
            "mode is 'sr'; allowed are the others (or round_to first, by a spec with 'sr')"
        )
    if is_jax(x) and kind.itemsize == 8:
        require_64_bits(f"dtype {kind} needs 64 bits")
    return call_elementwise(_truncate, (kind, str(overflow), spec), x, x64=True)


def _integer_dtype(given: Any) -> np.dtype[Any]:
    what = shown(given)
    if given is not None:
        with suppress(TypeError):  # NumPy knows no such dtype
            dtype: np.dtype[Any] = np.dtype(given)
            if dtype.kind in "iu":
                return dtype
            what = str(dtype)
    raise TypeError(f"dtype is {what}; allowed are integers of 8 to 64 bits, such as 'int8'")


@lru_cache(maxsize=1024)
def _wide_enough(fmt: Format, carrier: Carrier) -> Carrier:
    return carrier if fmt.fits(carrier) else FLOAT64


def _to_integers(c: Carrier) -> dict[RoundingMode, RoundingSpec]:
    """Return the roundings to integers, which below 2**(p + 1) are numbers with the quantum 1."""
    bias = 2 - c.precision
    fmt = FloatFormat(name="integers", precision=c.precision, exponent_bits=2, bias=bias)
    return {mode: RoundingSpec(format=fmt, mode=mode) for mode in RoundingMode}


_INTEGERS = {c.name: _to_integers(c) for c in (FLOAT32, FLOAT64)}


def _convert(
    option: tuple[Format, RoundingSpec, Carrier, Any], codes: Array, random_bits: Array | None
) -> tuple[Array, Array]:
    """Return codes of the target, and where there is a NaN to encode."""
    source, spec, carrier, dtype = option
    flat = codes.reshape(-1).astype(carrier.uint_dtype)
    noise = None if random_bits is None else random_bits.reshape(-1)
    bits = round_bits(decode_bits(flat, source, carrier), spec, carrier, random_bits=noise)
    values = bitcast(bits, carrier.float_dtype).reshape(codes.shape)
    converted, _ = encode_array((spec.format, carrier, dtype), values)
    return converted, is_nan(bits, carrier).reshape(codes.shape)


def _round_integers(
    target: tuple[RoundingSpec, Carrier], n: Array, random_bits: Array | None = None
) -> Array:
    """Round integers once, from up to 64 bits."""
    spec, carrier = target
    shape, size = n.shape, 8 * n.dtype.itemsize
    n = n.reshape(-1)
    word = np.dtype(f"u{n.dtype.itemsize}")
    negative = n < n.dtype.type(0)
    magnitude = bitcast(n, word)
    magnitude = select(negative, word.type(0) - magnitude, magnitude)
    if spec.overflow is OverflowMode.WRAP and isinstance(spec.format, FixedPointFormat):
        # Multiples of twice the range do not count; so no bit is lost, however large the integer.
        counted = (1 << max(spec.format.integer_bits + 1, 0)) - 1
        magnitude = magnitude & word.type(counted & ((1 << size) - 1))
    lo = magnitude.astype(carrier.uint_dtype)
    high = magnitude >> word.type(32) if size > carrier.width else magnitude & word.type(0)
    top = carrier.signed(2 * carrier.width - 1)
    exact = wide.normalise(negative, top, high.astype(carrier.uint_dtype), lo, carrier)
    bits, tail, rest = wide.pack(exact, carrier)
    if random_bits is not None:
        random_bits = random_bits.reshape(-1)
    rounded = round_bits(bits, spec, carrier, tail=tail, rest=rest, random_bits=random_bits)
    return bitcast(rounded, carrier.float_dtype).reshape(shape)


def _truncate(target: tuple[np.dtype[Any], str, RoundingSpec], x: Array) -> Array:
    """Return integers of a type; the spec rounds numbers below 2**p to integers."""
    kind, overflow, spec = target
    carrier = as_carrier(x)[1]
    rounded = round_array(x, None, spec)
    word = FLOAT64 if kind.itemsize == 8 else carrier
    u = carrier.uint
    negative = bitcast(x, carrier.uint_dtype).reshape(-1) >= u(carrier.sign_bit)
    magnitude, near = (
        bitcast(v, carrier.uint_dtype).reshape(-1) & u(carrier.sign_bit - 1) for v in (x, rounded)
    )
    # From 2**p on every carrier value is an integer.
    magnitude = select(magnitude < u(carrier.pattern(1, carrier.precision)), near, magnitude)
    significand, lsb = decompose(magnitude, carrier)
    significand, lsb = significand.astype(word.uint_dtype), lsb.astype(word.int_dtype)
    whole = shift_right(shift_left(significand, lsb, word), -lsb, word)
    whole = select(negative, word.uint(0) - whole, whole)
    result = bitcast(whole.astype(f"u{kind.itemsize}"), kind)
    if overflow == "saturate":
        limit = np.iinfo(kind)
        end = u(carrier.pattern(1, int(limit.max).bit_length()))
        lowest = end if limit.min < 0 else u(1)
        result = select((magnitude >= end) & ~negative, kind.type(limit.max), result)
        result = select((magnitude >= lowest) & negative, kind.type(limit.min), result)
    # Infinity's pattern reads as a power of two so large that its low bits are zero.
    return select(magnitude > u(carrier.infinity), kind.type(0), result).reshape(x.shape)
