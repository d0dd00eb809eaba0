"""A product under JAX, from `matmul`'s operands down to the backend that runs it.

In the order of a call: batch dimensions are made equal, gradients become products of their own,
`jax.vmap` becomes one larger product, and the backend that was asked for runs it.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from precsim._arrays import Array, is_jax
from precsim._calls import compiled, in_numpy, kept_apart, refuse_fast_math, with_automatic_axes
from precsim._linear import linear_map, tangent_sum
from precsim.products.backends import Specs, resolve_backend
from precsim.products.columns import in_columns
from precsim.products.emulated import emulated_matmul
from precsim.products.native.dot import native_matmul
from precsim.products.native.tensor_core import native_tensor_core
from precsim.products.operands import Noise, Operands, expanded, squeezed
from precsim.products.shapes import result_shape, with_one_batch
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec


def run_matmul(operands: Operands, specs: Specs) -> Array:
    """Run a checked product; NumPy operands give a NumPy result, computed on the CPU."""
    a, b, c, noise = operands
    if is_jax(a) or is_jax(b) or any(map(is_jax, (c, *noise))):
        return _broadcast_product(a, b, c, noise, specs)

    def run(a: Array, b: Array, c: Array | None, *noise: Array | None) -> Array:
        return _broadcast_product(a, b, c, Noise(*noise), specs)

    return in_numpy(run, a, b, c, *noise)


def run_product(
    a: Array,
    b: Array,
    c: Array | None,
    spec: MatmulSpec,
    random_bits: Array | None,
    *,
    backend: str,
) -> Array:
    """Return c + a @ b, with gradients of the same spec; batch dimensions are equal."""
    specs = Specs(spec, spec, spec, backend)
    return _differentiable_product(a, b, c, Noise(forward=random_bits), specs)


# Compiled outside the rule of differentiation, which makes a call from Python cheap.
@compiled(static_argnums=4)
def _broadcast_product(a: Array, b: Array, c: Array | None, noise: Noise, specs: Specs) -> Array:
    """Make batch dimensions equal; a batch of rows times one matrix is one product.

    Shapes as in `jax.numpy.matmul`; those of c and of random bits broadcast to the results'.
    """
    operands = expanded(Operands(a, b, c, noise))
    return squeezed(_of_matrices(*operands, specs), a, b)


def _of_matrices(a: Array, b: Array, c: Array | None, noise: Noise, specs: Specs) -> Array:
    shape = result_shape(a, b)
    if b.ndim == 2:
        rows = math.prod(a.shape[:-1])
        flat = jax.tree.map(
            lambda bits: bits.reshape(math.prod(bits.shape[:-1]), bits.shape[-1]), noise
        )
        flat_c = None if c is None else c.reshape(rows, b.shape[-1])
        flat_a = a.reshape(rows, a.shape[-1])
        return _differentiable_product(flat_a, b, flat_c, flat, specs).reshape(shape)
    a, b = with_one_batch(a, b)
    return _differentiable_product(a, b, c, noise, specs)


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def _differentiable_product(
    a: Array, b: Array, c: Array | None, noise: Noise, specs: Specs
) -> Array:
    refuse_fast_math()
    run = _batchable(specs.forward, specs.backend)
    return with_automatic_axes(run, a, b, c, noise.forward, contracted=(-1, -2))


@partial(_differentiable_product.defjvp, symbolic_zeros=True)
def _tangent(
    specs: Specs, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Array, Array]:
    a, b, c, noise = primals
    da, db, dc, _ = tangents
    y = _differentiable_product(a, b, c, noise, specs)
    of_a = partial(_of_left, specs), partial(_gradient_of_left, specs), (b, noise.dgrad)
    of_b = partial(_of_right, specs), partial(_gradient_of_right, specs), (a, noise.wgrad)
    return y, tangent_sum(
        y,
        [
            (da, lambda da: linear_map(*of_a, da, like=y)),
            (db, lambda db: linear_map(*of_b, db, like=y)),
            (dc, lambda dc: dc),
        ],
    )


Factor = tuple[Array, Array | None]
"""The other operand of a product, and the random bits of a gradient."""


def _of_left(specs: Specs, right: Factor, a: Array) -> Array:
    return run_product(a, right[0], None, specs.tangent, None, backend=specs.backend)


def _gradient_of_left(specs: Specs, right: Factor, g: Array) -> Array:
    return run_product(g, right[0].mT, None, specs.dgrad, right[1], backend=specs.backend)


def _of_right(specs: Specs, left: Factor, b: Array) -> Array:
    return run_product(left[0], b, None, specs.tangent, None, backend=specs.backend)


def _gradient_of_right(specs: Specs, left: Factor, g: Array) -> Array:
    return run_product(left[0].mT, g, None, specs.wgrad, left[1], backend=specs.backend)


def _batchable(spec: MatmulSpec, backend: str) -> Callable[..., Array]:
    """Return ``run(a, b, c, random_bits)``, of which `jax.vmap` makes one larger product.

    Left to itself, `vmap` runs both branches of every condition on the data, and the integer loop
    takes a hundred times as long as the float32 one. Here a batch of `a` becomes more rows, a batch
    of `b` more columns, and batches of both become one more batch dimension.
    """
    run = partial(_run, spec=spec, backend=backend)
    product = custom_vmap(run)

    @product.def_vmap
    def of_batch(size: int, batched: list[Any], *operands: Any) -> tuple[Array, bool]:
        # Each array of the batch has a scale, or random bits, of its own.
        if spec.has_tensor_scale or spec.has_random_operands:
            axes = [0 if is_batched else None for is_batched in batched]
            return jax.vmap(run, axes, axis_size=size)(*operands), True
        a_batched, b_batched = batched[0], batched[1] or not batched[0]

        def of_all(x: Any, is_batched: bool) -> Any:
            return x if x is None or is_batched else jnp.broadcast_to(x, (size, *x.shape))

        a, b, *rest = operands
        rest = list(map(of_all, rest, batched[2:]))
        if a_batched and b_batched:
            is_cpu = backend != "native" and jax.default_backend() == "cpu"
            whole = partial(_rows_outermost, product) if is_cpu else product
            return whole(a, b, *rest), True
        if a_batched:
            at, count, arranged = -3, a.shape[-2], (_merge(a, -3), b)
        else:
            at, count, arranged = -2, b.shape[-1], (a, _merge(of_all(b, batched[1]), -2))
        y = product(*arranged, *(None if x is None else _merge(x, at) for x in rest))
        return _split(y, at, (size, count)), True

    return product


def _merge(x: Array, at: int) -> Array:
    """Move axis 0 to place `at` of the result, counted from its end, and join it with the next."""
    x = jnp.moveaxis(x, 0, at)
    n = x.ndim + at
    return x.reshape(*x.shape[:n], x.shape[n] * x.shape[n + 1], *x.shape[n + 2 :])


def _split(x: Array, at: int, sizes: tuple[int, int]) -> Array:
    """Undo `_merge` of axes of these sizes."""
    n = x.ndim + at + 1
    x = x.reshape(*x.shape[:n], *sizes, *x.shape[n + 1 :])
    return jnp.moveaxis(x, n, 0)


def _rows_outermost(
    product: Callable[..., Array], a: Array, b: Array, c: Array | None, random_bits: Array | None
) -> Array:
    """Run a batch of products as one of rows, so that rows are outermost in memory.

    JAX adds up the gradients of an operand that a batch shares. XLA's sum over the outermost
    dimension takes 20 times as long on a CPU as over another; and it would make each product anew,
    one element at a time, if nothing kept them apart.
    """

    def rows_first(x: Array | None) -> Array | None:
        return None if x is None else jnp.moveaxis(x, -2, 0)[..., None, :]

    y = product(rows_first(a), b[None], rows_first(c), rows_first(random_bits))
    y = kept_apart(y)
    return jnp.moveaxis(y[..., 0, :], 0, -2)


def _run(
    a: Array,
    b: Array,
    c: Array | None,
    random_bits: Array | None,
    *,
    spec: MatmulSpec,
    backend: str,
) -> Array:
    """Run one product, on several devices where a mesh of the caller says so."""
    run = partial(_run_on_device, spec=spec, backend=backend)
    if spec.has_tensor_scale or spec.has_random_operands:
        return run(a, b, c, random_bits)
    result: Array = in_columns(run, a, b, c, random_bits)
    return result


def _run_on_device(
    a: Array,
    b: Array,
    c: Array | None,
    random_bits: Array | None,
    *,
    spec: MatmulSpec,
    backend: str,
) -> Array:
    """Run one product with the backend that was asked for."""
    is_fused = isinstance(spec.order, FusedBlock)
    if is_fused and c is not None:
        # Kernels add it last, the model first.
        if backend == "native":
            raise ValueError(f"c is given; no native kernel computes '{spec}' with a first value")
        return emulated_matmul(a, b, c, spec, random_bits)
    chosen = resolve_backend(spec, backend, shapes=(a.shape, b.shape))
    if chosen == "emulated":
        return emulated_matmul(a, b, c, spec, random_bits)
    if not is_fused:
        return native_matmul(a, b, c, spec, random_bits)
    if backend == "native":
        return native_tensor_core(a, b, spec, random_bits)
    # The caller's arrays may be placed on the CPU beside the GPU, which only XLA knows.
    result: Array = lax.platform_dependent(
        a,
        b,
        cuda=lambda a, b: native_tensor_core(a, b, spec, random_bits),
        default=lambda a, b: emulated_matmul(a, b, None, spec, random_bits),
    )
    return result
