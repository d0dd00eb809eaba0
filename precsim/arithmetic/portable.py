"""Float32 arithmetic with the same bits on every device of XLA, at the speed of hardware.

A float32 addition and a multiplication are rounded alike everywhere, but three things around them
are not: subnormal numbers (kept on GPUs, flushed on CPUs), multiplications and additions contracted
into one, and the platform's own division, roots, functions and sums. Here every result below
`SMALLEST` becomes +0, which hides the first difference; that takes integer operations, which keep a
product and a sum apart; and everything else is made of these operations or comes from precsim's
integer arithmetic.

The functions take and return float32 arrays, NumPy or JAX, whose numbers are zero, at least
`SMALLEST` in magnitude, infinite or NaN (`flush` makes them so). NaN keeps no payload that one
could rely on. JAX's gradients are those of the unrounded operations, in the platform's arithmetic;
portable ones are in `precsim.training.functions.portable`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from precsim._arrays import Array, bitcast, entry, is_jax, namespace, with_entry
from precsim._calls import call, straight_through, with_automatic_axes
from precsim._loops import by_platform, computed_once, repeat
from precsim.arithmetic.elementary.elementary import exp as exp_rounded
from precsim.arithmetic.elementary.elementary import log as log_rounded
from precsim.arithmetic.elementary.elementary import rsqrt as rsqrt_rounded
from precsim.arithmetic.elementary.elementary import tanh as tanh_rounded
from precsim.arithmetic.elementwise import divide as divide_rounded
from precsim.formats.carrier import FLOAT32

SMALLEST = 2.0**-125
"""Smaller results are zero. Twice the smallest normal number: just below that one, processors that
flush subnormals and those that keep them round differently."""

_U = FLOAT32.uint_dtype
_MAGNITUDE = _U(FLOAT32.sign_bit - 1)
_TINY = _U(int(np.float32(SMALLEST).view(np.uint32)))


def flush(x: Array) -> Array:
    """Return +0 for every number below `SMALLEST` in magnitude and for -0; others as they are."""
    return straight_through(_flush, x)


def _flush(x: Array) -> Array:
    bits = bitcast(x, _U)
    is_tiny = (bits & _MAGNITUDE) < _TINY
    return bitcast(namespace(x).where(is_tiny, _U(0), bits), FLOAT32.float_dtype)


def _apart(function: Callable[..., Array], *arrays: Any) -> Array:
    """Apply an elementwise function of many operations, apart from all that uses its result.

    XLA takes integer operations for cheap: it would put the hundreds that make an exponential or a
    quotient into the loop of every use, as often as the result is used. The function is one of this
    module, not made for the call: each is compiled once for arrays of one shape.
    """
    return call(_once, function, *arrays) if any(map(is_jax, arrays)) else function(*arrays)


def _once(function: Callable[..., Array], *arrays: Any) -> Array:
    arrays = tuple(namespace(*arrays).broadcast_arrays(*arrays))
    apart = lambda *arrays: computed_once(function(*arrays))
    return by_platform(apart, partial(_by_halves, function), *arrays)


def _by_halves(function: Callable[..., Array], *arrays: Any) -> Array:
    """Apply a function to halves of the arrays: a GPU's compiler moves nothing out of a loop."""
    import jax.numpy as jnp

    shape, size = arrays[0].shape, arrays[0].size
    halves = [jnp.pad(x.reshape(-1), (0, size % 2)).reshape(2, -1) for x in arrays]

    def body(k: Array, result: Array) -> Array:
        return with_entry(result, k, function(*(entry(x, k) for x in halves)))

    zeros: Array = jnp.zeros_like(halves[0])
    result = repeat(2, body, zeros)
    return result.reshape(-1)[:size].reshape(shape)


def settle(x: Array) -> Array:
    """Return an array as it is, computed once, though it may be used many times."""
    return _apart(_same, x)


def _same(x: Array) -> Array:
    return x


def add(x: Any, y: Any) -> Array:
    """Return x + y, rounded to nearest, flushed."""
    return flush(x + y)


def subtract(x: Any, y: Any) -> Array:
    """Return x - y, rounded to nearest, flushed."""
    return flush(x - y)


def multiply(x: Any, y: Any) -> Array:
    """Return x * y, rounded to nearest, flushed."""
    return flush(x * y)


def divide(x: Any, y: Any) -> Array:
    """Return x / y, rounded to nearest, flushed."""
    return _apart(_divide, x, y)


def _divide(x: Array, y: Array) -> Array:
    return _faster("divide", divide_rounded, x, y)


