"""One step of a `FlooredBlock`, for all elements of a product at once: integers, NumPy and JAX.

Sums of products are int32 multiples of 2**(E - F); the 8 bits that a smaller sum keeps below that
are a byte of their own. Sources: see `StepBlock`'s file.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any, TypeAlias

from precsim._arrays import (
    Array,
    absolute,
    entry,
    namespace,
    shift_left,
    shift_right,
    shift_right_signed,
)
from precsim._loops import repeat
from precsim.formats.carrier import FLOAT32, bit_length, decompose, is_infinite
from precsim.formats.floating import FloatFormat
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import FlooredBlock
from precsim.products.tensor_core.step import (
    NO_EXPONENT,
    add_special,
    decode,
    special_products,
)
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.spec import RoundingSpec

_U, _I = FLOAT32.uint_dtype, FLOAT32.int_dtype
_BYTE = 8
"""Bits that the sum of the products keeps below the accumulator's last one."""

Product: TypeAlias = Callable[[Any], tuple[Array, Array]]
"""``product(k)``: the signed significand and the exponent of product k."""


def floored_step(columns: Array, rows: Array, spec: MatmulSpec) -> Callable[[Array, Any], Array]:
    """Return ``step(total, n)``: the totals after step n, patterns in and out.

    `columns` and `rows` are patterns, K first.
    """
    assert isinstance(spec.order, FlooredBlock)
    block = spec.order
    formats = [part.format for part in (spec.lhs, spec.rhs) if part is not None]
    lhs, rhs = (fmt for fmt in formats if isinstance(fmt, FloatFormat))
    x, y = decode(columns, lhs), decode(rows, rhs)
    term_bits = lhs.precision + rhs.precision - 2
    overflows = lhs.emax + rhs.emax + 1 > FLOAT32.bias

    def product(k: Any) -> tuple[Array, Array]:
        significand = entry(x.significand, k) * entry(y.significand, k)
        exponent = entry(x.exponent, k) + entry(y.exponent, k)
        return significand, namespace(exponent).maximum(exponent, _I(NO_EXPONENT))

    def patterns(k: Any) -> tuple[Array, Array]:
        factors = entry(x.bits, k), entry(y.bits, k)
        if not overflows:
            return factors
        significand, exponent = product(k)
        is_double = absolute(significand).astype(_U) >> _U(term_bits + 1)
        too_large = exponent + is_double.astype(_I) > _I(FLOAT32.bias)
        return _infinite_where(too_large, *factors)

    def step(total: Array, n: Any) -> Array:
        start = n * block.length
        finite = _add(total, product, start, block, term_bits, spec.accumulator)
        at = lambda lane: patterns(start + lane)
        return add_special(total, finite, special_products(block.length, at, repeat))

    return step


