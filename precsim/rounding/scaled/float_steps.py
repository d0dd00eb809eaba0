"""Single steps in the carrier's own format: an exact product or quotient, rounded to nearest once.

Scales are chosen by a few such operations. They give the same bits on every backend: the platform
multiplies and divides float32 numbers far from the ends of the range only, and integers say what
it left. Operands are patterns of finite numbers, divisors not 0; what goes beyond the range
saturates or is infinite, as asked.
"""

from functools import lru_cache

import numpy as np

from precsim._arrays import Array, bitcast, namespace
from precsim.formats.carrier import FLOAT32, Carrier, bit_length, decompose, select
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.rounding.kernel import wide
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.modes import OverflowMode
from precsim.rounding.spec import RoundingSpec

INFINITY, SATURATE = OverflowMode.INFINITY, OverflowMode.SATURATE
_FAR = 48
"""Exponents up to here are far from the ends of float32's range."""
_BITS = FLOAT32.precision - 2
"""Formats of so many bits have the half way bit above float32's last one."""


@lru_cache(maxsize=4)
def nearest(carrier: Carrier, overflow: OverflowMode = INFINITY) -> RoundingSpec:
    """Return the rule: to nearest, ties to even, in the format of the carrier itself."""
    fmt = FloatFormat(
        name=carrier.name, precision=carrier.precision, exponent_bits=carrier.exponent_bits
    )
    return RoundingSpec(format=fmt, overflow=overflow)


def constant(like: Array, pattern: int, carrier: Carrier) -> Array:
    """Return an array of one pattern, of the shape and library of another."""
    return namespace(like).zeros_like(like) | carrier.uint(pattern)


def rounded(exact: wide.Wide, carrier: Carrier, overflow: OverflowMode = INFINITY) -> Array:
    """Round an exact result."""
    packed = wide.pack(exact, carrier)
    # To nearest one sticky bit stands for all that follows the tail.
    tail = packed.tail | (packed.rest != carrier.uint(0)).astype(carrier.uint_dtype)
    return round_bits(packed.bits, nearest(carrier, overflow), carrier, tail=tail)


def multiply(x: Array, y: Array, carrier: Carrier, overflow: OverflowMode = INFINITY) -> Array:
    """Return x * y."""
    if carrier is FLOAT32:
        return _multiply_float32(x, y, overflow)
    return rounded(
        wide.multiply(wide.unpack(x, carrier), wide.unpack(y, carrier), carrier), carrier, overflow
    )


def divide(x: Array, y: Array, carrier: Carrier, overflow: OverflowMode = INFINITY) -> Array:
    """Return x / y."""
    if carrier is FLOAT32:
        sign, quotient, leading = _divide_float32(x, y)
        return _assembled(sign, quotient, leading, FLOAT32, overflow)
    return rounded(
        wide.divide(wide.unpack(x, carrier), wide.unpack(y, carrier), carrier), carrier, overflow
    )


def _multiply_float32(x: Array, y: Array, overflow: OverflowMode) -> Array:
    """Return x * y; about 60 operations, where words of integers take 190.

    The platform multiplies the significands as float32 numbers from 1 to 2**24, which rounds their
    product to nearest. Products modulo 2**32 tell on which side of it the exact one is.
    """
    u, i = FLOAT32.uint, FLOAT32.signed
    (a, a_lsb), (b, b_lsb) = decompose(x, FLOAT32), decompose(y, FLOAT32)
    near = bitcast(_as_float(a) * _as_float(b), np.uint32)
    significand, lsb = _significand(near), _exponent(near) - i(FLOAT32.trailing)
    with np.errstate(over="ignore"):  # NumPy warns of scalars
        beyond = a * b - (significand << namespace(lsb).maximum(lsb, i(0)).astype(np.uint32))
    beyond = select(lsb < i(0), i(0), beyond.astype(np.int32))  # a product below 2**24 is exact
    whole = (significand << u(2)) + (beyond > i(0)).astype(np.uint32)
    whole = select(near == u(0), u(0), whole - (beyond < i(0)).astype(np.uint32))
    leading = lsb + a_lsb + b_lsb + i(FLOAT32.trailing)
    return _assembled((x ^ y) & u(FLOAT32.sign_bit), whole, leading, FLOAT32, overflow)


