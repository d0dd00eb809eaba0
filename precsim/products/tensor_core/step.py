"""One step of a tensor core, for all elements of a product at once: integers only, NumPy and JAX.

A step adds L products and the accumulator. Every term is an integer significand times a power of
two. A product is ``(sa * sb) * 2**(ea + eb - Pa - Pb)``, never renormalised, with P the fraction
bits of an operand. Each term is cut off toward zero to a multiple of 2**(E - F), with E the largest
exponent among the terms. The cut terms are added exactly: 32 bits hold the sum where `max_total`
says so. Sources: see `FusedBlock`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from precsim._arrays import (
    Array,
    absolute,
    count_bits,
    entry,
    namespace,
    shift_left,
    shift_right,
    shift_right_signed,
    total_of_each,
)
from precsim._loops import Fold, computed_once
from precsim.formats.carrier import FLOAT32, bit_length, decompose, is_infinite, is_nan, select
from precsim.formats.floating import FloatFormat
from precsim.products.specs.core import Core
from precsim.products.tensor_core.tiles import row
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.modes import RoundingMode

NAN = 0x7FFFFFFF
"""The one NaN that tensor cores return (MMA-Sim, random bit patterns on hardware)."""
NO_EXPONENT = -4000
"""The exponent of a zero: never the largest, and shifted out of any sum."""
_U, _I = FLOAT32.uint_dtype, FLOAT32.int_dtype


class Decoded(NamedTuple):
    """A decoded operand; arrays of one shape, K first."""

    significand: Array
    """int32, signed: value = significand * 2**(exponent - fraction bits); 0 if not finite."""
    exponent: Array
    """int32; that of the smallest normal value for subnormals, far below everything for zero."""
    bits: Array
    """The float32 patterns."""


def decode(bits: Array, fmt: FloatFormat) -> Decoded:
    """Split float32 patterns of values of a format."""
    xp = namespace(bits)
    significand, lsb = decompose(bits, FLOAT32)
    exponent = xp.maximum(lsb + _I(FLOAT32.trailing), _I(fmt.emin))
    # In units of the format's last place; exact, since the value is in the format.
    drop = exponent - _I(fmt.precision - 1) - lsb
    significand = shift_right(significand, drop.astype(_U)).astype(_I)
    is_special = (bits & _U(FLOAT32.sign_bit - 1)) >= _U(FLOAT32.infinity)
    significand = xp.where(is_special, _I(0), significand)
    exponent = xp.where(significand == _I(0), _I(NO_EXPONENT), exponent)
    negative = bits >= _U(FLOAT32.sign_bit)
    signed = xp.where(negative, -significand, significand)
    return Decoded(signed, exponent, bits)


class OneWordFactor(NamedTuple):
    """An operand ready for the steps: K first in the left one, (..., K, columns) in the right."""

    significand: Array
    """int32: the product of two has the unit 2**(exponent - term_bits - lift)."""
    exponent: Array
    """int32, as in `Decoded`."""
    negative: Array
    """uint32, a word or more per step instead of K: bit l says whether value l is negative."""
    nonzero: Array
    """The same of whether it is not zero."""
    bits: Array
    """The float32 patterns."""


def is_nudged(core: Core) -> bool:
    """Return whether a product has room for a nudge below its last place.

    A nudge is as long as the significand of the left operand.
    """
    nudge = core.lhs.element.precision
    return nudge + core.rhs.element.precision + _scale(core) + nudge < FLOAT32.width


def lift(core: Core) -> int:
    """Return the number of bits below a product's last place: those of the sum, and of a nudge."""
    return _scale(core) + core.lhs.element.precision * is_nudged(core)


def _scale(core: Core) -> int:
    return max(core.block.fraction_bits - core.term_bits, 0)


def make_factors(x: Decoded, y: Decoded, core: Core) -> tuple[OneWordFactor, OneWordFactor]:
    """Prepare two operands.

    Hardware truncates toward zero; a right shift rounds down. For a negative product both agree if
    its magnitude is first increased by less than one last place and 1 is added after the shift. So
    the magnitudes of the right operand are nudged up where there are bits for that (`is_nudged`).
    Positive products do not notice.
    """
    size = (absolute(y.significand).astype(_U) << _U(lift(core))) + _U(is_nudged(core))
    signed = select(y.significand < _I(0), _U(0) - size, size).astype(_I)
    lifted = select(y.significand == _I(0), _I(0), signed)
    return _factor(x.significand, x, core), _factor(lifted, y, core)


