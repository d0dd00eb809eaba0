"""exp, log and quotients of float32 arrays of JAX by float64 arithmetic; the bits of integers.

A float64 result here is wrong by less than 4 units of its last place: 2 by roundings, whether or
not a compiler joins multiplications and additions, and 2**-4 by the end of the series. Rounded to
float32 it is correct, unless the exact result is as near as that to the middle of two float32
numbers. Of the 2**32 arguments 4 (exp) and 35 (log) are; a list has their results. All results were
compared with those of integer arithmetic, on a CPU and on an H200
(tests/arithmetic/elementary/test_float64.py); without the list, 5 of log's are wrong on both.

XLA on a CPU flushes subnormal float32 numbers: arguments must not be subnormal, and results below
2**-126 may be any numbers below it.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precsim._arrays import Array
from precsim._calls import compiled
from precsim.formats.carrier import FLOAT32

_F = np.float64
_HIGH = _F(float.fromhex("0x1.62e42feep-1"))
"""log(2) to 33 bits, so that its product with an exponent is exact."""
_LOW = _F(float.fromhex("0x1.a39ef35793c76p-33"))
"""The rest of log(2)."""
_HALF_ROOT = np.uint32(0x3F3504F3)
"""Pattern of sqrt(1/2)."""

_NEAR_MIDDLE = {
    "exp": """
        377EFF81 3F800080  BAE0E25C 3F7F8FA7  BBF0EDF1 3F7E1FE9  C16912CD 34FD331B
    """,
    "log": """
        064CB44B C29E7C1A  07C060FA C29A733A  0DC8BBA4 C289BAC4  0F61FF63 C2855565  111C87F8 C28085DF
        145CB6D4 C26F092F  16C5EE7A C2619BD4  1A8446CB C24D0A45  1F116AB8 C233B53E  2423C085 C21781D1
        28E3FA26 C1FA75E0  29E6126B C1EF4C02  29FD22F8 C1EE8859  2C4C24B7 C1D48710  2E492984 C1BE76EE
        38DCBE38 C1128BA4  3BF86EF0 C09C399E  3C413D3A C08E158F  41178FEB 400FE5E7  464D5B2B 4117BCF1
        4665A9A6 41198725  4C5D65A5 418F034B  4D604EBE 419A352C  4E85F412 41A6B811  54AF989D 41EB6D3C
        5D800341 42265B10  5EE8984E 422E4A21  5F64C24A 4230FEE2  62B467BA 42437434  65D890D3 4254D1F9
        66A8C860 42595E46  66ABBD63 4259700E  6D1F23EB 427D2D35  6F31A8EC 42845A89  79E7EC37 42A1FFB7
    """,
}
"""Patterns of arguments, each with that of the result, which float64 may not get right."""


def near_middle(name: str) -> dict[int, int]:
    """Return the list of a function: pattern of an argument -> pattern of the result."""
    words = [int(word, 16) for word in _NEAR_MIDDLE[name].split()]
    return dict(zip(words[::2], words[1::2], strict=True))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def apply(name: str, *arrays: Array) -> Array:
    """Return "exp", "log" or "divide" of arrays of one shape; the gradient is the platform's."""
    y: Array = _float64_function(name, *arrays)
    return y


@apply.defjvp
def _tangent(name: str, primals: tuple[Array, ...], tangents: Any) -> tuple[Array, Array]:
    unrounded: dict[str, Any] = {"exp": jnp.exp, "log": jnp.log, "divide": jnp.divide}
    return apply(name, *primals), jax.jvp(unrounded[name], primals, tangents)[1]


@compiled(static_argnums=0)
def _float64_function(name: str, *arrays: Array) -> Array:
    # `find_unportable` knows the name: its float64 operations decide no bit.
    with jax.enable_x64(True):
        y = _rounded(_UNROUNDED[name](*arrays))
    if name not in _NEAR_MIDDLE:
        return y
    bits = lax.bitcast_convert_type(arrays[0], jnp.uint32)
    result = lax.bitcast_convert_type(y, jnp.uint32)
    for argument, value in near_middle(name).items():
        result = jnp.where(bits == np.uint32(argument), np.uint32(value), result)
    return lax.bitcast_convert_type(result, jnp.float32)


def _rounded(y: Array) -> Array:
    """Round to 24 bits by integers, then convert, which is exact.

    A compiler would make one float32 division of a quotient that is converted at once, and GPUs
    approximate that.
    """
    bits = lax.bitcast_convert_type(y, np.int64)
    last = (bits >> np.int64(29)) & np.int64(1)
    bits = (bits + last + np.int64((1 << 28) - 1)) & np.int64(-1 << 29)
    return lax.convert_element_type(lax.bitcast_convert_type(bits, np.float64), np.float32)


def _divide(x: Array, y: Array) -> Array:
    """Quotient: 53 bits are enough for 24, so that a second rounding changes nothing (Figueroa)."""
    return lax.div(*(lax.convert_element_type(z, np.float64) for z in (x, y)))


def _exp(x: Array) -> Array:
    """2**k * exp(r): x = k * log(2) + r; beyond float32's range the argument is bounded."""
    y = lax.clamp(_F(-104), lax.convert_element_type(x, np.float64), _F(89))
    k = lax.round(y * _F(1 / math.log(2)))
    r = (y - k * _HIGH) - k * _LOW
    total = _polynomial(r, [1 / math.factorial(n) for n in range(14)])
    field = lax.convert_element_type(k, np.int64) + np.int64(1023)
    return total * lax.bitcast_convert_type(field << np.int64(52), np.float64)


def _log(x: Array) -> Array:
    """Sum of k * log(2) and log(m): x = 2**k * m, m from sqrt(1/2) to sqrt(2).

    With s = (m - 1) / (m + 1), log(m) is 2 * (s + s**3 / 3 + ...).
    """
    bits = lax.bitcast_convert_type(x, np.uint32)
    k = lax.bitcast_convert_type(bits - _HALF_ROOT, np.int32) >> np.int32(FLOAT32.trailing)
    m = bits - (lax.bitcast_convert_type(k, np.uint32) << np.uint32(FLOAT32.trailing))
    m = lax.bitcast_convert_type(m, np.float32)
    f = lax.convert_element_type(m, np.float64) - _F(1)
    s = f / (f + _F(2))
    rest = s * s * _polynomial(s * s, [2 / (2 * n + 3) for n in range(11)])
    k = lax.convert_element_type(k, np.float64)
    result = k * _HIGH + ((f - s * (f - rest)) + k * _LOW)
    infinite = jnp.where(x == 0, _F(-np.inf), jnp.where(x > 0, _F(np.inf), _F(np.nan)))
    return jnp.where((x > 0) & (x < np.float32(np.inf)), result, infinite)


_UNROUNDED: dict[str, Callable[..., Any]] = {"exp": _exp, "log": _log, "divide": _divide}


def _polynomial(x: Array, coefficients: list[float]) -> Array:
    """Return the sum of coefficients times powers."""
    total: Array = jnp.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x + _F(c)
    return total
