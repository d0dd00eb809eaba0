"""Exact intermediate results: numbers of two machine words, built from integer operations only.

A `Wide` stands for ``(-1)**negative * (hi:lo) * 2**(exponent - 2*width + 1)``: `hi` and `lo` are
words of the carrier's unsigned type and, unless the number is zero, the top bit of `hi` is set. The
last bit of `lo` is sticky: it is also set when anything nonzero lies below it. Two words hold every
exact sum, product and fused multiply-add of carrier values closely enough to be rounded once, with
32 random bits too.
"""

from typing import NamedTuple, TypeAlias

from precsim._arrays import Array, namespace
from precsim._loops import repeat
from precsim.formats.carrier import Carrier, bit_length, decompose, select, shift_left, shift_right

_ZERO_EXPONENT = -(1 << 14)
"""Exponent given to zero: below everything, so that zero is the smaller operand of any sum."""


class Wide(NamedTuple):
    """A number with sign, exponent of its leading bit, and two words of significand."""

    negative: Array
    exponent: Array
    hi: Array
    lo: Array


class Packed(NamedTuple):
    """A carrier pattern truncated toward zero, and two words of the bits that follow."""

    bits: Array
    tail: Array
    rest: Array


Root: TypeAlias = tuple[Array, Array, Array, Array, Array]
"""State of a square root: radicand, remainder (two words), root (two words)."""


def unpack(bits: Array, carrier: Carrier) -> Wide:
    """Return finite carrier patterns as wide numbers (exact)."""
    u, i = carrier.uint, carrier.signed
    significand, lsb = decompose(bits, carrier)
    length = bit_length(significand, carrier)
    hi = shift_left(significand, i(carrier.width) - length, carrier)
    exponent = select(significand == u(0), i(_ZERO_EXPONENT), lsb + length - i(1))
    return Wide(bits >= u(carrier.sign_bit), exponent, hi, hi & u(0))


def pack(x: Wide, carrier: Carrier) -> Packed:
    """Truncate to the carrier: patterns, and two words of following bits for the rounding kernel.

    Beyond the carrier's largest value: that value followed by ones without end, which every mode
    rounds as it would round the number itself.
    """
    xp = namespace(x.hi)
    u, i = carrier.uint, carrier.signed
    below = xp.maximum(i(carrier.emin) - x.exponent, i(0))
    hi, lo = shift_right_jam(x.hi, x.lo, below, carrier)
    p, spare = carrier.precision, carrier.width - carrier.precision
    tail = (hi << u(p)) | (lo >> u(spare))
    field = xp.maximum(x.exponent, i(carrier.emin)) + i(carrier.bias - 1)
    magnitude = (field.astype(carrier.uint_dtype) << u(carrier.trailing)) + (hi >> u(spare))
    too_large = x.exponent > i(carrier.bias)
    magnitude = select(too_large, u(carrier.infinity - 1), magnitude)
    ones = select(too_large, ~u(0), u(0))
    bits = magnitude | select(x.negative, u(carrier.sign_bit), u(0))
    return Packed(bits, tail | ones, (lo << u(p)) | ones)


def shift_right_jam(hi: Array, lo: Array, count: Array, carrier: Carrier) -> tuple[Array, Array]:
    """Shift two words right by `count` >= 0; what falls off sets the last bit."""
    u, i = carrier.uint, carrier.signed
    width = i(carrier.width)
    # A long shift is a shift by one whole word, then a short one.
    is_long = count >= width
    short = select(is_long, count - width, count)
    top = select(is_long, u(0), hi)
    middle = select(is_long, hi, lo)
    bottom = select(is_long, lo, u(0))
    back = width - short
    new_lo = shift_right(middle, short, carrier) | shift_left(top, back, carrier)
    lost = (bottom | shift_left(middle, back, carrier)) != u(0)
    return shift_right(top, short, carrier), new_lo | lost.astype(carrier.uint_dtype)


