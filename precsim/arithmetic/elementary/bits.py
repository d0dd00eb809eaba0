"""Elementary functions of carrier patterns, with a relative error below 2**-59 (float64: 2**-123).

Each function is brought to one polynomial on a small cell (`taylor`), evaluated in fixed point of W
bits, two words of the carrier's unsigned type (W = 64 for float32, 128 for float64). In units e =
2**-W of the last place, a polynomial is wrong by less than 3 e (rsqrt in float64: 4.1 e): 1.1 e for
coefficients and the end of the series (compared with MPFR, cell by cell), 3 e * 2**-shift for each
product of Horner's rule, 1 e for the last. Values are above 0.35, so that is below 9 e relative.
With reduction and reconstruction: exp and rsqrt 11 e, tanh and erf 12 e, log 28 e (k * log(2) and
log(1 + t) may cancel to 0.28), sigmoid 29 e (a division, 6 e, and a last product, 12 e). So all
stay below 32 e = 2**-(W - 5); the largest that tests have seen is 9 e.

Such an error moves a result to the other side of a rounding boundary only where the exact result is
closer to it. Boundaries of formats of precision p <= 24, fixed point included, are numbers of 25
bits, and no result for any of the 2**32 float32 numbers is so close to one: the closest, that of
log(0x65d890d3), is 59 units away (tests/arithmetic/elementary/test_hard_cases.py computes all
distances). Except

* results 0, 1/2, 1 and powers of two, which are put in place exactly;
* results next to 1, 1/2 or x for arguments beyond thresholds (exp near 0, tanh of large or tiny
  numbers ...), and those of exp and sigmoid for some small x. The side on which they lie is known;
  they are put there, `_SLIVER` units away, and no other boundary comes between.

The last bit of all other results is set, since none is exact (theorem of Lindemann; see
`reciprocal_root`).
"""

from precsim._arrays import Array, namespace
from precsim.arithmetic.elementary import piecewise
from precsim.arithmetic.elementary.piecewise import (
    Words,
    choose,
    constant,
    evaluate,
    reciprocal,
    scaled_fraction,
)
from precsim.arithmetic.elementary.taylor import log2_of_e, log_of_two, table
from precsim.arithmetic.exact import finish
from precsim.formats.carrier import (
    Carrier,
    bit_length,
    is_infinite,
    is_nan,
    is_zero,
    select,
    shift_left,
    shift_right,
)
from precsim.rounding.kernel import wide
from precsim.rounding.kernel.wide import Packed, Wide, normalise

_SLIVER = 1 << 6
"""Distance from a boundary at which results next to it are put, more than the error.

In units of the last bit."""


def exp_bits(bits: Array, carrier: Carrier, zero_is_negative: bool) -> Packed:
    """Return exp of carrier patterns."""
    x, infinite = wide.unpack(bits, carrier), is_infinite(bits, carrier)
    result = _put(exponential(x, carrier), is_zero(bits, carrier), 0, _one(carrier), carrier)
    result = _put(result, infinite, carrier.emin, 0, carrier)
    return finish(result, infinite & ~x.negative, is_nan(bits, carrier), result.negative, carrier)


def log_bits(bits: Array, carrier: Carrier, zero_is_negative: bool) -> Packed:
    """Return the natural logarithm of carrier patterns."""
    x, zero = wide.unpack(bits, carrier), is_zero(bits, carrier)
    result = logarithm(x, carrier)
    is_one = bits == carrier.uint(carrier.bias << carrier.trailing)
    result = _put(result, is_one, carrier.emin, 0, carrier)
    invalid = is_nan(bits, carrier) | (x.negative & ~zero)
    return finish(result, zero | is_infinite(bits, carrier), invalid, zero, carrier)


def tanh_bits(bits: Array, carrier: Carrier, zero_is_negative: bool) -> Packed:
    """Return tanh of carrier patterns."""
    result = hyperbolic_tangent(wide.unpack(bits, carrier), carrier)
    return _finish_odd(result, bits, carrier)


