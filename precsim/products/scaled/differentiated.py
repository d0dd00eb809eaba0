"""Products whose scales are given, under JAX: gradients are such products, too."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array, bitcast, is_jax
from precsim._calls import compiled, in_numpy, refuse_fast_math
from precsim.formats.carrier import FLOAT32
from precsim.products.backends import Specs
from precsim.products.emulated import emulated_matmul
from precsim.products.operands import NO_NOISE, Operands, expanded, squeezed
from precsim.products.preparation import operand_bits
from precsim.products.scaled.given import Given, of_product
from precsim.products.scaled.operand import scaled_operand
from precsim.products.scaled.product import Scales, scaled_sums
from precsim.products.shapes import with_one_batch
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.kernel.kernel import round_array


def run_with_scales(operands: Operands, given: Given, specs: Specs) -> Array:
    """Run a checked product with given scales; NumPy arrays give a NumPy result."""
    a, b = operands.a, operands.b
    leaves = jax.tree.leaves(given)
    if any(map(is_jax, (a, b, *leaves))):
        return _broadcast_product(a, b, given, specs)
    structure = jax.tree.structure(given)

    def run(a: Array, b: Array, *leaves: Any) -> Array:
        return _broadcast_product(a, b, jax.tree.unflatten(structure, leaves), specs)

    return in_numpy(run, a, b, *leaves)


# Compiled outside the rule of differentiation, which makes a call from Python cheap.
@compiled(static_argnums=3)
def _broadcast_product(a: Array, b: Array, given: Given, specs: Specs) -> Array:
    """Make batch dimensions equal; a batch of rows times one matrix is one product."""
    refuse_fast_math()
    there = expanded(Operands(a, b, None, NO_NOISE))
    x, y = there.a, there.b
    if y.ndim == 2:
        rows = _product(x.reshape(-1, x.shape[-1]), y, given, specs)
        return squeezed(rows.reshape(*x.shape[:-1], y.shape[-1]), a, b)
    return squeezed(_product(*with_one_batch(x, y), given, specs), a, b)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _product(a: Array, b: Array, given: Given, specs: Specs) -> Array:
    scales = of_product(given.a, given.b, specs.forward)
    return emulated_matmul(a, b, None, specs.forward, None, scales)


def _forward(a: Array, b: Array, given: Given, specs: Specs) -> tuple[Array, Any]:
    return _product(a, b, given, specs), (a, b, given)


def _backward(specs: Specs, residuals: Any, g: Array) -> tuple[Array, Array, Given]:
    a, b, given = residuals
    dgrad = of_product(given.g, given.b, specs.dgrad)
    wgrad = of_product(given.a, given.g, specs.wgrad)
    da = emulated_matmul(g, b.mT, None, specs.dgrad, None, dgrad)
    db = emulated_matmul(a.mT, g, None, specs.wgrad, None, wgrad)
    return da, db, _amax_of_cotangent(given, g)


_product.defvjp(_forward, _backward)


def _amax_of_cotangent(given: Given, g: Array) -> Given:
    """Return zeros as gradients of scales, but for that of g its amax, which the history needs."""
    zeros: Given = jax.tree.map(_no_gradient, given)
    if zeros.g is None:
        return zeros
    amax = largest_magnitude(g)
    scale = jax.tree.map(lambda zero: zero + amax, zeros.g.scale)
    return zeros._replace(g=replace(zeros.g, scale=scale))


def largest_magnitude(x: Array) -> Array:
    """Return the largest magnitude of a float32 array, NaN and infinity above all others."""
    magnitudes = bitcast(x, np.uint32) & np.uint32(FLOAT32.sign_bit - 1)
    return bitcast(magnitudes.max(initial=np.uint32(0)), np.float32)


def multiply_elements(
    run: Callable[..., Array],
    a: Array,
    b: Array,
    spec: MatmulSpec,
    given: Scales,
    random_bits: Array | None = None,
) -> Array:
    """Return a product, or a convolution, whose operands have scales for the whole array.

    ``run(a, b, spec, random_bits)`` multiplies the elements. `given`: the scales of left and right
    operand; one that is None follows from the operand. The result times the scales is rounded to
    the output.
    """

    @jax.custom_jvp
    def multiply_them(a: Array, b: Array, given: Scales, random_bits: Array | None) -> Array:
        quantize = partial(scaled_operand, as_integers=False, stretch=None)
        of_a, of_b = operand_bits(random_bits, a, b, spec)
        x = quantize(a, spec.lhs, given[0], random_bits=of_a)
        y = quantize(b, spec.rhs, given[1], random_bits=of_b)
        total = run(x.elements, y.elements, spec.elements, random_bits)
        scales = (None if s is None else s.reshape(()) for s in (x.scales, y.scales))
        total = scaled_sums(total, *scales)
        return total if spec.output is None else round_array(total, random_bits, spec.output)

    @multiply_them.defjvp
    def refuse(primals: Any, tangents: Any) -> Any:
        raise TypeError(
            "a product with delayed scales is differentiated; allowed is emulate(grad(f)), in which "
            "each product has a history of its own"
        )

    return multiply_them(a, b, given, random_bits)


def _no_gradient(x: Any) -> Any:
    x = jnp.asarray(x)
    is_float = jnp.issubdtype(x.dtype, jnp.floating)
    return jnp.zeros_like(x) if is_float else np.zeros(x.shape, jax.dtypes.float0)
