"""Emulated matrix products under JAX: the reference's bits from one compiled loop over k."""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from precsim._arrays import Array, bitcast, count_true
from precsim._calls import choose, compiled, kept_apart
from precsim._loops import repeat
from precsim.arithmetic.sums.order import SEQUENTIAL
from precsim.formats.carrier import FLOAT32, as_carrier, is_infinite, is_nan
from precsim.products import pallas_gpu
from precsim.products.orders.float32 import (
    Extent,
    add_exact_product,
    exact_range,
    fast_step,
    is_exact_by_format,
)
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
        return _product(a, b, c, spec, random_bits)[0]

    return _scaled(a, b, c, spec, random_bits, given, None)[0]


def _scaled(
    a: Array,
    b: Array,
    c: Array | None,
    spec: MatmulSpec,
    random_bits: Array | None,
    given: Scales,
    known: "tuple[Facts, Facts] | None",
) -> tuple[Array, Array]:
    """Return a product of operands with scales, and whether its bits can be trusted."""
    are_exact = []

    def run(a: Array, b: Array, c: Array | None, spec: MatmulSpec, bits: Array | None) -> Array:
        total, is_exact = _product(a, b, c, spec, bits, known=known)
        are_exact.append(is_exact)
        return total

    total = scaled_product(a, b, c, spec, random_bits, run, given)
    is_exact = jnp.asarray(True) if known is None or not are_exact else are_exact[0]
    return _finish(total, spec, random_bits), is_exact


class Facts(NamedTuple):
    """What `unguarded_matmul` has to know of an operand; None where it has to find out."""

    extent: Extent | None = None
    special: Array | None = None
    """Whether there is an infinity or a NaN."""


def asked_facts(spec: MatmulSpec, depth: int) -> tuple[str, ...]:
    """Return which facts of its operands an unguarded product asks for; `depth` is K."""
    if spec.has_scales or spec.rotation is not None:
        return ()
    if isinstance(spec.order, FusedBlock):
        return ("special",)
    is_quick = spec.order == SEQUENTIAL and not is_stochastic(spec) and fast_step(spec) is not None
    return ("extent",) if is_quick and not is_exact_by_format(spec, depth) else ()


@compiled(static_argnums=(3, 6))
def unguarded_matmul(
    a: Array,
    b: Array,
    c: Array | None,
    spec: MatmulSpec,
    random_bits: Array | None = None,
    known: tuple[Facts, Facts] = (Facts(), Facts()),
    k_first: bool = False,
) -> tuple[Array, Array]:
    """Return the product without its general branch, and whether its bits can be trusted.

    Operands are values of their formats already, unless those have scales. This compiles faster,
    which long runs want. If the second value is False, the bits may be wrong, and the computation
    has to be repeated with `emulated_matmul`. With `k_first` the shape of `a` is (..., K, M): XLA's
    CPU compiler takes five times as long for a matrix that is transposed as for other kernels.
    """
    if spec.rotation is None and spec.has_scales and spec.stretch is None:
        a = a.mT if k_first else a
        return _scaled(a, b, c, spec, random_bits, NO_SCALES, (Facts(), Facts()))
    if spec.has_scales or spec.rotation is not None:  # in a loop over stretches there is a guard
        a = a.mT if k_first else a
        return emulated_matmul(a, b, c, spec, random_bits), jnp.asarray(True)
    return _product(a, b, c, spec, random_bits, known=known, k_first=k_first)


