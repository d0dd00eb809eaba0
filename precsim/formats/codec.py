"""Codes (bit patterns) to exact values and back."""

from functools import lru_cache
from typing import Any, overload

import numpy as np

from precsim._arrays import (
    Array,
    ArrayLike,
    JaxArray,
    NumPyLike,
    as_integers,
    bitcast,
    is_jax,
    is_traced,
    namespace,
)
from precsim._calls import call_elementwise
from precsim.formats.carrier import (
    FLOAT32,
    FLOAT64,
    Carrier,
    as_carrier,
    bit_length,
    compose,
    decompose,
    is_nan,
    select,
    shift_left,
    shift_right,
)
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.registry import Format, get_format
from precsim.formats.scaled import refuse_scaled


@overload
def decode(codes: JaxArray, fmt: str | Format) -> JaxArray: ...
@overload
def decode(codes: NumPyLike, fmt: str | Format) -> np.ndarray: ...
@overload
def decode(codes: ArrayLike, fmt: str | Format) -> Array: ...
def decode(codes: ArrayLike, fmt: str | Format) -> Array:
    """Return the exact values of bit patterns.

    Parameters
    ----------
    codes : array_like of int, shape (...)
        Bit patterns of `width` bits; negative integers are their two's complement.
    fmt : str, FloatFormat or FixedPointFormat
        The format of the codes.

    Returns
    -------
    ndarray or jax.Array, shape (...)
        Values, in float32 if that holds the format, else in float64; same library as `codes`.

    Raises
    ------
    ValueError
        If a code is not one of the format's. Under `jax.jit` values cannot be looked at, and bits
        above `width` are ignored. Also if the format has no codes (unlimited exponent range), or no
        carrier has all its values (JAX has float64 with jax_enable_x64 only).
    TypeError
        If `codes` are not integers.

    Notes
    -----
    Special values: infinities and -0 where the format has them; every NaN code becomes a quiet NaN.
    Exponent field 0 of a format without subnormals is zero, whatever the fraction. Exact: no
    rounding takes place. This is also true of subnormal results under a compiler that flushes them.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.decode([0x00, 0x01, 0x38, 0x7E, 0xFF], "e4m3").tolist()
    [0.0, 0.001953125, 1.0, 448.0, nan]
    """
    fmt = get_format(fmt)
    refuse_scaled(fmt, "fmt")
    codes = as_codes(codes, fmt)
    carrier = smallest_carrier(fmt)
    if is_jax(codes) and carrier is FLOAT64:
        require_64_bits(f"{fmt.name} needs a float64 carrier")
    return call_elementwise(_decode, (fmt, carrier), codes, x64=carrier is FLOAT64)


@overload
def encode(values: JaxArray, fmt: str | Format) -> JaxArray: ...
@overload
def encode(values: NumPyLike, fmt: str | Format) -> np.ndarray: ...
@overload
def encode(values: ArrayLike, fmt: str | Format) -> Array: ...
def encode(values: ArrayLike, fmt: str | Format) -> Array:
    """Return the bit patterns of values that are in a format.

    Parameters
    ----------
    values : array_like of float, shape (...)
        Carrier values, float32 or float64; round them with `round_to` first.
    fmt : str, FloatFormat or FixedPointFormat
        The format.

    Returns
    -------
    ndarray or jax.Array of unsigned int, shape (...)
        Codes in the smallest unsigned type that holds `width` bits; same library as `values`.

    Raises
    ------
    ValueError
        If a value is not in the format; the message names the first one. Under `jax.jit` values
        cannot be looked at, and a value outside the format gets the code of zero. Also if the
        carrier cannot hold the format.

    Notes
    -----
    NaN becomes the quiet NaN of the format (sign kept where the format has two). The exact inverse
    of `decode` for every code except redundant NaNs and zeros.

    Examples
    --------
    >>> import precsim as ps
    >>> [hex(c) for c in ps.encode([1.0, 448.0, -0.0], "e4m3")]
    ['0x38', '0x7e', '0x80']
    >>> ps.encode(3.14159, "fp16")
    Traceback (most recent call last):
    ...
    ValueError: 3.14159 is not in fp16; round it first, for example with round_to(values, 'fp16')
    """
    fmt = get_format(fmt)
    refuse_scaled(fmt, "fmt")
    values, carrier = as_carrier(values, "values")
    dtype = code_dtype(fmt)
    if not fmt.fits(carrier):
        remedy = " (use float64)" if carrier is FLOAT32 else ""
        raise ValueError(f"a {carrier.name} carrier cannot hold {fmt.name}{remedy}")
    codes, valid = call_elementwise(encode_array, (fmt, carrier, dtype), values)
    _refuse_invalid(values, valid, fmt)
    return codes


