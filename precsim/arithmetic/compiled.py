"""Elementwise functions under JAX: with the gradient of the unrounded operation."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from precsim._arrays import Array
from precsim._lax_arrays import with_lax
from precsim.arithmetic.exact import apply_operation
from precsim.formats.carrier import as_carrier
from precsim.rounding.kernel.wide import Packed
from precsim.rounding.spec import RoundingSpec


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 4))
def apply_differentiable(
    function: Callable[..., Packed],
    unrounded: Callable[..., Array],
    operands: tuple[Array, ...],
    random_bits: Array | None,
    spec: RoundingSpec,
) -> Array:
    """Run an operation on bit patterns and round its exact result."""
    carrier = as_carrier(operands[0])[1]
    return with_lax(apply_operation)(function, operands, random_bits, spec, carrier)


@apply_differentiable.defjvp
def _jvp(
    function: Callable[..., Packed],
    unrounded: Callable[..., Array],
    spec: RoundingSpec,
    primals: tuple[Any, ...],
    tangents: tuple[Any, ...],
) -> tuple[Array, Array]:
    operands, random_bits = primals
    rounded = apply_differentiable(function, unrounded, operands, random_bits, spec)

    # Of one shape before the operation, which a program may ask for (jax_numpy_rank_promotion).
    def of_one_shape(*operands: Array) -> Array:
        return unrounded(*(jnp.broadcast_to(x, rounded.shape) for x in operands))

    _, tangent = jax.jvp(of_one_shape, operands, tangents[0])
    return rounded, tangent