def _product(
    a: Array,
    b: Array,
    c: Array | None,
    spec: MatmulSpec,
    random_bits: Array | None,
    *,
    known: tuple[Facts, Facts] | None = None,
    k_first: bool = False,
) -> tuple[Array, Array]:
    """Return c + a @ b of rounded operands, and whether its bits can be trusted.

    Without known facts there is a guard, and they always can.
    """
    is_exact: Array = jnp.asarray(True)
    matrix = a.mT if k_first else a
    if isinstance(spec.order, FusedBlock):
        total = fused_product(matrix, b, c, spec, random_bits, is_finite=known is not None)
        if known is not None:
            is_exact = ~_has_special((a, known[0]), (b, known[1]), (c, Facts()))
    elif isinstance(spec.order, StepBlock):
        total, found = block_product(matrix, b, c, spec, is_guarded=known is None)
        is_exact = jnp.asarray(found)
    elif spec.order != SEQUENTIAL or is_stochastic(spec):
        total = ordered_matmul(matrix, b, c, spec, random_bits)
    else:
        general = partial(_loop, step=operations(spec).multiply_add)
        if as_carrier(a)[1] is not FLOAT32 or fast_step(spec) is None:
            total = general(matrix, b, c)
        elif known is not None:
            total = _fast_loop(a, b, c, spec=spec, k_first=k_first)
            extents = known[0].extent, known[1].extent
            is_exact = jnp.asarray(exact_range(matrix, b, c, spec, extents))
        else:
            fits = exact_range(a, b, c, spec)
            quick = partial(_fast_loop, spec=spec)
            total = quick(a, b, c) if fits is True else choose(fits, quick, general, a, b, c)
    return _finish(total, spec, random_bits), is_exact


def _has_special(*operands: tuple[Array | None, Facts]) -> Array:
    found = [
        count_special(x).sum() > 0 if facts.special is None else facts.special
        for x, facts in operands
        if x is not None
    ]
    return jnp.stack(found).any()


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


def _fast_loop(
    a: Array, b: Array, c: Array | None, *, spec: MatmulSpec, k_first: bool = False
) -> Array:
    """Run the float32 step of a spec over k; on a GPU tile by tile."""
    axis = -2 if k_first else -1
    depth = a.shape[axis]
    step = fast_step(spec, starts_at_zero=c is None)
    in_program = fast_step(spec, starts_at_zero=c is None, in_program=True)
    assert step is not None
    assert in_program is not None

    def program(columns: Any, rows: Any, total: Array, read: Read) -> Array:
        def body(k: Array, total: Array) -> Array:
            x, y = read.column(columns[0], k), read.row(rows[0], k)
            return in_program(total, *(jnp.broadcast_to(v, total.shape) for v in (x, y)))

        return repeat(depth, body, total)

    def tiled(a: Array, b: Array, total: Array) -> Array:
        columns = jnp.moveaxis(a, axis, 0)[..., None]
        return pallas_gpu.over_tiles(program, total, [columns], [b], tiles=_TILES)

    plain = partial(_loop, step=step, axis=axis)
    if depth == 0:
        return plain(a, b, c)
    return pallas_gpu.by_platform(tiled, plain, a, b, first_value(a.mT if k_first else a, b, c))


def _loop(a: Array, b: Array, c: Array | None, *, step: MultiplyAdd, axis: int = -1) -> Array:
    """Run `step` over k, ascending; `axis`, -1 or -2, is that of K in a."""
    total = first_value(a if axis == -1 else a.mT, b, c)
    # XLA simplifies 0 + x to x, which is wrong for x = -0, once a loop of one step is unrolled.
    total = kept_apart(total)
    slice_of: Any = partial(lax.dynamic_slice_in_dim, slice_size=1, allow_negative_indices=False)

    def body(k: Array, total: Array) -> Array:
        column, row = slice_of(a, k, axis=a.ndim + axis), slice_of(b, k, axis=b.ndim - 2)
        column = column if axis == -1 else column.mT
        return step(total, *(jnp.broadcast_to(v, total.shape) for v in (column, row)))

    # A single fused multiply-add is bound by memory: unrolling by four takes 0.4 of the time.
    # Longer steps wait for their own results, and several in a row leave a processor fewer under
    # way.
    unroll = 4 if step is add_exact_product else 1
    return repeat(b.shape[-2], body, total, unroll=unroll)


def _canonical_nan(x: Array) -> Array:
    """Give every NaN the one pattern that the reference returns."""
    carrier = as_carrier(x)[1]
    bits = bitcast(x, carrier.uint_dtype)
    bits = jnp.where(is_nan(bits, carrier), carrier.uint(carrier.quiet_nan), bits)
    return bitcast(bits, carrier.float_dtype)