def _decode(option: tuple[Format, Carrier], codes: Array) -> Array:
    fmt, carrier = option
    bits = decode_bits(codes.reshape(-1).astype(carrier.uint_dtype), fmt, carrier)
    return bitcast(bits, carrier.float_dtype).reshape(codes.shape)


def encode_array(option: tuple[Format, Carrier, Any], values: Array) -> tuple[Array, Array]:
    """Return codes, and which values are in the format: exactly those whose code decodes to them.

    All others get the code of zero.
    """
    fmt, carrier, dtype = option
    bits = bitcast(values, carrier.uint_dtype).reshape(-1)
    codes = encode_bits(bits, fmt, carrier)
    back = decode_bits(codes, fmt, carrier)
    valid = select(is_nan(bits, carrier), fmt.has_nan, bits == back)
    codes = select(valid, codes, carrier.uint(0)).astype(dtype)
    return codes.reshape(values.shape), valid.reshape(values.shape)


def as_codes(codes: ArrayLike, fmt: Format) -> Array:
    """Return codes as an array of integers, after those out of range have been refused."""
    array = as_integers(codes, "codes")
    width = fmt.width
    if width is None or is_traced(array) or 8 * array.dtype.itemsize <= width:
        return array
    low, high = -(1 << (width - 1)), (1 << width) - 1
    given = np.asarray(array)
    is_outside = (given < low) | (given > high) if given.dtype.kind == "i" else given > high
    if is_outside.any():
        worst = given.reshape(-1)[int(np.argmax(is_outside))]
        raise ValueError(
            f"codes has {worst}; allowed for {fmt.name} of {width} bits are 0 to {high} (or from {low} on, "
            "as two's complement)"
        )
    return array


def _refuse_invalid(values: Array, valid: Array, fmt: Format) -> None:
    if is_traced(valid):
        return
    ok = np.asarray(valid)
    if not ok.all():
        worst = np.asarray(values).reshape(-1)[int(np.argmin(ok))]
        raise ValueError(
            f"{worst} is not in {fmt.name}; round it first, for example with "
            f"round_to(values, {fmt.name!r})"
        )


@lru_cache(maxsize=1024)
def smallest_carrier(fmt: Format) -> Carrier:
    """Return the carrier of the format's values: float32 if that has them all."""
    for carrier in (FLOAT32, FLOAT64):
        if fmt.width is not None and fmt.fits(carrier):
            return carrier
    raise ValueError(f"{fmt.name} has no codes, or values that neither float32 nor float64 has")


def require_64_bits(need: str) -> None:
    """Refuse what JAX cannot do without 64-bit types; `need` says what needs them."""
    import jax

    if not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise ValueError(f"{need}, which JAX has with jax_enable_x64 only")


@lru_cache(maxsize=1024)
def code_dtype(fmt: Format) -> Any:
    """Return the smallest unsigned type for the codes of a format."""
    width = fmt.width
    if width is None:
        raise ValueError(f"{fmt.name} has an unlimited exponent range, hence no codes")
    return next(t for t in (np.uint8, np.uint16, np.uint32, np.uint64) if np.iinfo(t).bits >= width)


def decode_bits(codes: Array, fmt: Format, carrier: Carrier) -> Array:
    """Return the carrier patterns of codes (of the carrier's unsigned type)."""
    if isinstance(fmt, FixedPointFormat):
        return _decode_fixed(codes, fmt, carrier)
    return _decode_float(codes, fmt, carrier)


def encode_bits(bits: Array, fmt: Format, carrier: Carrier) -> Array:
    """Return the codes of carrier patterns that are in the format (of any others: anything)."""
    if isinstance(fmt, FixedPointFormat):
        return _encode_fixed(bits, fmt, carrier)
    return _encode_float(bits, fmt, carrier)


