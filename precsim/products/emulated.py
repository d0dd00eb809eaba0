"""Emulated matrix products under JAX: the reference's bits from one compiled loop over k."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import lax

from precsim._arrays import Array, bitcast, count_true
from precsim._calls import choose, compiled, kept_apart
from precsim._loops import repeat
from precsim.arithmetic.sums.order import SEQUENTIAL
from precsim.formats.carrier import FLOAT32, as_carrier, is_infinite, is_nan
from precsim.products import pallas_gpu
from precsim.products.orders.float32 import add_exact_product, exact_range, fast_step
from precsim.products.orders.multiply_add import MultiplyAdd, is_stochastic, operations
from precsim.products.orders.ordered import ordered_matmul
from precsim.products.pallas_gpu import Read, Tile
from precsim.products.preparation import operand_bits, rotated_operands
from precsim.products.scaled.product import NO_SCALES, Scales, scaled_product
from precsim.products.shapes import first_value
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import StepBlock
from precsim.products.tensor_core.choice import fused_product
from precsim.products.tensor_core.step_blocks import block_product
from precsim.rounding.kernel.kernel import round_array

_TILES = (Tile(64, 64, warps=4), Tile(32, 32, warps=4), Tile(16, 16, warps=1))


@compiled(static_argnums=3)
def emulated_matmul(
    a: Array,
    b: Array,
    c: Array | None,
    spec: MatmulSpec,
    random_bits: Array | None = None,
    given: Scales = NO_SCALES,
) -> Array:
    """Return c + a @ b with the bits of `reference_matmul`; shapes as there.

    Operands are rounded once. Then a loop over k adds rank-one products to all elements at once,
    and no temporary exceeds the size of the result. Float32 arithmetic does the work where it
    provably gives the same bits (2 to 51 operations per product); elsewhere integers do (270 to
    340). A `FusedBlock` has a loop of its own: 6 to 35 operations per product, and a rounding for
    every L products. Operands with scales are quantized once; then their elements are multiplied.
    """
    a, b, spec = rotated_operands(a, b, spec)
    if not spec.has_scales:
        a, b = round_operands(a, b, spec, random_bits)
        return _product(a, b, c, spec, random_bits, is_guarded=True)[0]

    def run(a: Array, b: Array, c: Array | None, spec: MatmulSpec, bits: Array | None) -> Array:
        return _product(a, b, c, spec, bits, is_guarded=True)[0]

    total = scaled_product(a, b, c, spec, random_bits, run, given)
    return _finish(total, spec, random_bits)


@compiled(static_argnums=3)
def unguarded_matmul(
    a: Array, b: Array, c: Array | None, spec: MatmulSpec, random_bits: Array | None = None
) -> tuple[Array, Array]:
    """Return the product without its general branch, and whether its bits can be trusted.

    Operands are values of their formats already, unless those have scales. This compiles faster,
    which long runs want. If the second value is False, the bits may be wrong, and the computation
    has to be repeated with `emulated_matmul`.
    """
    if spec.has_scales or spec.rotation is not None:
        return emulated_matmul(a, b, c, spec, random_bits), jnp.asarray(True)
    return _product(a, b, c, spec, random_bits, is_guarded=False)


def _product(
    a: Array,
    b: Array,
    c: Array | None,
    spec: MatmulSpec,
    random_bits: Array | None,
    *,
    is_guarded: bool,
) -> tuple[Array, Array]:
    """Return c + a @ b of rounded operands, and whether its bits can be trusted.

    With a guard they always can.
    """
    is_exact = jnp.asarray(True)
    if isinstance(spec.order, FusedBlock):
        total = fused_product(a, b, c, spec, random_bits, is_finite=not is_guarded)
        if not is_guarded:
            special = [count_special(x) for x in (a, b, c) if x is not None]
            is_exact = jnp.concatenate(special).sum() == 0
    elif isinstance(spec.order, StepBlock):
        total, found = block_product(a, b, c, spec, is_guarded=is_guarded)
        is_exact = jnp.asarray(found)
    elif spec.order != SEQUENTIAL or is_stochastic(spec):
        total = ordered_matmul(a, b, c, spec, random_bits)
    else:
        general = partial(_loop, step=operations(spec).multiply_add)
        if as_carrier(a)[1] is not FLOAT32 or fast_step(spec) is None:
            total = general(a, b, c)
        else:
            fits = exact_range(a, b, c, spec)
            quick = partial(_fast_loop, spec=spec)
            if is_guarded and fits is not True:
                total = choose(fits, quick, general, a, b, c)
            else:
                total, is_exact = quick(a, b, c), jnp.asarray(fits)
    return _finish(total, spec, random_bits), is_exact


def count_special(x: Array) -> Array:
    """Count the infinities and the NaN of an array; XLA compiles two counts sooner than one."""
    carrier = as_carrier(x)[1]
    bits = bitcast(x, carrier.uint_dtype)
    return count_true(is_infinite(bits, carrier), is_nan(bits, carrier))


def round_operands(
    a: Array, b: Array, spec: MatmulSpec, random_bits: Array | None = None
) -> tuple[Array, Array]:
    """Round each operand as its spec says; block formats are quantized later, with their scales."""
    if spec.is_block_scaled or spec.has_scales:
        return a, b
    of_a, of_b = operand_bits(random_bits, a, b, spec)
    a = a if spec.lhs is None else round_array(a, of_a, spec.lhs)
    return a, b if spec.rhs is None else round_array(b, of_b, spec.rhs)


def _finish(total: Array, spec: MatmulSpec, random_bits: Array | None) -> Array:
    if not isinstance(spec.order, FusedBlock):  # which has a NaN of its own
        total = _canonical_nan(total)
    return total if spec.output is None else round_array(total, random_bits, spec.output)


def _fast_loop(a: Array, b: Array, c: Array | None, *, spec: MatmulSpec) -> Array:
    """Run the float32 step of a spec over k; on a GPU tile by tile."""
    step = fast_step(spec, starts_at_zero=c is None)
    in_program = fast_step(spec, starts_at_zero=c is None, in_program=True)
    assert step is not None
    assert in_program is not None

    def program(columns: Any, rows: Any, total: Array, read: Read) -> Array:
        def body(k: Array, total: Array) -> Array:
            x, y = read.column(columns[0], k), read.row(rows[0], k)
            return in_program(total, *(jnp.broadcast_to(v, total.shape) for v in (x, y)))

        return repeat(a.shape[-1], body, total)

    def tiled(a: Array, b: Array, total: Array) -> Array:
        columns = jnp.moveaxis(a, -1, 0)[..., None]
        return pallas_gpu.over_tiles(program, total, [columns], [b], tiles=_TILES)

    plain = partial(_loop, step=step)
    if a.shape[-1] == 0:
        return plain(a, b, c)
    return pallas_gpu.by_platform(tiled, plain, a, b, first_value(a, b, c))


def _loop(a: Array, b: Array, c: Array | None, *, step: MultiplyAdd) -> Array:
    """Run `step` over k, ascending."""
    total = first_value(a, b, c)
    # XLA simplifies 0 + x to x, which is wrong for x = -0, once a loop of one step is unrolled.
    total = kept_apart(total)
    slice_of: Any = partial(lax.dynamic_slice_in_dim, slice_size=1, allow_negative_indices=False)

    def body(k: Array, total: Array) -> Array:
        column, row = slice_of(a, k, axis=a.ndim - 1), slice_of(b, k, axis=b.ndim - 2)
        return step(total, *(jnp.broadcast_to(v, total.shape) for v in (column, row)))

    # A single fused multiply-add is bound by memory: unrolling by four takes 0.4 of the time.
    # Longer steps wait for their own results, and several in a row leave a processor fewer under
    # way.
    unroll = 4 if step is add_exact_product else 1
    return repeat(a.shape[-1], body, total, unroll=unroll)


def _canonical_nan(x: Array) -> Array:
    """Give every NaN the one pattern that the reference returns."""
    carrier = as_carrier(x)[1]
    bits = bitcast(x, carrier.uint_dtype)
    bits = jnp.where(is_nan(bits, carrier), carrier.uint(carrier.quiet_nan), bits)
    return bitcast(bits, carrier.float_dtype)
