"""The own loss scale of a layer, "cotangents@S" and "cotangents@dynamic" of a policy's rule.

The cotangent that a product of the backward pass takes is multiplied by a power of two before it is
rounded, and the result is divided by it before that is.
"""

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array, bitcast
from precsim._loops import computed_once
from precsim.arithmetic.elementwise import multiply as exact_multiply
from precsim.formats.carrier import FLOAT32
from precsim.formats.scaled import scaled_format
from precsim.products.scaled.differentiated import largest_magnitude
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.events import is_beyond
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.modes import RoundingMode
from precsim.rounding.scaled.scale import Scale
from precsim.rounding.spec import RoundingSpec
from precsim.transform.noise import bits_at
from precsim.transform.operation import Operation
from precsim.transform.tensor_scaling import adapts, name_of_layer, of_cotangents


def own_scale(op: Operation) -> Scale | None:
    """Return the scale of the cotangent that is an operand; None where it has none."""
    factor = of_cotangents(op.policy.tensor_scaling) if op.context.is_backward else None
    if factor is None:
        return None
    first = Scale(scale=np.float32(1 / factor), factor=np.float32(factor))
    return (op.context.scales or {}).get(name_of_layer(op.scope), first)


def scaled_cotangent(op: Operation, x: Array, side: RoundingSpec | None) -> Array:
    """Return a cotangent in float32, multiplied by its factor, for rounding by the side's spec."""
    scale = own_scale(op)
    assert scale is not None
    y = exact_multiply(jnp.asarray(x), jnp.asarray(scale.factor), "fp32")
    if side is not None and scaled_format(side.format) is None:
        beyond = is_beyond(bitcast(y, FLOAT32.uint_dtype), side, FLOAT32)
        _tell(op, jnp.asarray(beyond).any())
    return y


def unscaled_product(op: Operation, y: Array, spec: MatmulSpec) -> Array:
    """Return a product of a scaled cotangent, divided by its factor, then rounded.

    `y` is the product without its last rounding.
    """
    scale, output = own_scale(op), spec.output
    assert scale is not None
    _tell(op, ~jnp.isfinite(largest_magnitude(y)))
    y = exact_multiply(y, jnp.asarray(scale.scale), "fp32")
    last = output or RoundingSpec(format=spec.accumulator.format)
    bits = bits_at(op.context.key, f"{op.context.path}/unscaled", y.shape)
    is_random = last.mode is RoundingMode.STOCHASTIC
    result = computed_once(round_array(y, bits if is_random else None, last))
    if output is not None:
        op.note(y, result, output)
    return result


def _tell(op: Operation, overflows: jax.Array) -> None:
    """Tell, if anybody counts, whether the scale of a layer, where it adapts, is too large.

    As a magnitude, of which the largest is kept: infinity where the scaled cotangent overflows, 1
    where not, 0 where an operand was not finite before, which says nothing of the scale.
    """
    if op.context.watch is not None and adapts(op.policy.tensor_scaling):
        known = jnp.isfinite(op.arrays[0]).all() & jnp.isfinite(op.arrays[1]).all()
        found = jnp.where(overflows, jnp.float32(jnp.inf), jnp.float32(1))
        found = jnp.where(known, found, jnp.float32(0))
        op.context.watch.operand(name_of_layer(op.scope), op.policy.tensor_scaling, found)


@jax.custom_vjp
def _without_gradient(y: Array) -> Array:
    return y


def _refuse_gradient(_: None, g: Array) -> tuple[Array]:
    raise NotImplementedError(
        "an emulated function with tensor=cotangents@S is differentiated; allowed is to emulate its "
        "gradient, emulate(jax.grad(f), policy), as trainings do"
    )


_without_gradient.defvjp(lambda y: (y, None), _refuse_gradient)


def closed(op: Operation, y: Array) -> Array:
    """Return a product; where its own gradient would lack the factor on cotangents, without one."""
    is_open = op.context.is_backward or of_cotangents(op.policy.tensor_scaling) is None
    return y if is_open else jnp.asarray(_without_gradient(y))