def _divide_float32(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Return sign, significand and exponent of x / y; about 40 operations, no loop.

    Of the 26 bits of the significand the last one is also set when anything nonzero follows; it is
    0 where x is. The platform divides float32 numbers from 1 to 2, off by a few units in the last
    place at most (XLA multiplies by reciprocals of constants). The remainder modulo 2**32 is exact
    and mends that.
    """
    u = FLOAT32.uint
    (a, a_lsb), (b, b_lsb) = decompose(x, FLOAT32), decompose(y, FLOAT32)
    a_float, b_float = (bitcast(_as_float(each), np.uint32) for each in (a, b))
    dividend, divisor = _significand(a_float), _significand(b_float)
    is_less = (dividend < divisor).astype(np.uint32)
    one = u(FLOAT32.bias << FLOAT32.trailing)
    fraction = u((1 << FLOAT32.trailing) - 1)
    near = bitcast((a_float & fraction) | one, np.float32) / bitcast(
        (b_float & fraction) | one, np.float32
    )
    places = is_less + u(FLOAT32.trailing)
    near = bitcast(bitcast(near, np.uint32) + (places << u(FLOAT32.trailing)), np.float32)
    quotient = near.astype(np.int32).astype(np.uint32)
    with np.errstate(over="ignore"):
        rest = (((dividend << places) - quotient * divisor) << u(2)) + (divisor << u(4))
        more = rest // divisor
        is_inexact = (rest != more * divisor).astype(np.uint32)
        whole = ((quotient << u(2)) + more - u(16)) | is_inexact
    leading = _exponent(a_float) - _exponent(b_float) - is_less.astype(np.int32) + a_lsb - b_lsb
    return (x ^ y) & u(FLOAT32.sign_bit), select(a == u(0), u(0), whole), leading


def is_coarse(spec: RoundingSpec, carrier: Carrier) -> bool:
    """Return whether numbers below 2**-126, and those from 2**127 on, are all alike to a rounding.

    Then `coarse_quotient` gives what it needs.
    """
    fmt = spec.format
    if carrier is not FLOAT32 or spec.overflow is OverflowMode.WRAP:
        return False
    if isinstance(fmt, FixedPointFormat):
        return fmt.width <= _BITS and abs(fmt.fraction_bits) <= _FAR
    if not isinstance(fmt, FloatFormat) or fmt.exponent_bits is None:
        return False
    return fmt.emin - fmt.precision >= -_FAR and fmt.emax <= _FAR and fmt.precision <= _BITS


def has_plain_products(
    fmt: FloatFormat | FixedPointFormat, other: FloatFormat, carrier: Carrier
) -> bool:
    """Return whether products of two formats are float32 numbers, none of them subnormal."""
    if not isinstance(fmt, FloatFormat) or fmt.precision + other.precision > FLOAT32.precision:
        return False
    return all(is_coarse(RoundingSpec(format=each), carrier) for each in (fmt, other))


def plain_product(x: Array, y: Array) -> Array:
    """Return x * y, which float32 holds; infinities and NaN times anything are undefined."""
    with np.errstate(invalid="ignore"):
        return bitcast(bitcast(x, np.float32) * bitcast(y, np.float32), np.uint32)


def coarse_quotient(x: Array, y: Array) -> Array:
    """Return x / y of float32 numbers for a rounding that `is_coarse`, and not stochastic.

    The last bit is also set when anything nonzero follows. Numbers below 2**-126 become others
    below 2**-125, numbers from 2**128 on others from 2**127 on.
    """
    sign, whole, leading = _divide_float32(x, y)
    last = ((whole & FLOAT32.uint(3)) != FLOAT32.uint(0)).astype(np.uint32)
    return _in_range(sign, (whole >> FLOAT32.uint(2)) | last, leading)


def coarse_product(x: Array, y: Array) -> Array:
    """Return x * y rounded to float32, for a rounding to nearest, or a stochastic one.

    It `is_coarse`; then numbers below 2**-126, which become others below 2**-125, are 0 to it.
    Numbers from 2**128 on become others from 2**127 on.
    """
    (a, a_lsb), (b, b_lsb) = decompose(x, FLOAT32), decompose(y, FLOAT32)
    near = bitcast(_as_float(a) * _as_float(b), np.uint32)
    leading = _exponent(near) + a_lsb + b_lsb
    return _in_range((x ^ y) & FLOAT32.uint(FLOAT32.sign_bit), near, leading)


def coarse_shift(x: Array, exponent: Array) -> Array:
    """Return x * 2**exponent of float32 numbers for a rounding that `is_coarse`; exact in range."""
    significand, lsb = decompose(x, FLOAT32)
    bits = bitcast(_as_float(significand), np.uint32)
    leading = _exponent(bits) + lsb + exponent
    return _in_range(x & FLOAT32.uint(FLOAT32.sign_bit), bits, leading)


def _in_range(sign: Array, bits: Array, leading: Array) -> Array:
    """Put a significand's fraction, in the last 23 bits, and its exponent together; 0 is 0."""
    u, i = FLOAT32.uint, FLOAT32.signed
    field = leading + i(FLOAT32.bias)
    field = namespace(bits).clip(field, i(1), i(2 * FLOAT32.bias)).astype(np.uint32)
    fraction = bits & u((1 << FLOAT32.trailing) - 1)
    return sign | select(bits == u(0), u(0), (field << u(FLOAT32.trailing)) | fraction)


def _as_float(significand: Array) -> Array:
    """Return an integer of at most 24 bits as a float32 number."""
    return significand.astype(np.int32).astype(np.float32)  # quicker than from unsigned ones


def _significand(bits: Array) -> Array:
    """Return the significand of a normal float32 number."""
    leading = FLOAT32.uint(1 << FLOAT32.trailing)
    return (bits & (leading - FLOAT32.uint(1))) | leading


def _exponent(bits: Array) -> Array:
    """Return the exponent of a normal float32 number without sign."""
    field = bits >> FLOAT32.uint(FLOAT32.trailing)
    return field.astype(np.int32) - FLOAT32.signed(FLOAT32.bias)


def times_power_of_two(x: Array, exponent: Array, carrier: Carrier) -> Array:
    """Return x * 2**exponent; about 30 operations."""
    u, i = carrier.uint, carrier.signed
    magnitude = x & u(carrier.sign_bit - 1)
    significand, lsb = decompose(magnitude, carrier)
    missing = i(carrier.precision) - bit_length(significand, carrier)
    leading = lsb + exponent - missing + i(carrier.trailing)
    whole = (significand << missing.astype(carrier.uint_dtype)) << u(2)
    return _assembled(x ^ magnitude, whole, leading, carrier, INFINITY)


def _assembled(
    sign: Array, whole: Array, leading: Array, carrier: Carrier, overflow: OverflowMode
) -> Array:
    """Round a significand with two guard bits, the last one also for all that follows it.

    `leading` is the exponent of its first bit; a significand of 0 is 0.
    """
    xp = namespace(whole)
    u, i = carrier.uint, carrier.signed
    below = xp.clip(i(carrier.emin) - leading, i(0), i(carrier.precision + 3))
    below = below.astype(carrier.uint_dtype)
    kept = whole >> below
    kept = kept | ((kept << below) != whole).astype(carrier.uint_dtype)
    # Three quarters of the last place are rounded up, a half only to an even last place.
    up = (((kept & u(3)) + ((kept >> u(2)) & u(1))) > u(2)).astype(carrier.uint_dtype)
    field = (xp.maximum(leading, i(carrier.emin)) + i(carrier.bias - 1)).astype(carrier.uint_dtype)
    result = (field << u(carrier.trailing)) + (kept >> u(2)) + up
    result = select(leading > i(carrier.bias), u(carrier.infinity), result)
    if overflow is SATURATE:
        result = xp.minimum(result, u(carrier.infinity - 1))
    return sign | select(whole == u(0), u(0), result)


def exponent_of(power: Array, carrier: Carrier) -> Array:
    """Return the exponents of powers of two from half the smallest normal number on."""
    field = power >> carrier.uint(carrier.trailing)
    return field.astype(carrier.int_dtype) - carrier.signed(carrier.bias)


def power_of_two(exponent: Array, carrier: Carrier) -> Array:
    """Return patterns of powers of two from half the smallest normal number on."""
    field = (exponent + carrier.signed(carrier.bias)).astype(carrier.uint_dtype)
    half_of_smallest = carrier.uint(1 << (carrier.trailing - 1))
    return select(
        field == carrier.uint(0), half_of_smallest, field << carrier.uint(carrier.trailing)
    )
