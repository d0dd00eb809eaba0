"""Exact results of operations on carrier patterns, special values included, before rounding."""

from collections.abc import Callable
from typing import TypeAlias

from precsim._arrays import Array, bitcast, common_shape, namespace
from precsim.formats.carrier import Carrier, is_infinite, is_nan, is_zero, select
from precsim.rounding.kernel import wide
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec

BitsFunction: TypeAlias = Callable[..., wide.Packed]
"""From carrier patterns, a `Carrier` and the sign of an exact zero to the exact result."""


def finish(
    exact: wide.Wide, infinite: Array, invalid: Array, negative: Array, carrier: Carrier
) -> wide.Packed:
    """Pack the exact result; put infinities and NaN where the operands call for them."""
    u = carrier.uint
    bits, tail, rest = wide.pack(exact, carrier)
    signed_infinity = u(carrier.infinity) | select(negative, u(carrier.sign_bit), u(0))
    bits = select(infinite, signed_infinity, bits)
    bits = select(invalid, u(carrier.quiet_nan), bits)
    is_special = infinite | invalid
    return wide.Packed(bits, select(is_special, u(0), tail), select(is_special, u(0), rest))


def add_bits(x: Array, y: Array, carrier: Carrier, zero_is_negative: bool) -> wide.Packed:
    """Return the exact sum of carrier patterns."""
    a, b = wide.unpack(x, carrier), wide.unpack(y, carrier)
    exact = wide.add(a, b, carrier, zero_is_negative=zero_is_negative)
    x_infinite, y_infinite = is_infinite(x, carrier), is_infinite(y, carrier)
    invalid = is_nan(x, carrier) | is_nan(y, carrier)
    invalid = invalid | (x_infinite & y_infinite & (a.negative != b.negative))
    negative = select(x_infinite, a.negative, b.negative)
    return finish(exact, x_infinite | y_infinite, invalid, negative, carrier)


def subtract_bits(x: Array, y: Array, carrier: Carrier, zero_is_negative: bool) -> wide.Packed:
    """Return the exact difference of carrier patterns."""
    return add_bits(x, y ^ carrier.uint(carrier.sign_bit), carrier, zero_is_negative)


def multiply_bits(x: Array, y: Array, carrier: Carrier, zero_is_negative: bool) -> wide.Packed:
    """Return the exact product of carrier patterns."""
    exact = wide.multiply(wide.unpack(x, carrier), wide.unpack(y, carrier), carrier)
    infinite = is_infinite(x, carrier) | is_infinite(y, carrier)
    invalid = is_nan(x, carrier) | is_nan(y, carrier)
    invalid = invalid | (infinite & (is_zero(x, carrier) | is_zero(y, carrier)))
    return finish(exact, infinite, invalid, exact.negative, carrier)


def divide_bits(x: Array, y: Array, carrier: Carrier, zero_is_negative: bool) -> wide.Packed:
    """Return the exact quotient of carrier patterns."""
    u = carrier.uint
    x_zero, y_zero = is_zero(x, carrier), is_zero(y, carrier)
    x_infinite, y_infinite = is_infinite(x, carrier), is_infinite(y, carrier)
    one = u(carrier.bias << carrier.trailing) | (y & u(carrier.sign_bit))
    exact = wide.divide(
        wide.unpack(select(y_infinite, x & u(carrier.sign_bit), x), carrier),
        wide.unpack(select(y_zero | y_infinite, one, y), carrier),
        carrier,
    )
    invalid = is_nan(x, carrier) | is_nan(y, carrier)
    invalid = invalid | (x_zero & y_zero) | (x_infinite & y_infinite)
    return finish(exact, x_infinite | (y_zero & ~x_zero), invalid, exact.negative, carrier)


def reciprocal_bits(x: Array, carrier: Carrier, zero_is_negative: bool) -> wide.Packed:
    """Return the exact reciprocal of carrier patterns."""
    one = carrier.uint(carrier.bias << carrier.trailing)
    return divide_bits((x & carrier.uint(0)) | one, x, carrier, zero_is_negative)


def sqrt_bits(x: Array, carrier: Carrier, zero_is_negative: bool) -> wide.Packed:
    """Return the exact square root of carrier patterns."""
    exact = wide.sqrt(wide.unpack(x, carrier), carrier)
    invalid = is_nan(x, carrier) | (exact.negative & ~is_zero(x, carrier))
    return finish(exact, is_infinite(x, carrier), invalid, exact.negative, carrier)


def fma_bits(x: Array, y: Array, z: Array, carrier: Carrier, zero_is_negative: bool) -> wide.Packed:
    """Return the exact fused multiply-add of carrier patterns."""
    product = wide.multiply(wide.unpack(x, carrier), wide.unpack(y, carrier), carrier)
    addend = wide.unpack(z, carrier)
    exact = wide.add(product, addend, carrier, zero_is_negative=zero_is_negative)
    product_infinite = is_infinite(x, carrier) | is_infinite(y, carrier)
    z_infinite = is_infinite(z, carrier)
    invalid = is_nan(x, carrier) | is_nan(y, carrier) | is_nan(z, carrier)
    invalid = invalid | (product_infinite & (is_zero(x, carrier) | is_zero(y, carrier)))
    invalid = invalid | (product_infinite & z_infinite & (product.negative != addend.negative))
    negative = select(product_infinite, product.negative, addend.negative)
    return finish(exact, product_infinite | z_infinite, invalid, negative, carrier)


def dot_bits(
    a: Array, b: Array, c: Array, d: Array, carrier: Carrier, zero_is_negative: bool
) -> wide.Packed:
    """Return the exact a * b + c * d of carrier patterns.

    The last bit of each product is zero where both factors have fewer bits than a word.
    """
    first = wide.multiply(wide.unpack(a, carrier), wide.unpack(b, carrier), carrier)
    second = wide.multiply(wide.unpack(c, carrier), wide.unpack(d, carrier), carrier)
    exact = wide.add(first, second, carrier, zero_is_negative=zero_is_negative)
    infinite = [is_infinite(x, carrier) | is_infinite(y, carrier) for x, y in ((a, b), (c, d))]
    invalid = infinite[0] & infinite[1] & (first.negative != second.negative)
    for is_inf, x, y in zip(infinite, (a, c), (b, d), strict=True):
        invalid = invalid | is_nan(x, carrier) | is_nan(y, carrier)
        invalid = invalid | (is_inf & (is_zero(x, carrier) | is_zero(y, carrier)))
    negative = select(infinite[0], first.negative, second.negative)
    return finish(exact, infinite[0] | infinite[1], invalid, negative, carrier)


def apply_operation(
    function: BitsFunction,
    operands: tuple[Array, ...],
    random_bits: Array | None,
    spec: RoundingSpec,
    carrier: Carrier,
) -> Array:
    """Run an operation on bit patterns and round its exact result."""
    xp = namespace(*operands)
    shape = common_shape(*operands)
    bits = [bitcast(xp.broadcast_to(x, shape), carrier.uint_dtype).reshape(-1) for x in operands]
    if random_bits is not None:
        random_bits = xp.broadcast_to(xp.asarray(random_bits), shape).reshape(-1)
    result = function(*bits, carrier, spec.mode is RoundingMode.TOWARD_NEGATIVE)
    rounded = round_bits(
        result.bits, spec, carrier, tail=result.tail, rest=result.rest, random_bits=random_bits
    )
    return bitcast(rounded, carrier.float_dtype).reshape(shape)
