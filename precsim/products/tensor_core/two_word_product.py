"""Matrix products of fused blocks that `tensor_core` has too few bits for, and of block-scaled operands."""

from functools import partial
from typing import Any

import numpy as np

from precsim._arrays import Array, bitcast, entry, namespace, repeat
from precsim.arithmetic.elementwise import multiply
from precsim.formats.block import BlockFormat
from precsim.formats.carrier import FLOAT32
from precsim.products.orders.multiply_add import as_seeds
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.limits import is_block_scaled, products_of
from precsim.products.specs.spec import MatmulSpec
from precsim.products.tensor_core.block_operands import Factor, numbers, scaled
from precsim.products.tensor_core.plan import FILL, Plan, add_chains, in_order, plan
from precsim.products.tensor_core.product import with_or_without_special
from precsim.products.tensor_core.step import (
    NAN,
    Fold,
    Step,
    add_special,
    special_products,
    unrolled,
)
from precsim.products.tensor_core.two_word_step import NO_EXPONENT, add_terms
from precsim.rounding.scaled.quantized import quantize_array
from precsim.rounding.threefry import bits_at

_U, _I = FLOAT32.uint_dtype, FLOAT32.int_dtype


def wide_matmul(
    a: Array, b: Array, c: Array | None, spec: MatmulSpec, random_bits: Array | None = None
) -> Array:
    """Return c + a @ b, float32 carriers; operands in their formats, but block formats not yet quantized.

    Shapes (..., M, K), (..., K, N) and (..., M, N). About 35 operations per term (a product, or a group of them with
    2 operations each), 150 per step. Stochastic accumulators take the bits of Threefry at (seed, index of the step's
    first product in the order of the schedule).
    """
    order = spec.order
    assert isinstance(order, FusedBlock)
    xp = namespace(a, b, c)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*batch, a.shape[-2], b.shape[-1])
    first = xp.zeros(shape, _U) if c is None else bitcast(xp.broadcast_to(c, shape), _U)
    where = plan(order, a.shape[-1])
    columns, rows, alpha = _factors(xp.asarray(a), xp.asarray(b), spec, where)
    step = Step(
        order.length // order.group,
        order.fraction_bits,
        products_of(spec).fraction_bits,
        order.zero_exponent,
        spec.accumulator,
    )
    run = partial(_chained, where=where, order=order, step=step, seeds=as_seeds(random_bits, spec))
    total = bitcast(with_or_without_special(run, first, columns, rows), FLOAT32.float_dtype)
    if alpha is None:
        return total
    bits = bitcast(multiply(total, alpha, "fp32"), _U)
    is_nan = (bits & _U(FLOAT32.sign_bit - 1)) > _U(FLOAT32.infinity)
    return bitcast(xp.where(is_nan, _U(NAN), bits), FLOAT32.float_dtype)


def _factors(
    a: Array, b: Array, spec: MatmulSpec, where: Plan
) -> tuple[Factor, Factor, Array | None]:
    """Return both operands, K first in the order of the steps, and the product of their tensor scales."""
    order = spec.order
    assert isinstance(order, FusedBlock)
    made, scales = [], []
    for x, part, axis in ((a, spec.lhs, -1), (b, spec.rhs, -2)):
        assert part is not None
        to_front = partial(_to_front, axis=axis)
        if not is_block_scaled(spec):
            bits = in_order(to_front(bitcast(x, _U)), where.places)
            made.append(numbers(bits, part.format))  # type: ignore[arg-type]
            continue
        fmt = part.format
        assert isinstance(fmt, BlockFormat)
        q = quantize_array(x, None, part, axis)
        if q.tensor_scale is not None:
            scales.append(q.tensor_scale)
        codes = _filled(to_front(q.codes), order.group)
        factor = scaled(codes, to_front(q.scales), fmt, order.group)
        made.append(_factor_in_order(factor, where, order.group))
    alpha = None
    if scales:
        alpha = scales[0] if len(scales) == 1 else multiply(scales[0], scales[1], "fp32")
    return made[0], made[1], alpha


def _to_front(x: Array, axis: int) -> Array:
    """Bring K to the front and leave an axis of length 1 for the other operand's dimension."""
    moved = namespace(x).moveaxis(x, axis, 0)
    return moved[..., None] if axis == -1 else moved[..., None, :]


def _filled(x: Array, unit: int) -> Array:
    fill = -x.shape[0] % unit
    return namespace(x).pad(x, [(0, fill), *[(0, 0)] * (x.ndim - 1)])


def _factor_in_order(factor: Factor, where: Plan, group: int) -> Factor:
    """Bring a factor into the order of the steps, by whole groups; zeros have no exponent."""
    firsts = where.places.reshape(-1, group)[:, 0]
    places = np.where(firsts == FILL, FILL, firsts // group)
    by_group = factor.significand.reshape(-1, group, *factor.significand.shape[1:])
    significand = in_order(by_group, places)
    return Factor(
        significand.reshape(-1, *significand.shape[2:]),
        in_order(factor.exponent, places, NO_EXPONENT),
        None if factor.scale is None else in_order(factor.scale, places),
        in_order(factor.bits, places),
    )


def _chained(
    first: Array,
    x: Factor,
    y: Factor,
    *,
    where: Plan,
    order: FusedBlock,
    step: Step,
    seeds: Array | None,
    is_special: bool,
) -> Array:
    """Chain the steps over K as the plan says."""
    steps = len(where.places) // order.length // max(where.chains, 1)
    # A step without products is none: it could cut bits off the accumulator.
    is_step = (where.places.reshape(-1, order.length) != FILL).any(axis=1)
    # The careful branch hardly ever runs, so it is kept short to compile.
    fold = repeat if is_special else unrolled

    xp = namespace(first)

    def run_step(n: Any, total: Array) -> Array:
        term = partial(_term, x, y, n * step.length, group=order.group, fold=fold)
        noise = None if seeds is None else bits_at(seeds, n * order.length)
        finite = add_terms(total, term, step, fold, sticky=order.sticky, random_bits=noise)
        if not is_step.all():
            finite = xp.where(xp.asarray(is_step)[n], finite, total)
        if not is_special:
            return finite
        patterns = lambda lane: tuple(entry(f.bits, n * step.length + lane) for f in (x, y))
        special = special_products(patterns, step, fold)
        return add_special(total, finite, special)

    def chain(total: Array, number: Any) -> Array:
        return repeat(steps, lambda n, total: run_step(number * steps + n, total), total)

    return add_chains(chain, first, where, step.accumulator)


def _term(
    x: Factor, y: Factor, first: Any, lane: Any, *, group: int, fold: Fold
) -> tuple[Array, Array]:
    """Return one term: a product, or the exact sum of a group of products times its scales."""
    k = first + lane
    exponent = entry(x.exponent, k) + entry(y.exponent, k)
    if group == 1:
        return entry(x.significand, k) * entry(y.significand, k), exponent
    start = k * group

    def product(g: Any) -> Array:
        return entry(x.significand, start + g) * entry(y.significand, start + g)

    total = fold(group - 1, lambda g, total: total + product(g + 1), product(0))
    significand = total * (entry(x.scale, k) * entry(y.scale, k))
    return significand, namespace(total).where(significand == _I(0), _I(NO_EXPONENT), exponent)