def _decode_float(codes: Array, fmt: FloatFormat, carrier: Carrier) -> Array:
    u = carrier.uint
    p, magnitude_bits = fmt.precision, fmt._magnitude_bits
    magnitude = codes & u((1 << magnitude_bits) - 1)
    negative = (codes >> u(magnitude_bits)) & u(int(fmt.is_signed))
    exponent_field = magnitude >> u(p - 1)
    fraction = magnitude & u((1 << (p - 1)) - 1)
    is_low = (exponent_field == u(0)) & fmt.has_zero
    low = fraction if fmt.has_subnormals else fraction & u(0)
    significand = select(is_low, low, fraction | u(1 << (p - 1)))
    exponent = select(is_low, u(1), exponent_field).astype(carrier.int_dtype)
    bits = compose(significand, exponent - carrier.signed(fmt.bias + p - 1), carrier)
    if fmt.has_infinity:
        infinity = u(fmt._max_code + 1)
        bits = select(magnitude == infinity, u(carrier.infinity), bits)
        bits = select(magnitude > infinity, u(carrier.quiet_nan), bits)
    elif fmt.has_nan:
        bits = select(magnitude > u(fmt._max_code), u(carrier.quiet_nan), bits)
    if fmt.nan_replaces_negative_zero:
        is_nan = (magnitude == u(0)) & (negative == u(1))
        bits = select(is_nan, u(carrier.quiet_nan), bits)
        negative = select(is_nan, u(0), negative)
    if fmt.is_signed and not fmt.has_negative_zero:
        negative = select(bits == u(0), u(0), negative)
    return bits | (negative << u(carrier.width - 1))


def _encode_float(bits: Array, fmt: FloatFormat, carrier: Carrier) -> Array:
    """Code of each value, after truncation of whatever does not fit."""
    xp = namespace(bits)
    u, i = carrier.uint, carrier.signed
    p = fmt.precision
    magnitude = bits & u(carrier.sign_bit - 1)
    sign = ((bits >> u(carrier.width - 1)) & u(int(fmt.is_signed))) << u(fmt._magnitude_bits)
    significand, lsb = decompose(bits, carrier)
    lead = lsb + bit_length(significand, carrier) - i(1)
    quantum = xp.clip(lead, i(fmt.emin), i(max(fmt.emin, fmt.emax))) - i(p - 1)
    # The implicit bit adds one to the exponent field, so the field starts one lower.
    field = quantum + i(p - 1 + fmt.bias - 1)
    aligned = shift_right(shift_left(significand, lsb - quantum, carrier), quantum - lsb, carrier)
    code = aligned + (field.astype(carrier.uint_dtype) << u(p - 1))
    code = select(magnitude == u(0), u(0), code)
    if fmt.has_infinity:
        code = select(magnitude == u(carrier.infinity), u(fmt._max_code + 1), code)
    is_nan = magnitude > u(carrier.infinity)
    if fmt.nan_replaces_negative_zero:
        return select(is_nan, u(fmt._nan_code), code | sign)
    if fmt.has_nan:
        code = select(is_nan, u(fmt._nan_code), code)
    return (code & u((1 << fmt._magnitude_bits) - 1)) | sign


def _decode_fixed(codes: Array, fmt: FixedPointFormat, carrier: Carrier) -> Array:
    u = carrier.uint
    codes = codes & u((1 << fmt.width) - 1)
    negative = (codes >> u(fmt.width - 1)) & u(int(fmt.is_signed))
    mask = u((1 << fmt.width) - 1)
    magnitude = select(negative == u(1), (u(0) - codes) & mask, codes)
    bits = compose(magnitude, carrier.signed(-fmt.fraction_bits), carrier)
    return bits | (negative << u(carrier.width - 1))


def _encode_fixed(bits: Array, fmt: FixedPointFormat, carrier: Carrier) -> Array:
    """Code of each value, after truncation of whatever does not fit."""
    u, i = carrier.uint, carrier.signed
    significand, lsb = decompose(bits, carrier)
    shift = lsb + i(fmt.fraction_bits)
    integer = shift_right(shift_left(significand, shift, carrier), -shift, carrier)
    negative = bits >> u(carrier.width - 1) == u(1)
    return select(negative, u(0) - integer, integer) & u((1 << fmt.width) - 1)