def normalise(negative: Array, exponent: Array, hi: Array, lo: Array, carrier: Carrier) -> Wide:
    """Shift the leading bit to the top; `exponent` belongs to the top bit."""
    u, i = carrier.uint, carrier.signed
    width = i(carrier.width)
    zeros = width - select(hi == u(0), bit_length(lo, carrier), bit_length(hi, carrier))
    in_hi = select(hi == u(0), lo, hi)
    in_lo = select(hi == u(0), u(0), lo)
    new_hi = shift_left(in_hi, zeros, carrier) | shift_right(in_lo, width - zeros, carrier)
    exponent = exponent - zeros - select(hi == u(0), width, i(0))
    exponent = select(in_hi == u(0), i(_ZERO_EXPONENT), exponent)
    return Wide(negative, exponent, new_hi, shift_left(in_lo, zeros, carrier))


def multiply_words(x: Array, y: Array, carrier: Carrier) -> tuple[Array, Array]:
    """Full product of two words, as (high word, low word), from four products of half words."""
    u = carrier.uint
    half = carrier.width // 2
    mask = u((1 << half) - 1)
    xh, xl, yh, yl = x >> u(half), x & mask, y >> u(half), y & mask
    low, cross, other, high = xl * yl, xh * yl, xl * yh, xh * yh
    middle = (low >> u(half)) + (cross & mask) + (other & mask)
    hi = high + (cross >> u(half)) + (other >> u(half)) + (middle >> u(half))
    return hi, (low & mask) | (middle << u(half))


def multiply(x: Wide, y: Wide, carrier: Carrier) -> Wide:
    """Exact product of two unpacked carrier values."""
    u, i = carrier.uint, carrier.signed
    hi, lo = multiply_words(x.hi, y.hi, carrier)
    # The product of two significands in [1, 2) lies in [1, 4).
    is_low = hi < u(carrier.sign_bit)
    hi = select(is_low, (hi << u(1)) | (lo >> u(carrier.width - 1)), hi)
    lo = select(is_low, lo << u(1), lo)
    exponent = x.exponent + y.exponent + select(is_low, i(0), i(1))
    return Wide(x.negative ^ y.negative, select(hi == u(0), i(_ZERO_EXPONENT), exponent), hi, lo)


def add(x: Wide, y: Wide, carrier: Carrier, *, zero_is_negative: bool) -> Wide:
    """Sum of two wide numbers whose last bits are zero; exact up to the sticky bit.

    An exact cancellation gives +0, or -0 on request (rounding toward negative; IEEE 754-2019, 6.3).
    """
    xp = namespace(x.hi)
    u, i = carrier.uint, carrier.signed
    swap = y.exponent > x.exponent
    large = Wide(*(select(swap, b, a) for a, b in zip(x, y, strict=True)))
    small = Wide(*(select(swap, a, b) for a, b in zip(x, y, strict=True)))
    # One bit of headroom for the carry.
    distance = xp.minimum(large.exponent - small.exponent, i(2 * carrier.width)) + i(1)
    ahi = large.hi >> u(1)
    alo = (large.hi << u(carrier.width - 1)) | (large.lo >> u(1)) | (large.lo & u(1))
    bhi, blo = shift_right_jam(small.hi, small.lo, distance, carrier)
    sum_lo = alo + blo
    sum_hi = ahi + bhi + (sum_lo < alo).astype(carrier.uint_dtype)
    diff_lo = alo - blo
    diff_hi = ahi - bhi - (alo < blo).astype(carrier.uint_dtype)
    same = large.negative == small.negative
    # Equal exponents may leave a negative difference: change its sign.
    flipped = ~same & (diff_hi >= u(carrier.sign_bit))
    negated_lo = u(0) - diff_lo
    negated_hi = ~diff_hi + (diff_lo == u(0)).astype(carrier.uint_dtype)
    hi = select(same, sum_hi, select(flipped, negated_hi, diff_hi))
    lo = select(same, sum_lo, select(flipped, negated_lo, diff_lo))
    negative = large.negative ^ flipped
    cancelled = ~same & ((hi | lo) == u(0))
    negative = select(cancelled, xp.zeros_like(negative) | zero_is_negative, negative)
    return normalise(negative, large.exponent + i(1), hi, lo, carrier)


