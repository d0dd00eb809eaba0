"""One multiply-accumulate, `fl(total + x * y)`, on arrays: the general way and three fast ones.

The general way is integer arithmetic and right for every spec and every input. The fast ones use
float32 arithmetic and return the same bits where two conditions hold, which `exact_range` states:
no intermediate result may be a nonzero float32 subnormal (XLA flushes those) or overflow. All of
them are immune to the contraction of ``x * y + z`` into a fused multiply-add: either the product is
exact in float32, so that contracting changes nothing, or it is built from products that are.
"""

from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax

from precsim._arrays import Array, absolute
from precsim.formats.carrier import FLOAT32
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.registry import Format, get_format
from precsim.formats.storage import significand_bits
from precsim.products.orders.multiply_add import MultiplyAdd
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.kernel import by_adding
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec

_U, _I = np.uint32, np.int32


def fast_step(
    spec: MatmulSpec, *, starts_at_zero: bool = False, in_program: bool = False
) -> MultiplyAdd | None:
    """Return a spec's float32 step, None if it has none; `in_program` for one of `pallas_gpu`.

    Totals that start at +0 get to -0 by no addition: only the sum of two negative zeros is one, to
    nearest.
    """
    if spec.lhs is None or spec.rhs is None or spec.product is not None:
        return None
    if not _makes_no_subnormal(spec.accumulator):
        return None
    product_bits = significand_bits(spec.lhs.format) + significand_bits(spec.rhs.format)
    is_fp32 = _is_plain_fp32(spec.accumulator)

    def stored(x: Array) -> Array:
        if by_adding.applies(spec.accumulator):
            rounded = by_adding.by_adding if in_program else by_adding.round_by_adding
            return rounded(x, spec.accumulator, has_negative_zero=not starts_at_zero)
        return round_array(x, None, spec.accumulator)

    if product_bits <= FLOAT32.precision:
        if is_fp32 and spec.adder is None:
            return add_exact_product
        if spec.adder is not None and _is_plain_fp32(spec.adder):
            return lambda total, x, y: stored(total + x * y)
        if spec.adder is None and _rounds_from_odd(spec.accumulator):
            return lambda total, x, y: stored(add_to_odd(total, x * y))
    elif is_fp32 and spec.adder is None:
        return add_split_product
    return None


def _is_plain_fp32(spec: RoundingSpec) -> bool:
    """Return whether a rounding is the one of float32 arithmetic."""
    return spec == RoundingSpec(format=get_format("fp32"))


def _makes_no_subnormal(spec: RoundingSpec) -> bool:
    """Return whether rounding multiples of 2**-126 gives such multiples only.

    All results are multiples of what was rounded, except the largest value and the smallest value
    of a format without zero.
    """
    fmt = spec.format
    if isinstance(fmt, FixedPointFormat):
        return -fmt.fraction_bits >= FLOAT32.emin
    if fmt.exponent_bits is None:
        return True
    has_low_end = fmt.has_zero or fmt.emin >= FLOAT32.emin
    return has_low_end and fmt.emax - fmt.precision + 1 >= FLOAT32.emin


def _rounds_from_odd(spec: RoundingSpec) -> bool:
    """Return whether rounding what float32 rounded to odd gives the rounding of the exact number.

    True with two spare bits (Boldo and Melquiond, IEEE Trans. Computers 57(4), 2008). In fixed
    point the quantum must lie two bits above the last bit of every value that does not saturate.
    """
    if spec.mode in (RoundingMode.STOCHASTIC, RoundingMode.TOWARD_NEGATIVE):
        return False  # the latter gives an exact cancellation the other sign
    return significand_bits(spec.format) + 2 <= FLOAT32.precision and spec.overflow.value != "wrap"


def add_exact_product(total: Array, x: Array, y: Array) -> Array:
    """`total + x * y` in float32, for products that float32 holds exactly."""
    return total + x * y


def add_to_odd(x: Array, y: Array) -> Array:
    """Sum of two float32 arrays, rounded to odd: truncated, last bit set if inexact."""
    total, error = two_sum(x, y)
    return jam(total, error)


def two_sum(x: Array, y: Array) -> tuple[Array, Array]:
    """Sum and its exact rounding error (Knuth, TAOCP 2, 4.2.2, theorem B); six additions."""
    total = x + y
    y_part = total - x
    return total, (x - (total - y_part)) + (y - y_part)


def add_three(x: Array, y: Array, z: Array) -> Array:
    """`x + y + z`, rounded once to float32, where no intermediate result is subnormal or overflows.

    Through an odd intermediate (Boldo and Melquiond, IEEE Trans. Computers 57(4), 2008, algorithm
    5).
    """
    inner, inner_error = two_sum(y, z)
    outer, outer_error = two_sum(x, inner)
    return outer + add_to_odd(inner_error, outer_error)


def jam(total: Array, error: Array) -> Array:
    """Move a rounded sum to the odd neighbour on the side of its error; infinities and NaN stay."""
    bits = lax.bitcast_convert_type(total, jnp.int32)
    error_bits = lax.bitcast_convert_type(error, jnp.int32)
    # If the error has the other sign, the sum was rounded away from zero: step back. An odd one
    # stays odd.
    jammed = (bits + ((bits ^ error_bits) >> _I(31))) | _I(1)
    # The error of what is not finite is NaN.
    inexact = absolute(error) > 0
    return lax.bitcast_convert_type(jnp.where(inexact, jammed, bits), jnp.float32)


