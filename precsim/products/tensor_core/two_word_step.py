"""One step of a tensor core with a sum of two words: any L and F, sticky bits, any rounding mode.

`add_in_one_word` does the same for sums of one word, in a third of the operations; tests compare
both with `oracle`. Two words hold the sums that `check_fused` lets through.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from precsim._arrays import Array, absolute, namespace
from precsim._loops import Fold
from precsim.formats.carrier import FLOAT32, decompose, is_infinite, shift_left, shift_right
from precsim.products.specs.core import Core
from precsim.products.tensor_core.step import NAN, NO_EXPONENT
from precsim.rounding.kernel import wide
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.modes import RoundingMode

_U, _I = FLOAT32.uint_dtype, FLOAT32.int_dtype
_WIDTH = FLOAT32.width
Words: TypeAlias = tuple[Array, Array]


def add_in_two_words(
    total: Array,
    term: Callable[[Any], tuple[Array, Array]],
    core: Core,
    fold: Fold,
    *,
    random_bits: Array | None,
) -> Array:
    """Return the new accumulators; patterns in and out.

    About 30 operations per term and 150 to round. `term(k)` is the pair (significand, exponent) of
    the k-th term, int32; a zero has `NO_EXPONENT` or one as low. Infinite accumulators stay.
    """
    xp = namespace(total)
    block = core.block
    f = block.fraction_bits
    significand, lsb = decompose(total, FLOAT32)
    no_exponent = _I(NO_EXPONENT if block.zero_exponent is None else block.zero_exponent)
    exponent = xp.maximum(lsb + _I(FLOAT32.trailing), _I(core.sums.emin))
    largest = xp.where(significand == _U(0), no_exponent, exponent)
    largest = fold(core.terms, lambda k, most: xp.maximum(most, term(k)[1]), largest)

    def add_term(k: Any, sum_: Words) -> Words:
        value, its_exponent = term(k)
        up = f - core.term_bits
        words = _aligned(absolute(value).astype(_U), up, largest - its_exponent, block.sticky)
        return _plus(sum_, words, value < _I(0))

    zero = xp.zeros_like(significand)
    distance = largest - (lsb + _I(FLOAT32.trailing))
    words = _aligned(significand, f - FLOAT32.trailing, distance, block.sticky)
    start = _plus((zero, zero), words, total >= _U(FLOAT32.sign_bit))
    hi, lo = fold(core.terms, add_term, start)
    result = _encode(hi, lo, largest - _I(f), core, random_bits)
    return xp.where(is_infinite(total, FLOAT32), total, result)


def _aligned(magnitude: Array, up: int, down: Array, sticky: bool) -> Words:
    """Return ``magnitude * 2**(up - down)`` in two words, cut off.

    If `sticky`, the last bit says whether anything was lost.
    """
    xp = namespace(magnitude, down)
    if up >= _WIDTH:
        hi, lo = magnitude << _U(up - _WIDTH), magnitude & _U(0)
    elif up > 0:
        hi, lo = magnitude >> _U(_WIDTH - up), magnitude << _U(up)
    else:
        hi, lo, down = magnitude & _U(0), magnitude, down - _I(up)
    # The accumulator's exponent may lie above its leading bit, so that it moves up.
    down = xp.minimum(down, _I(2 * _WIDTH))
    if sticky:
        return wide.shift_right_jam(hi, lo, down, FLOAT32)
    is_long = down >= _I(_WIDTH)
    short = xp.where(is_long, down - _I(_WIDTH), down)
    top, bottom = xp.where(is_long, _U(0), hi), xp.where(is_long, hi, lo)
    low = shift_right(bottom, short, FLOAT32) | shift_left(top, _I(_WIDTH) - short, FLOAT32)
    return shift_right(top, short, FLOAT32), low


def _plus(x: Words, y: Words, negative: Array) -> Words:
    """Add or subtract numbers of two words, two's complement."""
    xp = namespace(x[0], y[0])
    hi = xp.where(negative, ~y[0] + (y[1] == _U(0)).astype(_U), y[0])
    lo = xp.where(negative, _U(0) - y[1], y[1])
    low = x[1] + lo
    return x[0] + hi + (low < lo).astype(_U), low


def _encode(hi: Array, lo: Array, lsb: Array, core: Core, random_bits: Array | None) -> Array:
    """Round a sum to the accumulator's format; overflow gives infinity, zero is +0."""
    xp = namespace(hi)
    spec = core.accumulator
    negative = hi >= _U(FLOAT32.sign_bit)
    zero = xp.zeros_like(hi)
    hi, lo = _plus((zero, zero), (hi, lo), negative)
    number = wide.normalise(negative, lsb + _I(2 * _WIDTH - 1), hi, lo, FLOAT32)
    bits, tail, rest = wide.pack(number, FLOAT32)
    shape = bits.shape
    noise = None if random_bits is None else xp.broadcast_to(random_bits, shape).reshape(-1)
    bits = round_bits(
        bits.reshape(-1),
        spec,
        FLOAT32,
        tail=tail.reshape(-1),
        rest=rest.reshape(-1),
        random_bits=noise if spec.mode is RoundingMode.STOCHASTIC else None,
    ).reshape(shape)
    size, infinity = bits & _U(FLOAT32.sign_bit - 1), _U(FLOAT32.infinity)
    sign = xp.where(negative, _U(FLOAT32.sign_bit), _U(0))
    bits = xp.where(size > infinity, _U(NAN), bits)
    bits = xp.where(number.exponent > _I(core.sums.emax), infinity | sign, bits)
    return xp.where(size == _U(0), _U(0), bits)
