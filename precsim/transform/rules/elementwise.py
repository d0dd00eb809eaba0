"""Elementwise arithmetic: operands of the format, one rounding of the exact result."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from precsim._arrays import Array, bitcast
from precsim.arithmetic import elementwise
from precsim.formats.carrier import Carrier
from precsim.formats.fixed_point import FixedPointFormat
from precsim.rounding.modes import OverflowMode
from precsim.rounding.spec import RoundingSpec
from precsim.transform.operation import Operation, rule
from precsim.transform.rounded import alone, random_bits
from precsim.transform.treatment import How
from precsim.transform.values import Value, carrier_of

_ONCE: dict[str, Callable[..., Array]] = {
    "add": elementwise.add,
    "add_any": elementwise.add,
    "sub": elementwise.subtract,
    "mul": elementwise.multiply,
    "div": elementwise.divide,
    "sqrt": elementwise.sqrt,
    "square": lambda x, spec, random_bits: elementwise.multiply(
        x, x, spec, random_bits=random_bits
    ),
}
"""The exact way: integer arithmetic, any format, any mode."""

_SUMS = ("add", "add_any", "sub")
_PRODUCTS = ("mul", "square")


@rule(*_ONCE)
def rounded_once(op: Operation) -> list[Value]:
    """Round the exact result of the operands' values in the format."""
    spec = op.spec
    if op.rounds_nothing(spec) and not op.is_exact_everywhere:
        op.record(How.AS_IS)
        return op.as_it_is()
    op.record(How.ROUNDED, spec)
    quick = _is_fast_here(op, op.name, spec)
    arrays = [op.brought(n, spec, has_one_use=quick) for n in range(len(op.operands))]
    return [arithmetic(op, op.name, arrays, spec)]


def arithmetic(op: Operation, name: str, arrays: list[Array], spec: RoundingSpec) -> Value:
    """Return one operation on values of a format, rounded by the spec."""
    if _is_fast_here(op, name, spec):
        has_one_use = op.user in _ONCE and _is_fast_here(op, op.user, spec)
        return op.rounded(_PLATFORM[name](*arrays), spec, has_one_use=has_one_use)
    bits = random_bits(spec, op.place, op.eqn.outvars[0].aval.shape)
    y = alone(_ONCE[name](*arrays, spec, random_bits=bits))
    if op.is_watched:
        op.note(_PLATFORM[name](*arrays), y, spec)
    return op.result(y, spec.format, cotangent=spec)


def _is_fast_here(op: Operation, name: str, spec: RoundingSpec) -> bool:
    """Return whether this operation would be fast, with another's operands."""
    carrier = carrier_of(op.eqn.outvars[0].aval.dtype)
    return is_fast(name, spec, carrier, anywhere=not op.is_exact_everywhere)


@jax.custom_jvp
def plus(x: Array, y: Array) -> Array:
    """Return x + y; XLA takes x + 0 for x where it knows the 0, and then -0 + 0 would be -0."""
    carrier = carrier_of(x.dtype)
    a, b, total = (bitcast(v, carrier.uint_dtype) for v in (x, y, jax.lax.add(x, y)))
    are_zeros = (a | b) == carrier.uint(carrier.sign_bit)  # of which one is -0, or both
    return bitcast(jnp.where(are_zeros, a & b, total), x.dtype)


@plus.defjvp
def _plus_jvp(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    return plus(*primals), jax.lax.add(*tangents)


_PLATFORM: dict[str, Callable[..., Any]] = {
    "add": plus,
    "add_any": plus,
    "sub": lambda x, y: plus(x, jax.lax.neg(y)),
    "mul": jax.lax.mul,
    "div": jax.lax.div,
    "sqrt": jax.lax.sqrt,
    "square": jax.lax.square,
}


@cache
def is_fast(name: str, spec: RoundingSpec, carrier: Carrier, *, anywhere: bool) -> bool:
    """Return whether the carrier's operation, rounded, is one rounding of the exact result.

    It is for values of p bits to nearest if the carrier has 2p + 2 bits (Figueroa, "When is double
    rounding innocuous?", 1995), or if the carrier has the exact result. The results have to stay
    between the carrier's smallest normal number and its largest one; `anywhere` says that they need
    not: then smaller ones count as 0, as subnormal operands do on a CPU.
    """
    fmt = spec.format
    if isinstance(fmt, FixedPointFormat):
        bits = fmt.integer_bits + fmt.fraction_bits
        is_exact = bits * 2 <= carrier.precision if name in _PRODUCTS else bits < carrier.precision
        return is_exact and name in (*_SUMS, *_PRODUCTS)
    if fmt.exponent_bits is None:
        return False
    is_exact = name in _PRODUCTS and 2 * fmt.precision <= carrier.precision
    is_innocuous = spec.mode.is_nearest and 2 * fmt.precision + 2 <= carrier.precision
    if not (is_exact or is_innocuous):
        return False
    least, beyond = fmt.emin - fmt.precision + 1, fmt.emax + 1
    if name in _PRODUCTS:
        least, beyond = 2 * least, 2 * beyond
    elif name == "div":
        least, beyond = least - beyond, beyond - least
    elif name in _SUMS:
        beyond += 1
    if least >= carrier.emin and beyond <= carrier.bias:
        return True
    return anywhere and spec.overflow is OverflowMode.INFINITY
