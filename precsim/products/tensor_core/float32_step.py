"""Steps of a tensor core by float32 multiplications, on a GPU: where no exponent is extreme.

The step is that of `add_in_one_word`, with fewer instructions. A product of two significands is
exact in float32, and so is its product with a power of two. A conversion to an integer cuts off
toward zero, as a tensor core does. Accumulators that round to nearest (fp16) are rounded by
additions, `by_adding`. If E is at least -126 + F, all terms and sums are multiples of 2**-126.
`fits` finds out from the operands whether products keep that distance from float32's smallest
normal number, and a similar one from its largest.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from precsim._arrays import Array
from precsim._calls import choose, compiled
from precsim._loops import repeat
from precsim.formats.carrier import FLOAT32, bit_length, is_infinite
from precsim.products.pallas_gpu import Read, Tile, in_chunks, over_tiles
from precsim.products.specs.core import Core
from precsim.products.tensor_core.step import OneWordFactor, sign_and_magnitude
from precsim.rounding.kernel import by_adding
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec

_U, _I = FLOAT32.uint_dtype, FLOAT32.int_dtype
_TILES = (Tile(32, 64, warps=4), Tile(32, 32, warps=4), Tile(16, 16, warps=1))
"""Larger ones have too many numbers at work for the registers that there are."""


class Float32Factor(NamedTuple):
    """An operand ready for the steps: K first in the left one, (..., K, columns) in the right."""

    value: Array
    """float32, finite."""
    exponent: Array
    """int32, as in `OneWordFactor`."""


def chain_on_gpu(
    x: OneWordFactor,
    y: OneWordFactor,
    total: Array,
    *,
    start: Any,
    count: int,
    core: Core,
    otherwise: Callable[[OneWordFactor, OneWordFactor, Array], Array],
) -> Array:
    """Return accumulators (patterns) after `count` products from index `start` on.

    Shapes as `in_one_word` arranges them. `otherwise` is called for operands that do not fit; 6 to
    8 instructions per product for those that do.
    """
    left, right = (_part(f, start, count, axis) for f, axis in ((x, 0), (y, -2)))
    is_exact = fits(left, right, total, core)
    if is_exact is False:
        return otherwise(x, y, total)

    @compiled()
    def tensor_core_tiles(x: Float32Factor, y: Float32Factor, total: Array) -> Array:
        # `find_unportable` knows the name: its float32 operations are exact.
        return over_tiles(tile, total, x, y, tiles=_TILES)

    def tile(x: Any, y: Any, total: Array, read: Read) -> Array:
        left, right = Float32Factor(*x), Float32Factor(*y)
        body = lambda n, total: add_in_float32(left, right, total, n, core, read)
        return repeat(count // core.block.length, body, total)

    def run(left: Any, right: Any, x: Any, y: Any, total: Array) -> Array:
        return tensor_core_tiles(left, right, total)

    def general(left: Any, right: Any, x: Any, y: Any, total: Array) -> Array:
        return otherwise(x, y, total)

    return choose(is_exact, run, general, left, right, x, y, total)


def _part(factor: OneWordFactor, start: Any, count: int, axis: int) -> Float32Factor:
    bits, exponent = (
        x if x.shape[axis] == count else lax.dynamic_slice_in_dim(x, start, count, axis)
        for x in (factor.bits, factor.exponent)
    )
    return Float32Factor(lax.bitcast_convert_type(bits, jnp.float32), exponent)


def fits(x: Float32Factor, y: Float32Factor, total: Array, core: Core) -> Array | bool:
    """Return whether `add_in_float32` is exact for all products and a first total.

    False, or a traced condition.
    """
    can_round = _truncates(core) or _rounds_to_nearest(core.accumulator)
    if not can_round or core.term_bits + 2 > FLOAT32.precision:
        return False
    lowest = _I(_lowest(core))
    # A product is below 2**(exponent + 2), and there are K of them and the first total.
    limit = FLOAT32.bias if _truncates(core) else by_adding.limit(core.accumulator)
    highest = _I(limit - 2 - x.value.shape[0].bit_length())
    size = total & _U(FLOAT32.sign_bit - 1)
    exponent = (size >> _U(FLOAT32.trailing)).astype(_I) - _I(FLOAT32.bias)
    is_multiple = exponent >= _I(FLOAT32.emin + FLOAT32.trailing)
    found = jnp.all((size == _U(0)) | (is_multiple & (exponent <= highest)))
    lhs, rhs = core.lhs.element, core.rhs.element
    if lhs.emin + rhs.emin >= lowest and lhs.emax + rhs.emax <= highest:
        return found
    (low_x, high_x), (low_y, high_y) = map(_exponents, (x, y))
    in_range: Array = found & (low_x + low_y >= lowest) & (high_x + high_y <= highest)
    return in_range


def _truncates(core: Core) -> bool:
    """Return whether sums are cut off to a format with float32's smallest exponents."""
    truncates = core.accumulator.mode is RoundingMode.TOWARD_ZERO
    return truncates and core.sums.emin == FLOAT32.emin