def erf_bits(bits: Array, carrier: Carrier, zero_is_negative: bool) -> Packed:
    """Return the error function of carrier patterns."""
    return _finish_odd(error_function(wide.unpack(bits, carrier), carrier), bits, carrier)


def sigmoid_bits(bits: Array, carrier: Carrier, zero_is_negative: bool) -> Packed:
    """Return 1 / (1 + exp(-x)) of carrier patterns."""
    x, infinite = wide.unpack(bits, carrier), is_infinite(bits, carrier)
    result = _put(logistic(x, carrier), is_zero(bits, carrier), -1, _one(carrier), carrier)
    result = _put(result, infinite, 0, _one(carrier), carrier)
    result = _put(result, infinite & x.negative, carrier.emin, 0, carrier)
    nan = is_nan(bits, carrier)
    return finish(result, nan & False, nan, result.negative, carrier)


def rsqrt_bits(bits: Array, carrier: Carrier, zero_is_negative: bool) -> Packed:
    """Return 1 / sqrt(x) of carrier patterns."""
    x, zero = wide.unpack(bits, carrier), is_zero(bits, carrier)
    result = reciprocal_root(x, carrier)
    result = _put(result, is_infinite(bits, carrier), carrier.emin, 0, carrier)
    invalid = is_nan(bits, carrier) | (x.negative & ~zero)
    return finish(result, zero, invalid, x.negative, carrier)


def _finish_odd(result: Wide, bits: Array, carrier: Carrier) -> Packed:
    """Put in place what tanh and erf share: 0 at 0 and 1 at infinity, with the sign of x."""
    result = _put(result, is_zero(bits, carrier), carrier.emin, 0, carrier)
    result = _put(result, is_infinite(bits, carrier), 0, _one(carrier), carrier)
    nan = is_nan(bits, carrier)
    return finish(result, nan & False, nan, result.negative, carrier)


def exponential(x: Wide, carrier: Carrier) -> Wide:
    """exp(x) for x other than 0; next to 1 for tiny x.

    1 + g with g of a few bits is a boundary, and x may be g - g**2 / 2 exactly: then exp(x) is
    about 1 + g - g**3 / 3. So where `_is_close`, numbers that cannot be told from a boundary are on
    the side of 1.
    """
    exponent, words = _power(x, carrier)
    sliver = constant(_SLIVER, carrier)
    below, above = (f(words, sliver, carrier) for f in (piecewise.subtract, piecewise.add))
    words = choose(_is_close(x, carrier), choose(x.negative, above, below), words)
    result = _inexact(normalise(x.negative & False, exponent, *words, carrier), carrier)
    tiny = x.exponent < carrier.signed(7 - 2 * carrier.width)
    return _beside(result, tiny, 0, x.negative, carrier)