def divide(x: Wide, y: Wide, carrier: Carrier) -> Wide:
    """Quotient of two unpacked carrier values by long division; `y` must not be zero."""
    u, i = carrier.uint, carrier.signed
    digit_bits = carrier.width - carrier.precision
    drop = u(digit_bits)
    dividend, divisor = x.hi >> drop, y.hi >> drop
    is_less = dividend < divisor
    remainder = select(is_less, dividend << u(1), dividend) - divisor

    def digit(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        """Append as many bits to the quotient as the word has to spare."""
        remainder, word = state
        remainder = remainder << drop
        quotient = remainder // divisor
        return remainder - quotient * divisor, (word << drop) | quotient

    # The integer digit is 1. A loop, since XLA would copy unrolled digits into each of their uses.
    none = dividend & u(0)
    digits = [(carrier.width - 1) // digit_bits, carrier.width // digit_bits]
    remainder, hi = repeat(digits[0], digit, (remainder, none + u(1)))
    remainder, lo = repeat(digits[1], digit, (remainder, none))
    # Left-align the lower word, which has digits[1] * digit_bits bits.
    lo = lo << u(carrier.width - digits[1] * digit_bits)
    spare = carrier.width - 1 - digits[0] * digit_bits
    sticky = (remainder != u(0)).astype(carrier.uint_dtype)
    hi = (hi << u(spare)) | (lo >> u(carrier.width - spare))
    lo = (lo << u(spare)) | sticky
    exponent = x.exponent - y.exponent - is_less.astype(carrier.int_dtype)
    zero = x.hi == u(0)
    return Wide(
        x.negative ^ y.negative,
        select(zero, i(_ZERO_EXPONENT), exponent),
        select(zero, u(0), hi),
        select(zero, u(0), lo),
    )


def sqrt(x: Wide, carrier: Carrier) -> Wide:
    """Square root of unpacked carrier values (the sign is ignored), digit by digit in base 2."""
    xp = namespace(x.hi)
    u, i = carrier.uint, carrier.signed
    width = carrier.width
    odd = (x.exponent & i(1)) == i(1)
    # The radicand in [1, 4) with two integer bits; its further bits enter two at a time.
    radicand = select(odd, x.hi, x.hi >> u(1))
    steps = carrier.precision + 33

    def digit(_: Array, state: Root) -> Root:
        """Append one bit to the root; the remainder takes in the radicand's next two bits."""
        radicand, rest_hi, rest_lo, root_hi, root_lo = state
        rest_hi = (rest_hi << u(2)) | (rest_lo >> u(width - 2))
        rest_lo = (rest_lo << u(2)) | (radicand >> u(width - 2))
        trial_hi = (root_hi << u(2)) | (root_lo >> u(width - 2))
        trial_lo = (root_lo << u(2)) | u(1)
        fits = (rest_hi > trial_hi) | ((rest_hi == trial_hi) & (rest_lo >= trial_lo))
        borrow = (rest_lo < trial_lo).astype(carrier.uint_dtype)
        rest_hi = select(fits, rest_hi - trial_hi - borrow, rest_hi)
        rest_lo = select(fits, rest_lo - trial_lo, rest_lo)
        root_hi = (root_hi << u(1)) | (root_lo >> u(width - 1))
        root_lo = (root_lo << u(1)) | fits.astype(carrier.uint_dtype)
        return radicand << u(2), rest_hi, rest_lo, root_hi, root_lo

    zero = x.hi & u(0)
    state = repeat(steps, digit, (radicand, zero, zero, zero, zero))
    _, rest_hi, rest_lo, root_hi, root_lo = state
    sticky = ((rest_hi | rest_lo) != u(0)).astype(carrier.uint_dtype)
    exponent = xp.where(odd, x.exponent - i(1), x.exponent) // i(2)
    top = exponent + i(2 * width - steps)
    root = normalise(x.negative, top, root_hi, root_lo, carrier)
    exponent = select(x.hi == u(0), i(_ZERO_EXPONENT), root.exponent)
    return Wide(x.negative, exponent, root.hi, root.lo | sticky)
