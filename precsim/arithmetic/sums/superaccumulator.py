"""Exact sums in integers: one fixed-point number that holds every term (Kulisch's accumulator).

An element of the sum is a row of limbs, signed integers of a whole word that stand for digits of
half a word: ``sum(limb[l] * 2**(lowest + l * half))``. A term is added digit by digit without
carrying, which is done often enough (`CARRY_EVERY`) that no limb overflows. One source for NumPy
and JAX, float32 and float64 carriers. Source: Kulisch, *Computer Arithmetic and Validity*, 2nd
edition, chapter 8.
"""

from typing import Any, NamedTuple

import numpy as np

from precsim._arrays import Array, entry, is_jax, namespace, with_entry
from precsim._loops import repeat
from precsim.formats.carrier import Carrier, bit_length, decompose, select, shift_left, shift_right
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.registry import Format
from precsim.rounding.kernel import wide

CARRY_EVERY = 1 << 13
"""Terms that may be added between two carries.

A digit is below 2**half, a limb holds 2**(2 half - 1)."""
MAX_TERMS = 1 << 31
"""Indices are 32-bit integers."""


class Range(NamedTuple):
    """Where a term's bits may lie: multiples of 2**low below 2**high, `bits` significand bits."""

    low: int
    high: int
    bits: int

    def __mul__(self, other: Any) -> "Range":
        """Return the range of a product."""
        return Range(self.low + other.low, self.high + other.high, self.bits + other.bits)