def _is_close(x: Wide, carrier: Carrier) -> Array:
    """Return where a result near 1 or 1/2 may be nearer to another 25-bit number than its error.

    It is not so for x below 2**-26, where 1 or 1/2 is the only one near, nor where x**3 / 48 is
    larger than the error; so, nowhere in float64.
    """
    i = carrier.signed
    return (x.exponent >= i(-26)) & (x.exponent < i((13 - 2 * carrier.width) // 3))


def _power(x: Wide, carrier: Carrier) -> tuple[Array, Words]:
    """Return (k, exp(r) / 2) with ``x = k * log(2) + r``; abs(r) is at most about log(2) / 2.

    Beyond 2**7 (float32) or 2**10 (float64) the argument is replaced by a number just below that:
    its exponential is beyond the carrier's range too, or below all that a rounding can see.
    """
    u, i, width = carrier.uint, carrier.signed, carrier.width
    integer_bits = carrier.exponent_bits - 1
    large = x.exponent >= i(integer_bits)
    hi = select(large, ~u(0), x.hi)
    x = Wide(x.negative, select(large, i(integer_bits - 1), x.exponent), hi, x.lo)
    # k: x rounded down to a word, times log2(e), rounded to an integer; errors of it only widen r.
    fixed = shift_right(hi, i(integer_bits - 1) - x.exponent, carrier)
    scaled = wide.multiply_words(fixed, u(log2_of_e(width - 1)), carrier)[0]
    point = width - 1 - integer_bits
    k = (scaled + u(1 << (point - 1))) >> u(point)
    # k * log(2) modulo 1 from three words of log(2).
    first, middle, last = _words(log_of_two(3 * width), 3, carrier)
    carry, low = wide.multiply_words(k, middle, carrier)
    below = Words(u(0), wide.multiply_words(k, last, carrier)[0])
    multiple = piecewise.add(Words(k * first + carry, low), below, carrier)
    rest = piecewise.subtract(scaled_fraction(x, 0, carrier), multiple, carrier)
    offset = constant(3 << (2 * width - 3), carrier)  # the table begins at -3/8
    up, down = (f(offset, rest, carrier) for f in (piecewise.add, piecewise.subtract))
    signed = k.astype(carrier.int_dtype)
    words = evaluate(table("exp", width), choose(x.negative, down, up), carrier)
    return select(x.negative, -signed, signed), words


def logarithm(x: Wide, carrier: Carrier) -> Wide:
    """log(x) for positive x other than 1: k * log(2) + log(1 + t), 1 + t in [3/4, 3/2)."""
    u, i, width = carrier.uint, carrier.signed, carrier.width
    upper = (x.hi & u(1 << (width - 2))) != u(0)
    t = select(upper, u(0) - x.hi, x.hi << u(1))  # its size; a fraction
    quarter = u(1 << (width - 2))
    place = Words(select(upper, quarter - t, quarter + t), t & u(0))
    length = bit_length(t, carrier)
    factor = Words(shift_left(t, i(width) - length, carrier), t & u(0))
    product = piecewise.multiply(evaluate(table("log", width), place, carrier), factor, carrier)
    small = normalise(upper, length - i(width), *product, carrier)
    k = x.exponent + upper.astype(carrier.int_dtype)
    size = namespace(k).abs(k).astype(carrier.uint_dtype)
    length = bit_length(size, carrier)
    factor = Words(shift_left(size, i(width) - length, carrier), t & u(0))
    product = piecewise.multiply(constant(log_of_two(2 * width), carrier), factor, carrier)
    large = normalise(k < i(0), length - i(1), *product, carrier)
    return _inexact(wide.add(large, small, carrier, zero_is_negative=False), carrier)


def hyperbolic_tangent(x: Wide, carrier: Carrier) -> Wide:
    """tanh(x) for x other than 0; just below x for tiny x."""
    tiny = x.exponent < carrier.signed(5 - carrier.width)
    below_half = constant(_one(carrier) - _SLIVER, carrier)
    return _odd("tanh", x, tiny, below_half, carrier)


def error_function(x: Wide, carrier: Carrier) -> Wide:
    """erf(x) for x other than 0."""
    return _odd("erf", x, x.negative & False, constant(0, carrier), carrier)


def _odd(name: str, x: Wide, is_known: Array, known: Words, carrier: Carrier) -> Wide:
    """Return x * (f(x) / x); beyond the table the number just below 1.

    The second factor comes from the table, or is `known`.
    """
    u, i = carrier.uint, carrier.signed
    polynomials = table(name, carrier.width)
    place = scaled_fraction(x, polynomials.argument_bits, carrier)
    factor = choose(is_known, known, evaluate(polynomials, place, carrier))
    product = piecewise.multiply(factor, Words(x.hi, x.hi & u(0)), carrier)
    scale = namespace(x.exponent).maximum(x.exponent, i(-1))  # the table holds f(x) / x * 2**scale
    result = _inexact(normalise(x.negative, x.exponent - scale, *product, carrier), carrier)
    beyond = (place.hi >> u(carrier.width - polynomials.index_bits)) >= u(polynomials.hi.shape[1])
    beyond = beyond | (x.exponent >= i(polynomials.argument_bits))
    return _beside(result, beyond, 0, ~(x.negative & False), carrier)


def logistic(x: Wide, carrier: Carrier) -> Wide:
    """1 / (1 + exp(-x)) for x other than 0: 1 / (1 + q) or q / (1 + q), q = exp(-abs(x)).

    Where `_is_close`, that is 1/2 + x / 4 - x**3 / 48, and 1/2 + x / 4 may be a boundary. (The last
    bit of x / 4 is worth more than x**3 / 48; so no other one is close.)
    """
    u, i, width = carrier.uint, carrier.signed, carrier.width
    k, power = _power(Wide(~(x.negative & False), *x[1:]), carrier)
    half_q = wide.shift_right_jam(*power, -k, carrier)
    positive = reciprocal(Words(half_q[0] | u(carrier.sign_bit), half_q[1]), carrier)
    q = normalise(x.negative & False, k, *power, carrier)
    negative = piecewise.multiply(Words(q.hi, q.lo), positive, carrier)
    close = _is_close(x, carrier)
    half, sliver = constant(_one(carrier), carrier), constant(_SLIVER, carrier)
    quarter = piecewise.subtract(scaled_fraction(x, 2, carrier), sliver, carrier)
    positive = choose(close, piecewise.add(half, quarter, carrier), positive)
    negative = choose(close, piecewise.subtract(half, quarter, carrier), negative)
    words = choose(x.negative, negative, positive)
    exponent = select(x.negative & ~close, q.exponent, i(-1))
    result = _inexact(normalise(x.negative & False, exponent, *words, carrier), carrier)
    result = _beside(result, x.exponent < i(8 - 2 * width), -1, x.negative, carrier)
    return _beside(result, ~x.negative & (k < i(7 - 2 * width)), 0, ~x.negative, carrier)


def reciprocal_root(x: Wide, carrier: Carrier) -> Wide:
    """1 / sqrt(x) for positive x, exact for powers of 4.

    No other result is a rounding boundary: x * y**2 = 1 with dyadic x and y makes both powers of
    two. If y has 25 bits and x has p, then 1 - x * y**2 is at least 2**-(p + 50), so y is not
    closer to the root than 2**-(p + 51): for float64 inputs that is proved without computing all
    distances.
    """
    u, i, width = carrier.uint, carrier.signed, carrier.width
    odd = (x.exponent & i(1)) == i(1)
    quarter = select(odd, x.hi, x.hi >> u(1))  # x = 4 * quarter * 4**k
    place = Words(quarter - u(1 << (width - 2)), x.hi & u(0))
    words = evaluate(table("rsqrt", width), place, carrier)
    k = x.exponent >> i(1)
    result = _inexact(normalise(x.negative & False, i(-1) - k, *words, carrier), carrier)
    return _put(result, place.hi == u(0), -k, _one(carrier), carrier)


def _one(carrier: Carrier) -> int:
    """Significand of powers of two."""
    return 1 << (2 * carrier.width - 1)


def _words(value: int, count: int, carrier: Carrier) -> list[Array]:
    low = (1 << carrier.width) - 1
    return [carrier.uint((value >> (carrier.width * k)) & low) for k in reversed(range(count))]


def _inexact(x: Wide, carrier: Carrier) -> Wide:
    """Set the sticky bit."""
    return Wide(x.negative, x.exponent, x.hi, x.lo | carrier.uint(1))


def _put(x: Wide, where: Array, exponent: Array | int, significand: int, carrier: Carrier) -> Wide:
    """Put a number in place, with the sign of `x`."""
    words = choose(where, constant(significand, carrier), Words(x.hi, x.lo))
    exponent = carrier.signed(exponent) if isinstance(exponent, int) else exponent
    return Wide(x.negative, select(where, exponent, x.exponent), *words)


def _beside(x: Wide, where: Array, exponent: int, below: Array, carrier: Carrier) -> Wide:
    """Put in place the number just above 2**exponent, or just below."""
    above = _put(x, where, exponent, _one(carrier) + _SLIVER, carrier)
    return _put(above, where & below, exponent - 1, 2 * _one(carrier) - _SLIVER, carrier)
