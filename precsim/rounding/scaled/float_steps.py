"""Single steps in the carrier's own format: an exact product or quotient, rounded to nearest once.

Scales are chosen by a few such operations. As integer arithmetic they give the same bits on every
backend. Operands are patterns of finite numbers, divisors not 0; what goes beyond the range
saturates or is infinite, as asked.
"""

from functools import lru_cache

from precsim._arrays import Array, namespace
from precsim.formats.carrier import Carrier
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