def _infinite_where(condition: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Replace two factors by an infinity and a one of the same signs."""
    xp = namespace(condition)
    sign, one = _U(FLOAT32.sign_bit), _U(FLOAT32.bias << FLOAT32.trailing)
    infinite = xp.where(condition, (x & sign) | _U(FLOAT32.infinity), x)
    return infinite, xp.where(condition, (y & sign) | one, y)


def _add(
    total: Array,
    product: Product,
    start: Any,
    block: FlooredBlock,
    term_bits: int,
    accumulator: RoundingSpec,
) -> Array:
    """Return the totals with the products of one step added; those that are not finite are 0."""
    xp = namespace(total)
    f = block.fraction_bits
    sums = [
        _cut_sum(product, start + part, block, term_bits, xp.zeros_like(total).astype(_I))
        for part in range(block.parts)
    ]
    of_products = reduce(xp.maximum, [exponent for _, exponent in sums])
    dot = xp.zeros_like(total).astype(_I)
    for part, exponent in sums:
        dot = dot + shift_right_signed(part, (of_products - exponent).astype(_U))
    significand, lsb = decompose(total, FLOAT32)
    of_total = lsb + _I(FLOAT32.trailing)
    largest = xp.maximum(of_products, of_total)

    distance = (largest - of_products).astype(_U)
    high = shift_right_signed(dot, distance)
    # The byte below: what the shift dropped, moved up.
    up = xp.maximum(_I(_BYTE) - distance.astype(_I), _I(0)).astype(_U)
    down = xp.maximum(distance.astype(_I) - _I(_BYTE), _I(0)).astype(_U)
    low = shift_left(shift_right_signed(dot, down).astype(_U), up) & _U(0xFF)

    signed = xp.where(
        total >= _U(FLOAT32.sign_bit), -significand.astype(_I), significand.astype(_I)
    )
    more = f - FLOAT32.trailing
    signed = signed << _I(more) if more > 0 else signed >> _I(-more)
    apart = largest - of_total
    of_c = shift_right_signed(signed, apart.astype(_U))
    if block.parts == 2:
        of_c = xp.where(apart > _I(f + 1), _I(0), of_c)
    result = _rounded(high + of_c, low, largest - _I(f + _BYTE), f, accumulator)
    return xp.where(is_infinite(total, FLOAT32), total, result)


def _cut_sum(
    product: Product, first: Any, block: FlooredBlock, term_bits: int, zero: Array
) -> tuple[Array, Array]:
    """Return the sum of every `parts`-th product, cut off toward zero, and the largest exponent."""
    xp = namespace(zero)
    lanes = range(0, block.length, block.parts)
    terms = [product(first + lane) for lane in lanes]
    largest = reduce(xp.maximum, [exponent for _, exponent in terms], zero + _I(NO_EXPONENT))
    scale = block.fraction_bits - term_bits
    total = zero
    for significand, exponent in terms:
        size = absolute(significand).astype(_U) << _U(max(scale, 0))
        shift = largest - exponent + _I(max(-scale, 0))
        cut = shift_right(size, shift.astype(_U)).astype(_I)
        total = total + xp.where(significand < _I(0), -cut, cut)
    return total, largest


def _rounded(high: Array, low: Array, unit: Array, f: int, accumulator: RoundingSpec) -> Array:
    """Round ``(256 * high + low) * 2**unit``: down at F + 7 bits, then as the accumulator says."""
    xp = namespace(high)
    negative = high < _I(0)
    has_low = (low != _U(0)).astype(_I)
    size = xp.where(negative, -high - has_low, high).astype(_U)
    byte = xp.where(negative, (_U(256) - low) & _U(0xFF), low)
    lead = _lead(size, byte)
    drop = xp.maximum(lead + unit, _I(FLOAT32.emin)) - _I(f + _BYTE - 1) - unit
    last = shift_left(_U(1) + _U(0) * byte, xp.maximum(drop, _I(0)).astype(_U))
    rest = byte & (last - _U(1))
    # Down is away from zero for a negative number.
    byte = byte - rest + xp.where(negative & (rest != _U(0)), last, _U(0))
    size, byte = size + (byte >> _U(_BYTE)), byte & _U(0xFF)
    lead = _lead(size, byte)
    # The leading 32 bits, which are all there are.
    free = (_I(FLOAT32.width + _BYTE - 1) - lead).astype(_U)
    right = shift_right(byte, _U(_BYTE) - xp.minimum(free, _U(_BYTE)))
    left = shift_left(byte, xp.maximum(free, _U(_BYTE)) - _U(_BYTE))
    word = shift_left(size, free) | xp.where(free < _U(_BYTE), right, left)
    return _packed(negative, word, lead + unit, accumulator)


def _lead(size: Array, byte: Array) -> Array:
    """Return the place of the leading bit of ``256 * size + byte``; -1 for zero."""
    xp = namespace(size)
    of_size = bit_length(size, FLOAT32) + _I(_BYTE - 1)
    return xp.where(size != _U(0), of_size, bit_length(byte, FLOAT32) - _I(1))


def _packed(negative: Array, word: Array, lead: Array, accumulator: RoundingSpec) -> Array:
    """Round ``word * 2**(lead - 31)``, whose first bit is set unless it is zero, to float32."""
    xp = namespace(word)
    exponent = xp.maximum(lead, _I(FLOAT32.emin))
    right = _I(FLOAT32.width - FLOAT32.precision) + exponent - lead
    kept = shift_right(word, right.astype(_U))
    left = xp.maximum(_I(FLOAT32.width) - right, _I(0)).astype(_U)
    nonzero = (word != _U(0)).astype(_U)
    tail = xp.where(right > _I(FLOAT32.width), nonzero, shift_left(word, left))
    sign = xp.where(negative, _U(FLOAT32.sign_bit), _U(0))
    field = (exponent + _I(FLOAT32.bias - 1)).astype(_U)
    bits = (field << _U(FLOAT32.trailing)) + kept
    rounded = round_bits(bits | sign, accumulator, FLOAT32, tail=tail)
    rounded = xp.where(lead > _I(FLOAT32.bias), _U(FLOAT32.infinity) | sign, rounded)
    return xp.where(word == _U(0), _U(0), rounded)