def _faster(name: str, by_integers: Callable[..., Array], *arrays: Array) -> Array:
    """Apply a function, and flush; by float64, which is faster, where XLA compiles it."""
    if not any(map(is_jax, arrays)):
        return flush(by_integers(*arrays, "fp32"))
    from precsim._lax_arrays import plain
    from precsim.arithmetic.elementary import float64

    return flush(float64.apply(name, *map(plain, arrays)))


def sqrt(x: Array) -> Array:
    """Return the square root, rounded to nearest."""
    return _apart(_sqrt, x)


def _sqrt(x: Array) -> Array:
    """Take the root, and mend it.

    x times the reciprocal root is off by one unit in the last place at most (found by trying every
    radicand); the exact remainder of the square says which way. About 350 integer operations, most
    of them for the reciprocal root.
    """
    xp = namespace(x)
    bits = bitcast(x, _U)
    # x = radicand * 4**scale with the radicand in [1, 4).
    field = (bits >> _U(FLOAT32.trailing)).astype(np.int32) - np.int32(FLOAT32.bias)
    odd = field & np.int32(1)
    fraction = bits & _U((1 << FLOAT32.trailing) - 1)
    radicand = fraction | ((odd + np.int32(FLOAT32.bias)).astype(_U) << _U(FLOAT32.trailing))
    near = multiply(
        bitcast(radicand, FLOAT32.float_dtype),
        rsqrt_rounded(bitcast(radicand, FLOAT32.float_dtype), "fp32"),
    )
    # Both as integers: root * 2**23, and radicand * 2**46 modulo 2**32, like the square.
    leading = _U(1 << FLOAT32.trailing)
    root = (bitcast(near, _U) & (leading - _U(1))) | leading
    root = root << (bitcast(near, _U) >> _U(FLOAT32.trailing + 7) & _U(1))  # [2, 4) for 2.0 itself
    wanted = (fraction | leading) << (odd.astype(_U) + _U(FLOAT32.trailing))
    rest = (wanted - root * root).astype(np.int32)
    signed = root.astype(np.int32)
    root = root + (rest > signed).astype(_U) - (rest <= -signed).astype(_U)
    scale = (field - odd) >> np.int32(1)
    result = (scale + np.int32(FLOAT32.bias - 1)).astype(_U) << _U(FLOAT32.trailing)
    result = result + root
    is_positive = (bits != _U(0)) & (bits < _U(FLOAT32.infinity))
    # Zero and infinity are their own roots; of negative numbers there is none.
    other = xp.where(bits > _U(FLOAT32.infinity), _U(FLOAT32.quiet_nan), bits)
    return bitcast(xp.where(is_positive, result, other), FLOAT32.float_dtype)


def exp(x: Array) -> Array:
    """Return e**x, rounded to nearest, flushed."""
    return _apart(_exp, x)


def _exp(x: Array) -> Array:
    return _faster("exp", exp_rounded, x)


def log(x: Array) -> Array:
    """Return the natural logarithm, rounded to nearest, flushed."""
    return _apart(_log, x)


def _log(x: Array) -> Array:
    return _faster("log", log_rounded, x)


def tanh(x: Array) -> Array:
    """Return the hyperbolic tangent, rounded to nearest, flushed."""
    return _apart(_tanh, x)


def _tanh(x: Array) -> Array:
    return flush(tanh_rounded(x, "fp32"))


def reciprocal_sqrt(x: Array) -> Array:
    """Return 1 / sqrt(x), rounded to nearest."""
    return _apart(_reciprocal_sqrt, x)


def _reciprocal_sqrt(x: Array) -> Array:
    return rsqrt_rounded(x, "fp32")


def sum(x: Array, axis: int) -> Array:  # noqa: A001 NumPy's and JAX's name
    """Return the sum along one axis, pairwise.

    Filled up with zeros to a power of two, then the second half is added to the first, element by
    element, until one is left: log2(n) additions deep, and
    ``|error| <= gamma(log2(n), 2**-24) * sum|x|`` beside what is flushed.
    """
    x = namespace(x).moveaxis(x, axis, 0)
    return with_automatic_axes(_sum_rows, x)


def _sum_rows(x: Array) -> Array:
    xp = namespace(x)
    count = x.shape[0]
    if count == 0:
        return xp.zeros(x.shape[1:], x.dtype)
    size = 1 << (count - 1).bit_length()
    if size != count:
        x = xp.concatenate([x, xp.zeros((size - count, *x.shape[1:]), x.dtype)])
    while size > 1:
        size //= 2
        x = add(x[:size], x[size:])
    return x[0]


def mean(x: Array, axis: int) -> Array:
    """Return the sum along one axis times the rounded reciprocal of the number of elements."""
    if x.shape[axis] == 0:
        raise ValueError(
            f"axis {axis} of shape {x.shape} has no elements; a mean needs one or more"
        )
    return multiply(sum(x, axis), np.float32(1 / x.shape[axis]))
