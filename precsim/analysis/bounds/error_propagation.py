"""How errors of operands become an error of a result: bounds for functions of numbers.

For operands x with errors of at most b, each function here returns a bound on ``|f(x') - f(x)|``
for all x' within b of x. Nothing is of first order: slopes are the largest ones in the interval.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from precsim._arrays import Array

Arrays = list[Any]


def product(a: Any, b: Any) -> Any:
    """Return ``a * b`` for numbers from 0 on, where 0 times infinity is 0."""
    return jnp.where((a == 0) | (b == 0), 0.0, a * b)


def _quotient(x: Arrays, b: Arrays) -> Any:
    room = jnp.abs(x[1]) - b[1]
    bound = (b[0] + product(jnp.abs(x[0] / x[1]), b[1])) / room
    return _unless_exact(jnp.where(room > 0, bound, jnp.inf), *b)


def _unless_exact(bound: Any, *b: Any) -> Any:
    """Return 0 where no operand has an error."""
    is_exact = sum(b) == 0
    return jnp.where(is_exact, 0.0, bound)


def _square_root(x: Arrays, b: Arrays) -> Any:
    below = jnp.sqrt(jnp.maximum(x[0] - b[0], 0))
    by_slope = b[0] / (jnp.sqrt(x[0]) + below)
    return _unless_exact(jnp.minimum(by_slope, jnp.sqrt(b[0])), b[0])


def _cube_root(x: Arrays, b: Arrays) -> Any:
    least = jnp.maximum(jnp.abs(x[0]) - b[0], 0)
    by_slope = product(b[0], 1 / (3 * jnp.cbrt(least) ** 2))
    return jnp.minimum(by_slope, 2 ** (2 / 3) * jnp.cbrt(b[0]))


ARITHMETIC: dict[str, Callable[[Arrays, Arrays], Any]] = {
    "add": lambda x, b: b[0] + b[1],
    "add_any": lambda x, b: b[0] + b[1],
    "sub": lambda x, b: b[0] + b[1],
    "mul": lambda x, b: (
        product(jnp.abs(x[0]), b[1]) + product(jnp.abs(x[1]), b[0]) + product(b[0], b[1])
    ),
    "square": lambda x, b: product(2 * jnp.abs(x[0]) + b[0], b[0]),
    "one_minus_square": lambda x, b: product(2 * jnp.abs(x[0]) + b[0], b[0]),
    "div": _quotient,
    "sqrt": _square_root,
    "cbrt": _cube_root,
}
"""By the name of the primitive."""


def _below_one(m: Any, slope: Callable[[Any], Any]) -> Any:
    return jnp.where(m < 1, slope(jnp.minimum(m, 1)), jnp.inf)


SLOPES: dict[str, Callable[[Any, Any], Any]] = {
    "exp": lambda low, high: jnp.exp(high),
    "exp2": lambda low, high: math.log(2) * jnp.exp2(high),
    "expm1": lambda low, high: jnp.exp(high),
    "log": lambda low, high: jnp.where(low > 0, 1 / low, jnp.inf),
    "log1p": lambda low, high: jnp.where(low > -1, 1 / (1 + low), jnp.inf),
    "rsqrt": lambda low, high: jnp.where(low > 0, low**-1.5 / 2, jnp.inf),
    "sin": lambda low, high: jnp.ones_like(low),
    "cos": lambda low, high: jnp.ones_like(low),
    "tan": lambda low, high: jnp.where(
        _most(low, high) < math.pi / 2, 1 / jnp.cos(_most(low, high)) ** 2, jnp.inf
    ),
    "asin": lambda low, high: _below_one(_most(low, high), lambda m: 1 / jnp.sqrt(1 - m * m)),
    "acos": lambda low, high: _below_one(_most(low, high), lambda m: 1 / jnp.sqrt(1 - m * m)),
    "atan": lambda low, high: 1 / (1 + _least(low, high) ** 2),
    "sinh": lambda low, high: jnp.cosh(_most(low, high)),
    "cosh": lambda low, high: jnp.sinh(_most(low, high)),
    "tanh": lambda low, high: 1 / jnp.cosh(_least(low, high)) ** 2,
    "asinh": lambda low, high: 1 / jnp.sqrt(1 + _least(low, high) ** 2),
    "acosh": lambda low, high: jnp.where(low > 1, 1 / jnp.sqrt(low * low - 1), jnp.inf),
    "atanh": lambda low, high: _below_one(_most(low, high), lambda m: 1 / (1 - m * m)),
    "erf": lambda low, high: 2 / math.sqrt(math.pi) * jnp.exp(-(_least(low, high) ** 2)),
    "erfc": lambda low, high: 2 / math.sqrt(math.pi) * jnp.exp(-(_least(low, high) ** 2)),
    "logistic": lambda low, high: 0.25 / jnp.cosh(_least(low, high) / 2) ** 2,
}
"""The largest absolute slope between two numbers, by the name of the primitive."""


def _most(low: Any, high: Any) -> Any:
    """Return the largest magnitude in an interval."""
    return jnp.maximum(jnp.abs(low), jnp.abs(high))


def _least(low: Any, high: Any) -> Any:
    """Return the smallest magnitude in an interval."""
    return jnp.maximum(0, jnp.maximum(low, -high))


def elementwise(name: str, x: Arrays, b: Arrays, params: Mapping[str, Any]) -> Any:
    """Return the bound of a function of numbers; None if there is none for it here."""
    if name in ARITHMETIC:
        return ARITHMETIC[name](x, b)
    if name == "integer_pow":
        return product(_power_slope(x[0], b[0], params["y"]), b[0])
    if name == "pow":
        return _power(x, b)
    if name in SLOPES:
        low, high = x[0] - b[0], x[0] + b[0]
        return product(SLOPES[name](low, high), b[0])
    return None


def _power_slope(x: Any, b: Any, exponent: Any) -> Any:
    """Return the largest slope of a power with one exponent, for numbers of one sign."""
    low, high = jnp.abs(x) - b, jnp.abs(x) + b
    at = jnp.where(exponent >= 1, high, low)
    is_known = (at > 0) | (exponent >= 1)
    return jnp.where(is_known, jnp.abs(exponent) * jnp.maximum(at, 0) ** (exponent - 1.0), jnp.inf)


def _power(x: Arrays, b: Arrays) -> Any:
    """Return the bound of ``x0 ** x1``, finite where x1 is exact and x0 positive."""
    bound = product(_power_slope(x[0], b[0], x[1]), b[0])
    is_known = (b[1] == 0) & (x[0] - b[0] > 0)
    return _unless_exact(jnp.where(is_known, bound, jnp.inf), *b)


STEPS = ("sign", "floor", "ceil", "round")
"""Functions that jump, and never fall."""

UNSIGNED = ("neg", "abs")
"""Functions that leave an error as it is, or lessen it."""


def as_bound(x: Array) -> Array:
    """Return a bound, infinite where nothing is known."""
    bound: Array = jnp.where(jnp.isnan(x), jnp.inf, x)
    return bound


def distance(x: Any, y: Any) -> Array:
    """Return ``|x - y|``: 0 for equal numbers, infinite ones too, and infinite where one is NaN."""
    return as_bound(jnp.where(x == y, 0.0, jnp.abs(x - y)))
