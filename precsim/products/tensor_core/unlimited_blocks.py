"""Steps of CPUs' dot-product units in float32 with exponents apart, where operands are finite.

Both summands of an addition are shifted so that the larger one is about 1, the smaller one by at
most 60 places: that far below a number it cannot change a rounding to nearest, and still makes a
rounding to odd inexact. The rounded sum is that of an unlimited range of exponents. What is then
tiny becomes zero (`flush_tiny`; of sums rounded to odd also `flush_before_rounding`, as they never
reach the next power of two), and what is too large infinity.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from precsim._arrays import Array, bitcast, entry
from precsim._loops import repeat
from precsim.formats.carrier import FLOAT32
from precsim.formats.floating import FloatFormat
from precsim.products.orders.float32 import add_to_odd
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import DescendingBlock, DotBlock, EvenOddBlock
from precsim.products.tensor_core.float32_blocks import float32_steps, of_numbers
from precsim.products.tensor_core.plan import Step
from precsim.products.tensor_core.quick_steps import QuickSteps
from precsim.rounding.modes import RoundingMode, SubnormalMode
from precsim.rounding.spec import RoundingSpec

_U, _I, _FLOAT = FLOAT32.uint_dtype, FLOAT32.int_dtype, FLOAT32.float_dtype
_T, _BIAS, _TOP = _I(FLOAT32.trailing), _I(FLOAT32.bias), _I(2 * FLOAT32.bias + 1)
_SIGN, _FRACTION = _I(-(1 << 31)), _I((1 << FLOAT32.trailing) - 1)
_FURTHEST = _I(60)
_OF_ZERO = _I(-4000)
"""Exponent of a zero: never the larger one."""


def unlimited_steps(spec: MatmulSpec) -> list[QuickSteps]:
    """Return the steps of a block with exponents apart, if there are such."""
    make = _maker(spec)
    return [] if make is None else [of_numbers(make, spec.order, lowest=None)]


def _maker(spec: MatmulSpec) -> Callable[[Array, Array], Step] | None:
    if not float32_steps(spec) or not all(map(_has_no_subnormals, (spec.lhs, spec.rhs))):
        return None
    mode, subnormals = spec.accumulator.mode, spec.accumulator.subnormals
    match block := spec.order:
        case DescendingBlock() if subnormals is SubnormalMode.FLUSH_TINY:
            return lambda x, y: _descending(x, y, block.length)
        case EvenOddBlock() if subnormals is SubnormalMode.FLUSH_TINY:
            return lambda x, y: _even_odd(x, y, block.length)
        case DotBlock() if (mode, subnormals) == (
            RoundingMode.TO_ODD,
            SubnormalMode.FLUSH_BEFORE_ROUNDING,
        ):
            return _dot
        case _:
            return None


def _has_no_subnormals(part: RoundingSpec | None) -> bool:
    """Return whether no operand is a subnormal of float32."""
    if part is None or not isinstance(part.format, FloatFormat):
        return False
    lowest = part.format.emin - part.format.precision + 1
    is_kept = part.subnormals is SubnormalMode.GRADUAL and part.format.has_subnormals
    return part.format.exponent_bits is not None and (lowest >= FLOAT32.emin or not is_kept)


def _apart(value: Array) -> tuple[Array, Array]:
    """Return numbers from 1 to 2, or zero, with signs, and their exponents."""
    bits = bitcast(value, _I)
    field = (bits >> _T) & _TOP
    is_zero = field == _I(0)
    one = jnp.where(is_zero, _I(0), _BIAS << _T)
    number = (bits & (_SIGN | _FRACTION)) | one
    return bitcast(number, _FLOAT), jnp.where(is_zero, _OF_ZERO, field - _BIAS)


def _joined(number: Array, exponent: Array) -> Array:
    """Return ``number * 2**exponent`` in float32: tiny ones are zero, large ones infinite."""
    bits = bitcast(number, _I)
    field = ((bits >> _T) & _TOP) + exponent
    sign = bits & _SIGN
    joined = jnp.where(field >= _TOP, sign | (_TOP << _T), bits + (exponent << _T))
    is_tiny = (field <= _I(0)) | (bits == sign)
    return bitcast(jnp.where(is_tiny, sign, joined), _FLOAT)


def _sum(
    x: tuple[Array, Array], y: tuple[Array, Array], plus: Callable[[Array, Array], Array]
) -> Array:
    """Add numbers below 4 with their exponents."""
    largest = jnp.maximum(x[1], y[1])

    def shifted(number: Array, exponent: Array) -> Array:
        places = jnp.minimum(largest - exponent, _FURTHEST)
        return number * bitcast((_BIAS - places) << _T, _FLOAT)

    return _joined(plus(shifted(*x), shifted(*y)), largest)


def _is_special(value: Array) -> Array:
    is_special: Array = ((bitcast(value, _I) >> _T) & _TOP) == _TOP
    return is_special


def _multiply_add(total: Array, x: tuple[Array, Array], y: tuple[Array, Array], k: Any) -> Array:
    """Return the rounded total + x[k] * y[k]; what is not finite stays."""
    product = entry(x[0], k) * entry(y[0], k)
    exponent = entry(x[1], k) + entry(y[1], k)
    result = _sum(_apart(total), (product, exponent), lambda x, y: x + y)
    return jnp.where(_is_special(total), total, result)


def _descending(x: Array, y: Array, length: int) -> Step:
    left, right = _apart(x), _apart(y)

    def step(total: Array, n: Any) -> Array:
        value = bitcast(total, _FLOAT)
        for lane in reversed(range(length)):
            value = _multiply_add(value, left, right, n * length + lane)
        return bitcast(value, _U)

    return step


def _add(x: Array, y: Array, plus: Callable[[Array, Array], Array]) -> Array:
    result = _sum(_apart(x), _apart(y), plus)
    return jnp.where(_is_special(x) | _is_special(y), x + y, result)


def _even_odd(x: Array, y: Array, length: int) -> Step:
    left, right = _apart(x), _apart(y)

    def step(total: Array, n: Any) -> Array:
        def body(k: Any, chains: tuple[Array, Array]) -> tuple[Array, Array]:
            at = n * length + 2 * k
            return (
                _multiply_add(chains[0], left, right, at),
                _multiply_add(chains[1], left, right, at + 1),
            )

        zero: Array = jnp.zeros(total.shape, _FLOAT)
        even, odd = repeat(length // 2, body, (zero, zero), unroll=4)
        plus = lambda x, y: x + y
        return bitcast(_add(bitcast(total, _FLOAT), _add(even, odd, plus), plus), _U)

    return step


def _dot(x: Array, y: Array) -> Step:
    left, right = _apart(x), _apart(y)

    def product(k: Any) -> Array:
        exponent = entry(left[1], k) + entry(right[1], k)
        return _joined(entry(left[0], k) * entry(right[0], k), exponent)

    def step(total: Array, n: Any) -> Array:
        both = _add(product(2 * n), product(2 * n + 1), add_to_odd)
        return bitcast(_add(bitcast(total, _FLOAT), both, add_to_odd), _U)

    return step
