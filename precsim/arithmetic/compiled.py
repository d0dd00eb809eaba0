"""Elementwise functions under JAX: compiled; what rounds has the gradient of the unrounded operation."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from precsim._arrays import Array, with_automatic_axes
from precsim.arithmetic.elementwise import apply_operation
from precsim.formats.carrier import as_carrier
from precsim.rounding.kernel.wide import Packed
from precsim.rounding.spec import RoundingSpec


@partial(jax.jit, static_argnums=(0, 1))
def call_compiled(function: Callable[..., Array], option: Any, *arrays: Any) -> Array:
    """Call a function of one option, fixed in the compilation, and of arrays."""
    return with_automatic_axes(partial(function, option), *map(jnp.asarray, arrays))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def straight_through(function: Callable[[Array], Array], x: Array) -> Array:
    """Apply a function of bit patterns; under differentiation the tangent passes unchanged."""
    return function(x)


@straight_through.defjvp
def _straight_through_jvp(
    function: Callable[[Array], Array], primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    return straight_through(function, *primals), tangents[0]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 4))
def _apply(
    function: Callable[..., Packed],
    unrounded: Callable[..., Array],
    operands: tuple[Array, ...],
    random_bits: Array | None,
    spec: RoundingSpec,
) -> Array:
    carrier = as_carrier(operands[0])[1]

    def run(random_bits: Array | None, *operands: Array) -> Array:
        return apply_operation(function, operands, random_bits, spec, carrier)

    return with_automatic_axes(run, random_bits, *map(jnp.asarray, operands))


@_apply.defjvp
def _jvp(
    function: Callable[..., Packed],
    unrounded: Callable[..., Array],
    spec: RoundingSpec,
    primals: tuple[Any, ...],
    tangents: tuple[Any, ...],
) -> tuple[Array, Array]:
    operands, random_bits = primals
    rounded = _apply(function, unrounded, operands, random_bits, spec)
    _, tangent = jax.jvp(unrounded, operands, tangents[0])
    return rounded, tangent


# Compiled outside the rule of differentiation, which makes a call from Python cheap.
@partial(jax.jit, static_argnums=(0, 1, 4))
def apply_compiled(
    function: Callable[..., Packed],
    unrounded: Callable[..., Array],
    operands: tuple[Array, ...],
    random_bits: Array | None,
    spec: RoundingSpec,
) -> Array:
    """Run an operation on bit patterns and round its exact result."""
    return _apply(function, unrounded, operands, random_bits, spec)