class Layout(NamedTuple):
    """The limbs of a sum; static under jit."""

    lowest: int
    """Exponent of the last bit."""
    limbs: int
    carrier: Carrier

    @property
    def half(self) -> int:
        """Bits of a digit."""
        return self.carrier.width // 2

    def with_range(self, terms: Range) -> tuple["Layout", int]:
        """Return a layout that also holds one term of a range, and how many limbs it adds below."""
        below = max(0, -((terms.low - self.lowest) // self.half))
        lowest = self.lowest - below * self.half
        needed = -(-(terms.high + 2 - lowest) // self.half)
        return self._replace(lowest=lowest, limbs=max(self.limbs + below + 1, needed)), below


def layout(terms: Range, count: int, carrier: Carrier) -> Layout:
    """Return the layout that holds every sum of `count` terms of a range."""
    if count >= MAX_TERMS:
        raise ValueError(
            f"an exact sum has {count} terms; allowed are fewer than 2**31, the largest index"
        )
    bits = terms.high - terms.low + count.bit_length() + 1
    return Layout(terms.low, -(-bits // (carrier.width // 2)), carrier)


def range_of(fmt: Format | None, carrier: Carrier) -> Range:
    """Return the range of the values of a format (None: of the carrier)."""
    if isinstance(fmt, FixedPointFormat):
        bits = fmt.integer_bits + fmt.fraction_bits
        return Range(-fmt.fraction_bits, fmt.integer_bits + 1, bits + 1)
    if fmt is None or not _has_own_places(fmt, carrier):
        return Range(carrier.lsb_min, carrier.bias + 1, carrier.precision)
    return Range(fmt.emin - fmt.precision + 1, fmt.emax + 1, fmt.precision)


def _has_own_places(fmt: Any, carrier: Carrier) -> bool:
    """Return whether a format's last place can be found from a carrier value's exponent."""
    return fmt.exponent_bits is not None and fmt.emin >= carrier.emin


class Integers(NamedTuple):
    """Integers ``(-1)**negative * (hi:lo) * 2**exponent``; what is not finite counts as 0."""

    negative: Array
    hi: Array
    lo: Array
    exponent: Array


def significands(x: Array, fmt: Format | None, carrier: Carrier) -> Integers:
    """Split carrier patterns of a format's values into integers of one word, as short as theirs."""
    xp = namespace(x)
    u, i = carrier.uint, carrier.signed
    significand, lsb = decompose(x, carrier)
    is_special = (x & u(carrier.sign_bit - 1)) >= u(carrier.infinity)
    significand = select(is_special, u(0), significand)
    if isinstance(fmt, FixedPointFormat):
        exponent = xp.full_like(lsb, -fmt.fraction_bits)
    elif fmt is None or not _has_own_places(fmt, carrier):
        exponent = lsb
    else:
        exponent = xp.maximum(lsb + i(carrier.trailing), i(fmt.emin)) - i(fmt.precision - 1)
    exponent = select(significand == u(0), i(range_of(fmt, carrier).low), exponent)
    drop = exponent - lsb
    significand = shift_left(shift_right(significand, drop, carrier), -drop, carrier)
    return Integers(x >= u(carrier.sign_bit), significand & u(0), significand, exponent)


def product(x: Integers, y: Integers, carrier: Carrier, bits: int) -> Integers:
    """Multiply terms of one word; `bits` bounds the significand bits of the product."""
    negative, exponent = x.negative ^ y.negative, x.exponent + y.exponent
    if bits <= carrier.width:
        low = x.lo * y.lo
        return Integers(negative, low & carrier.uint(0), low, exponent)
    return Integers(negative, *wide.multiply_words(x.lo, y.lo, carrier), exponent)


def deposit(limbs: Array, terms: Integers, place: Layout, bits: int) -> Array:
    """Add terms of at most `bits` significand bits, without carrying.

    About 2 + 5 bits / half operations per limb.
    """
    carrier, half = place.carrier, place.half
    u, i = carrier.uint, carrier.signed
    position = terms.exponent - i(place.lowest)
    first, bit = position // i(half), position % i(half)
    back = i(carrier.width) - bit
    words = (
        shift_left(terms.lo, bit, carrier),
        shift_left(terms.hi, bit, carrier) | shift_right(terms.lo, back, carrier),
        shift_right(terms.hi, back, carrier),
    )
    sign = -terms.negative.astype(carrier.int_dtype)
    digits = []
    for k in range((bits + 2 * half - 2) // half):
        digit = (words[k // 2] >> u(half * (k % 2))) & u((1 << half) - 1)
        digits.append((digit.astype(carrier.int_dtype) ^ sign) - sign)
    if is_jax(limbs):
        from precsim._calls import kept_apart

        # Else XLA computes the digits anew for every limb.
        first, *digits = kept_apart((first, *digits))
    xp = namespace(limbs)
    # As many axes as the limbs have: JAX may be told to refuse to add them.
    lead = (1,) * (limbs.ndim - first.ndim)
    first, *digits = (x.reshape(*lead, *x.shape) for x in (first, *digits))
    index = np.arange(limbs.shape[0], dtype=carrier.int_dtype)
    offset = index.reshape(-1, *([1] * (limbs.ndim - 1))) - first
    added = xp.zeros_like(limbs)
    for k, digit in enumerate(digits):
        added = xp.where(offset == i(k), digit, added)
    return limbs + added


def spread_carries(limbs: Array, place: Layout) -> Array:
    """Move what exceeds a digit one limb up; the value stays, limbs become small again."""
    xp = namespace(limbs)
    i = place.carrier.signed
    carries = limbs[:-1] >> i(place.half)
    kept = limbs[:-1] - (carries << i(place.half))
    return xp.concatenate([kept, limbs[-1:]]) + xp.concatenate([xp.zeros_like(limbs[:1]), carries])


def widen(limbs: Array, place: Layout, terms: Range) -> tuple[Array, Layout]:
    """Return the limbs of a layout that also has room for one term of a range."""
    xp = namespace(limbs)
    larger, below = place.with_range(terms)
    above = larger.limbs - place.limbs - below
    pad = [(below, above), *[(0, 0)] * (limbs.ndim - 1)]
    return xp.pad(limbs, pad), larger


def total(
    limbs: Array, place: Layout, *, zero_is_negative: bool, modulo: int | None = None
) -> wide.Wide:
    """Return the sums as wide numbers: two words, the last bit sticky.

    With `modulo` m, of each magnitude only what is below 2**m, as a format that wraps around needs
    it.
    """
    xp = namespace(limbs)
    carrier, half = place.carrier, place.half
    u, i = carrier.uint, carrier.signed
    limbs = _ripple(limbs, place)
    negative = limbs[-1] < i(0)
    limbs = _ripple(xp.where(negative, -limbs, limbs), place)
    if modulo is not None:
        kept = modulo - place.lowest - half * np.arange(place.limbs)
        mask = np.array([(1 << int(n)) - 1 for n in kept.clip(0, half)], carrier.int_dtype)
        limbs = limbs & mask.reshape(-1, *([1] * (limbs.ndim - 1)))
    is_set = limbs != i(0)
    index = np.arange(limbs.shape[0], dtype=carrier.int_dtype)
    index = index.reshape(-1, *([1] * (limbs.ndim - 1)))
    top = xp.where(is_set, index, i(0)).max(axis=0)
    padded = xp.concatenate([xp.zeros_like(limbs[:1])] * 4 + [limbs])
    digit = [
        xp.take_along_axis(padded, (top + i(4 - k))[None], axis=0)[0].astype(carrier.uint_dtype)
        for k in range(5)
    ]
    rest = xp.any(is_set & (index < (top - i(4))[None]), axis=0)
    hi, lo = ((digit[k] << u(half)) | digit[k + 1] for k in (0, 2))
    zeros = i(carrier.width) - bit_length(hi, carrier)
    zeros = xp.minimum(zeros, i(half - 1))  # more only where the sum is zero
    back = i(carrier.width) - zeros
    next_word = digit[4] << u(half)
    hi = shift_left(hi, zeros, carrier) | shift_right(lo, back, carrier)
    lo = shift_left(lo, zeros, carrier) | shift_right(next_word, back, carrier)
    rest = rest | (shift_left(next_word, zeros, carrier) != u(0))
    negative = select(is_set.any(axis=0), negative, xp.full_like(negative, zero_is_negative))
    exponent = i(place.lowest - 1) + (top + i(1)) * i(half) - zeros
    lo = lo | rest.astype(carrier.uint_dtype)
    return wide.normalise(negative, exponent, hi, lo, carrier)


def _ripple(limbs: Array, place: Layout) -> Array:
    """Carry from the lowest to the highest limb; all but the last become digits."""
    i = place.carrier.signed
    # NumPy's `with_entry` writes in place.
    limbs = limbs if is_jax(limbs) else limbs.copy()

    def body(k: Any, limbs: Array) -> Array:
        limb = entry(limbs, k)
        carry = limb >> i(place.half)
        limbs = with_entry(limbs, k, limb - (carry << i(place.half)))
        return with_entry(limbs, k + 1, entry(limbs, k + 1) + carry)

    return repeat(place.limbs - 1, body, limbs)