def _factor(significand: Array, x: Decoded, core: Core) -> OneWordFactor:
    significand, exponent = computed_once(significand), computed_once(x.exponent)
    return OneWordFactor(significand, exponent, *_words(significand, core.block.length), x.bits)


def _words(significand: Array, length: int) -> tuple[Array, Array]:
    """Pack signs and non-zeros of each L values into words of 32 bits."""
    xp = namespace(significand)
    shape = significand.shape
    groups = significand.reshape(shape[0] // length, length, *shape[1:])
    words = []
    for first in range(0, length, 32):
        part = groups[:, first : first + 32]
        lanes = np.arange(part.shape[1], dtype=_U).reshape(1, -1, *(1,) * (len(shape) - 1))
        masks = (part < _I(0), part != _I(0))
        words.append(total_of_each(*(mask.astype(_U) << lanes for mask in masks)))
    negative, nonzero = (xp.stack(pieces, axis=1) for pieces in zip(*words, strict=True))
    return negative.reshape(-1, *shape[1:]), nonzero.reshape(-1, *shape[1:])


def exact_product(x: OneWordFactor, y: OneWordFactor, k: Any, core: Core) -> tuple[Array, Array]:
    """Return significand and exponent of product k, for `add_in_one_word`.

    The significand of a negative product lies below its value.
    """
    significand = entry(x.significand, k) * row(y.significand, k)
    if not is_nudged(core):
        significand = significand + (significand >> _I(31))
    return significand, entry(x.exponent, k) + row(y.exponent, k)


def count_negative(
    x: OneWordFactor, y: OneWordFactor, n: Any, length: int, lanes: int = -1
) -> Array:
    """Count the negative products of a step, int32; of 32 products or less those of a mask."""
    words = -(-length // 32)
    count = FLOAT32.signed(0)
    for word in range(words):
        k = n * words + word
        negative = entry(x.negative, k) ^ row(y.negative, k)
        mask = negative & entry(x.nonzero, k) & row(y.nonzero, k)
        count = count + count_bits(mask & _U(lanes & 0xFFFFFFFF)).astype(_I)
    return count


def add_in_one_word(
    total: Array,
    product: Callable[[Any], tuple[Array, Array]],
    negative_products: Array,
    core: Core,
    fold: Fold,
) -> Array:
    """Return the new accumulators; patterns in and out.

    `product(k)` is the pair (significand, exponent) of the k-th of L products, see `exact_product`.
    `total` is finite or infinite, and infinite accumulators stay.
    """
    xp = namespace(total)
    block = core.block
    f = block.fraction_bits
    significand, lsb = decompose(total, FLOAT32)
    is_zero = significand == _U(0)
    no_exponent = _I(NO_EXPONENT if block.zero_exponent is None else block.zero_exponent)
    exponent = xp.maximum(lsb + _I(FLOAT32.trailing), _I(core.sums.emin))
    # A zero product needs no care: the accumulator is zero too, or has a larger exponent than zero.
    largest = xp.where(is_zero, no_exponent, exponent)
    largest = fold(block.length, lambda k, most: xp.maximum(most, product(k)[1]), largest)
    last = largest + _I(core.term_bits + lift(core) - f)

    def add_term(k: Any, halves: tuple[Array, Array]) -> tuple[Array, Array]:
        value, its_exponent = product(k)
        term = shift_right_signed(value, (last - its_exponent).astype(_U))
        return halves[1], halves[0] + term

    # Two halves in turn, each of which int32 holds; together they may need a 33rd bit for the sign.
    zero = xp.zeros_like(largest)
    halves = fold(block.length, add_term, (zero, zero + negative_products))
    cut_total = FLOAT32.trailing - f
    aligned = significand << _U(-cut_total) if cut_total < 0 else significand >> _U(cut_total)
    distance = largest - lsb - _I(FLOAT32.trailing)
    term = shift_right(aligned, distance.astype(_U)).astype(_I)
    negative = total >= _U(FLOAT32.sign_bit)
    with_total = halves[0] + xp.where(negative, -term, term)
    result = _encode(*sign_and_magnitude(with_total, halves[1]), largest - _I(f), core)
    return xp.where(is_infinite(total, FLOAT32), total, result)


def sign_and_magnitude(x: Array, y: Array) -> tuple[Array, Array]:
    """Add two int32 arrays whose sum may need 33 bits."""
    xp = namespace(x)
    one = _I(1)
    # Of two odd numbers half a unit each is missing, which only makes a sum of zero negative.
    negative = ((x >> one) + (y >> one)) < _I(0)
    low = x.astype(_U) + y.astype(_U)
    return negative, xp.where(negative, _U(0) - low, low)


def _encode(negative: Array, magnitude: Array, lsb: Array, core: Core) -> Array:
    """Round ``magnitude * 2**lsb`` to the accumulator's format.

    Overflow gives infinity, zero is +0.
    """
    xp = namespace(magnitude)
    fmt, spec = core.sums, core.accumulator
    lead = bit_length(magnitude, FLOAT32) - _I(1) + lsb
    exponent = xp.maximum(lead, _I(FLOAT32.emin))
    shift = exponent - _I(FLOAT32.trailing) - lsb
    right = xp.maximum(shift, _I(0)).astype(_U)
    kept = shift_right(magnitude, right)
    kept = shift_left(kept, xp.maximum(-shift, _I(0)).astype(_U))
    field = (exponent + _I(FLOAT32.bias - 1)).astype(_U)
    too_large = exponent > _I(min(fmt.emax, FLOAT32.bias))
    sign = xp.where(negative, _U(FLOAT32.sign_bit), _U(0))
    bits = (field << _U(FLOAT32.trailing)) + kept
    if spec.mode is RoundingMode.TOWARD_ZERO and fmt.emin == FLOAT32.emin:
        # Truncated already, but for the bits that the format does not have.
        bits = bits & ~_U((1 << (FLOAT32.precision - fmt.precision)) - 1)
    else:
        into_tail = (_I(FLOAT32.width) - shift).astype(_U)
        tail = shift_left(magnitude, into_tail)
        far = shift > _I(FLOAT32.width)
        tail = xp.where(far, (magnitude != _U(0)).astype(_U), tail)
        bits = round_bits(bits | sign, spec, FLOAT32, tail=xp.where(shift > _I(0), tail, _U(0)))
        bits = bits & _U(FLOAT32.sign_bit - 1)
    bits = xp.where(too_large, _U(FLOAT32.infinity), bits)
    return xp.where((magnitude == _U(0)) | (bits == _U(0)), _U(0), bits | sign)


def special_products(
    count: int, patterns: Callable[[Any], tuple[Array, Array]], fold: Fold
) -> Array:
    """Return the sum (pattern) of those of `count` products that are not finite; 0 if all are."""
    magnitude, infinity = _U(FLOAT32.sign_bit - 1), _U(FLOAT32.infinity)

    def add_product(k: Any, seen: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, y = patterns(k)
        size_x, size_y = x & magnitude, y & magnitude
        has_infinity = (size_x == infinity) | (size_y == infinity)
        is_nan = (size_x > infinity) | (size_y > infinity)
        is_nan = is_nan | (has_infinity & ((size_x == _U(0)) | (size_y == _U(0))))
        is_negative = (x ^ y) >= _U(FLOAT32.sign_bit)
        is_infinite = has_infinity & ~is_nan
        nan, positive, negative = seen
        return (
            nan | is_nan,
            positive | (is_infinite & ~is_negative),
            negative | (is_infinite & is_negative),
        )

    x, y = patterns(0)
    none = (x ^ y) != (x ^ y)
    nan, positive, negative = fold(count, add_product, (none, none, none))
    infinite = select(positive, infinity, select(negative, infinity | _U(FLOAT32.sign_bit), _U(0)))
    return select(nan | (positive & negative), _U(NAN), infinite)


def add_special(total: Array, finite: Array, special: Array) -> Array:
    """Choose between a step's finite result and what NaN and infinities make of it.

    `total` is the accumulator before the step, `finite` the one after it as if the products that
    are not finite were zero, `special` the sum of those.
    """
    xp = namespace(total)
    size, infinity = total & _U(FLOAT32.sign_bit - 1), _U(FLOAT32.infinity)
    both = (size == infinity) & (special != _U(0)) & (special != total)
    becomes_nan = (size > infinity) | is_nan(special, FLOAT32) | both
    return xp.where(becomes_nan, _U(NAN), xp.where(special != _U(0), special, finite))
