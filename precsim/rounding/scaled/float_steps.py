"""Single steps in the carrier's own format: an exact product or quotient, rounded to nearest once.

Scales are chosen by a few such operations. As integer arithmetic they give the same bits on every
backend. Operands are patterns of finite numbers, divisors not 0; what goes beyond the range
saturates or is infinite, as asked.
"""

from functools import lru_cache

from precsim._arrays import Array, namespace
from precsim.formats.carrier import Carrier, bit_length, decompose, select
from precsim.formats.floating import FloatFormat
from precsim.rounding.kernel import wide
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.modes import OverflowMode
from precsim.rounding.spec import RoundingSpec

INFINITY, SATURATE = OverflowMode.INFINITY, OverflowMode.SATURATE


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
    return rounded(
        wide.multiply(wide.unpack(x, carrier), wide.unpack(y, carrier), carrier), carrier, overflow
    )


def divide(x: Array, y: Array, carrier: Carrier, overflow: OverflowMode = INFINITY) -> Array:
    """Return x / y."""
    return rounded(
        wide.divide(wide.unpack(x, carrier), wide.unpack(y, carrier), carrier), carrier, overflow
    )


def times_power_of_two(x: Array, exponent: Array, carrier: Carrier) -> Array:
    """Return x * 2**exponent; about 30 operations, where `multiply` has 100."""
    xp = namespace(x)
    u, i = carrier.uint, carrier.signed
    magnitude = x & u(carrier.sign_bit - 1)
    significand, lsb = decompose(magnitude, carrier)
    missing = i(carrier.precision) - bit_length(significand, carrier)
    # The leading bit, two guard bits below, and one bit for all that is shifted out.
    leading = lsb + exponent - missing + i(carrier.trailing)
    whole = (significand << missing.astype(carrier.uint_dtype)) << u(2)
    below = xp.clip(i(carrier.emin) - leading, i(0), i(carrier.precision + 3))
    below = below.astype(carrier.uint_dtype)
    kept = whole >> below
    kept = kept | ((kept << below) != whole).astype(carrier.uint_dtype)
    # Three quarters of the last place are rounded up, a half only to an even last place.
    up = (((kept & u(3)) + ((kept >> u(2)) & u(1))) > u(2)).astype(carrier.uint_dtype)
    field = (xp.maximum(leading, i(carrier.emin)) + i(carrier.bias - 1)).astype(carrier.uint_dtype)
    result = (field << u(carrier.trailing)) + (kept >> u(2)) + up
    result = select(leading > i(carrier.bias), u(carrier.infinity), result)
    return (x ^ magnitude) | select(magnitude == u(0), u(0), result)


def exponent_of(power: Array, carrier: Carrier) -> Array:
    """Return the exponents of powers of two from half the smallest normal number on."""
    field = power >> carrier.uint(carrier.trailing)
    return field.astype(carrier.int_dtype) - carrier.signed(carrier.bias)