def add_split_product(total: Array, x: Array, y: Array) -> Array:
    """`total + x * y`, rounded once to float32, from exact products of half significands.

    The product is split into `high + low` (Dekker 1971, with splits of 12 and 11 bits made by
    integer rounding); then `add_three` rounds the sum once.
    """
    xh, xl = split(x)
    yh, yl = split(y)
    middle = xh * yl + xl * yh  # 24 bits: exact, contracted or not
    top = xh * yh
    lead = top + middle
    rest = ((top - lead) + middle) + xl * yl
    high = lead + rest
    low = (lead - high) + rest
    result = add_three(high, total, low)
    # Infinities and NaN come out of the plain expression; there the error terms are meaningless.
    plain = total + x * y
    is_finite = (lax.bitcast_convert_type(plain, jnp.uint32) & _U(0x7FFFFFFF)) < _U(0x7F800000)
    # So does the sign of an exact zero.
    return jnp.where(is_finite & (result != 0), result, plain)


def split(x: Array) -> tuple[Array, Array]:
    """Split a float32 into 12 leading bits, rounded, and an exact rest of 11 bits and a sign."""
    bits = lax.bitcast_convert_type(x, jnp.uint32)
    high = lax.bitcast_convert_type((bits + _U(0x800)) & _U(0xFFFFF000), jnp.float32)
    return high, x - high


Extent: TypeAlias = tuple[Array, Array]
"""Exponents of the smallest last bit in an array, and above its largest number, each an int32."""


def exact_range(
    a: Array,
    b: Array,
    c: Array | None,
    spec: MatmulSpec,
    known: tuple[Extent | None, Extent | None] = (None, None),
) -> Array | bool:
    """Return whether the fast step is exact for these operands: True, or a traced condition.

    Operands and intermediate results are multiples of the smallest last bits and of their product;
    if these are at least 2**-126, none is a nonzero subnormal. None overflows if the sum of the
    largest products cannot. `known` are extents of a and b that have been found already.
    """
    return in_range(a, b, c, spec, FLOAT32.emin, _highest(spec), known)


def _highest(spec: MatmulSpec) -> int:
    # Two spare binades for the error-free transforms.
    highest = FLOAT32.bias - 2
    if not _is_plain_fp32(spec.accumulator) and by_adding.applies(spec.accumulator):
        highest -= FLOAT32.bias - by_adding.limit(spec.accumulator)
    return highest


def is_exact_by_format(spec: MatmulSpec, depth: int) -> bool:
    """Return whether the fast step is exact for sums of so many products, whatever they are of."""
    return _is_static(spec, FLOAT32.emin, _highest(spec) - depth.bit_length())


def in_range(
    a: Array,
    b: Array,
    c: Array | None,
    spec: MatmulSpec,
    lowest: int,
    highest: int,
    known: tuple[Extent | None, Extent | None] = (None, None),
) -> Array | bool:
    """Return whether numbers are multiples of 2**lowest and sums of a product below 2**highest.

    Operands, products and first totals; True, or a traced condition.
    """
    highest -= a.shape[-1].bit_length()
    if c is None and _is_static(spec, lowest, highest):
        return True
    (low_a, high_a), (low_b, high_b) = known[0] or _extent(a), known[1] or _extent(b)
    found = jnp.minimum(jnp.minimum(low_a, low_b), low_a + low_b)
    fits = (found >= lowest) & (high_a + high_b <= highest)
    if c is not None:
        low_c, high_c = _extent(c)
        fits = fits & (low_c >= lowest) & (high_c <= highest)
    return fits


def _is_static(spec: MatmulSpec, lowest: int, highest: int) -> bool:
    """Return whether the formats of the operands alone put all their products in a range."""
    ranges = [_static_range(s.format) for s in (spec.lhs, spec.rhs) if s is not None]
    if len(ranges) < 2 or None in ranges:
        return False
    (low_a, high_a), (low_b, high_b) = ranges  # type: ignore[misc]
    return min(low_a, low_b, low_a + low_b) >= lowest and high_a + high_b <= highest


def _static_range(fmt: Format) -> tuple[int, int] | None:
    """Exponents of the smallest last bit and above the largest value; None if data must tell."""
    if isinstance(fmt, FixedPointFormat):
        return -fmt.fraction_bits, fmt.integer_bits + 1
    if fmt.exponent_bits is None:
        return None
    return fmt.emin - fmt.precision + 1, fmt.emax + 1


def _extent(x: Array) -> Extent:
    # One reduction of pairs: XLA compiles it in a sixth of the time of two, and vectorises it.
    found: Extent = lax.reduce(
        exponents(x),
        EXTENT_OF_NOTHING,
        lambda x, y: (lax.min(x[0], y[0]), lax.max(x[1], y[1])),
        range(x.ndim),
    )
    return found


EXTENT_OF_NOTHING = _I(0), _I(2 - FLOAT32.bias)


def exponents(x: Array) -> Extent:
    """Return the exponents of each number, of which the least and the largest are the extent.

    Zeros, infinities and NaN do not count.
    """
    infinity, trailing = _I(FLOAT32.infinity), _I(FLOAT32.trailing)
    magnitude = lax.bitcast_convert_type(x, jnp.int32) & _I(FLOAT32.sign_bit - 1)
    counts = (magnitude < infinity) & (magnitude > _I(0))
    field = jnp.maximum(magnitude >> trailing, _I(1))
    capped = magnitude | _I(1 << FLOAT32.trailing)
    zeros_below = lax.population_count((capped & -capped) - _I(1))
    last = field - _I(FLOAT32.bias + FLOAT32.trailing) + zeros_below
    low, high = EXTENT_OF_NOTHING
    return jnp.where(counts, last, low), jnp.where(counts, field - _I(FLOAT32.bias - 1), high)
