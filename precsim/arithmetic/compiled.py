"""Elementwise operations under JAX: compiled, with the gradient of the unrounded operation."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from precsim._arrays import Array
from precsim.arithmetic.elementwise import apply_operation
from precsim.arithmetic.wide import Packed
from precsim.formats.carrier import as_carrier
from precsim.rounding.spec import RoundingSpec


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 4))
@partial(jax.jit, static_argnums=(0, 1, 4))
def apply_compiled(
    function: Callable[..., Packed],
    unrounded: Callable[..., Array],
    operands: tuple[Array, ...],
    random_bits: Array | None,
    spec: RoundingSpec,
) -> Array:
    """Run an operation on bit patterns and round its exact result."""
    operands = tuple(map(jnp.asarray, operands))
    return apply_operation(function, operands, random_bits, spec, as_carrier(operands[0])[1])


@apply_compiled.defjvp
def _jvp(
    function: Callable[..., Packed],
    unrounded: Callable[..., Array],
    spec: RoundingSpec,
    primals: tuple[Any, ...],
    tangents: tuple[Any, ...],
) -> tuple[Array, Array]:
    operands, random_bits = primals
    rounded = apply_compiled(function, unrounded, operands, random_bits, spec)
    _, tangent = jax.jvp(unrounded, operands, tangents[0])
    return rounded, tangent