def _rounds_to_nearest(accumulator: RoundingSpec) -> bool:
    """Return whether `by_adding` rounds the sums, and makes them infinite as tensor cores do."""
    return by_adding.applies(accumulator) and by_adding.too_large(accumulator) == np.inf


def _lowest(core: Core) -> int:
    """Return the smallest E that is needed: what is cut off there is a multiple of 2**-126."""
    return FLOAT32.emin + core.block.fraction_bits


def _exponents(x: Float32Factor) -> tuple[Array, Array]:
    """Return the smallest and the largest exponent of values other than zero."""
    is_zero = x.value == 0
    low = jnp.min(jnp.where(is_zero, _I(FLOAT32.bias), x.exponent), initial=FLOAT32.bias)
    high = jnp.max(jnp.where(is_zero, _I(FLOAT32.emin), x.exponent), initial=FLOAT32.emin)
    return low, high


def add_in_float32(
    x: Float32Factor, y: Float32Factor, total: Array, n: Any, core: Core, read: Read
) -> Array:
    """Return the new accumulators after step n; patterns in and out."""
    first, f = n * core.block.length, _I(core.block.fraction_bits)
    trailing, bias = FLOAT32.trailing, _I(FLOAT32.bias)

    def exponent(k: Any) -> Array:
        return read.column(x.exponent, first + k) + read.row(y.exponent, first + k)

    field = ((total >> _U(trailing)) & _U(2 * FLOAT32.bias + 1)).astype(_I)
    if core.sums.emin > FLOAT32.emin:  # its subnormals have the smallest normal number's exponent
        field = jnp.where(field == _I(0), field, jnp.maximum(field, _I(core.sums.emin) + bias))
    largest = jnp.maximum(field - bias, _I(_lowest(core)))
    largest = in_chunks(core.block.length, lambda k, most: jnp.maximum(most, exponent(k)), largest)
    scale = lax.bitcast_convert_type((f - largest + bias) << _I(trailing), jnp.float32)

    def add_term(k: Any, halves: tuple[Array, Array]) -> tuple[Array, Array]:
        product = read.column(x.value, first + k) * read.row(y.value, first + k)
        return halves[1], halves[0] + read.truncate(product * scale)

    # Two halves as in `add_in_one_word`; of an odd number of terms, this one gets fewer.
    of_total = read.truncate(lax.bitcast_convert_type(total, jnp.float32) * scale)
    halves = in_chunks(core.block.length, add_term, (jnp.zeros_like(of_total), of_total))
    negative, magnitude = sign_and_magnitude(*halves)
    truncates = _truncates(core)
    # As many bits as the conversion holds; the last one says whether others are lost, which is all
    # that rounding to nearest needs.
    kept_bits = core.sums.precision if truncates else FLOAT32.precision
    drop = jnp.maximum(bit_length(magnitude, FLOAT32) - _I(kept_bits), _I(0)).astype(_U)
    kept = lax.shift_left(lax.shift_right_logical(magnitude, drop), drop)
    if not truncates:
        kept = jnp.where(kept == magnitude, kept, kept | lax.shift_left(_U(1), drop))
    # The exponent of a zero would become one of a number.
    bits = lax.bitcast_convert_type(kept.astype(jnp.float32), jnp.uint32)
    bits = bits + ((largest - f).astype(_U) << _U(trailing))
    sign = jnp.where(negative, _U(FLOAT32.sign_bit), _U(0))
    result = jnp.where(magnitude == _U(0), _U(0), bits | sign)
    return result if truncates else _to_nearest(result, total, core.accumulator)


def _to_nearest(sums: Array, total: Array, accumulator: RoundingSpec) -> Array:
    """Round patterns that were rounded to odd.

    A zero is +0, and what was infinite before the step stays.
    """
    value = lax.bitcast_convert_type(sums, jnp.float32)
    rounded = by_adding.by_adding(value, accumulator, has_negative_zero=False)
    bits = lax.bitcast_convert_type(jnp.where(rounded == 0, jnp.float32(0), rounded), jnp.uint32)
    return jnp.where(is_infinite(total, FLOAT32), total, bits)
