"""Matrix products as tensor cores compute them: the steps of `fused_step`, chained by a schedule.

The same source runs on NumPy arrays (the reference) and under JAX (compiled).
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from precsim._arrays import Array, bitcast, is_jax, namespace, repeat
from precsim.arithmetic.elementwise import add
from precsim.formats.carrier import FLOAT32
from precsim.formats.floating import FloatFormat
from precsim.formats.registry import get_format
from precsim.matmul.chain import add_products
from precsim.matmul.fused_block import (
    FLAT,
    FusedBlock,
    PairInterleaved,
    Promote,
    ResidueFirst,
    SplitK,
    ceil_div,
)
from precsim.matmul.fused_step import NAN, Factor, Step, decode_operand, make_factors
from precsim.matmul.spec import MatmulSpec
from precsim.matmul.tiles import tiles_of
from precsim.rounding.spec import RoundingSpec

_U = FLOAT32.uint_dtype


def fused_matmul(
    a: Array, b: Array, c: Array | None, spec: MatmulSpec, *, is_finite: bool = False
) -> Array:
    """Return c + a @ b, float32 carriers, operands already in their formats.

    Shapes (..., M, K), (..., K, N) and (..., M, N). 6 (fp8) or 8 integer operations per product, and the rounding of
    one accumulator per L products; no temporary larger than the result times two. `is_finite`: the caller
    vouches that no operand is infinite or NaN, which halves the time to compile.
    """
    order = spec.order
    assert isinstance(order, FusedBlock)
    assert spec.lhs is not None
    assert spec.rhs is not None
    if isinstance(order.schedule, Promote) and c is None and a.shape[-1] <= order.schedule.interval:
        order = replace(order, schedule=FLAT)  # one chain, with no need to fill it up
    lhs, rhs = spec.lhs.format, spec.rhs.format
    assert isinstance(lhs, FloatFormat)
    assert isinstance(rhs, FloatFormat)
    xp = namespace(a, b, c)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*batch, a.shape[-2], b.shape[-1])
    tiles = tiles_of(shape[-1], order.length, is_compiled=xp is not np)
    if c is None:
        first = xp.zeros((tiles.number, *shape[:-1], tiles.width), _U)
    else:
        first = tiles.split(bitcast(xp.broadcast_to(c, shape), _U))
    columns = xp.moveaxis(bitcast(xp.asarray(a), _U), -1, 0)[..., None]
    # As many axes as the result has: tiles come before them.
    b = xp.asarray(b).reshape((1,) * (len(batch) - b.ndim + 2) + b.shape)
    rows = xp.moveaxis(bitcast(b, _U), -2, 0)[..., None, :]
    columns, rows = _arranged(columns, rows, order)
    step = Step(
        order.length,
        order.fraction_bits,
        lhs.precision + rhs.precision - 2,
        order.zero_exponent,
        spec.accumulator,
        (lhs.precision, rhs.precision),
        (lhs.emin + rhs.emin, lhs.emax + rhs.emax),
    )
    x, y = make_factors(decode_operand(columns, lhs), decode_operand(rows, rhs), step)
    tiled = (tiles.split(xp.moveaxis(part[..., 0, :], 0, -2)) for part in y)
    run = partial(_scheduled, order=order, step=step)
    if is_finite:
        bits = run(first, x, Factor(*tiled), is_special=False)
    else:
        bits = with_or_without_special(run, first, x, Factor(*tiled))
    return bitcast(tiles.join(bits), FLOAT32.float_dtype)


def _arranged(columns: Array, rows: Array, order: FusedBlock) -> tuple[Array, Array]:
    """Bring K (axis 0) into the order of the steps, filled up with zeros, which change nothing."""
    xp = namespace(columns, rows)
    k = columns.shape[0]
    match order.schedule:
        case ResidueFirst(granule=g) if k % g:
            fill = -(k % g) % order.length
            columns, rows = (
                xp.concatenate([x[: k % g], _zeros(x, fill), x[k % g :]]) for x in (columns, rows)
            )
            unit = order.length
        case PairInterleaved():
            unit = 32
        case Promote(interval=n):
            unit = n
        case SplitK(splits=s, granule=g):
            # The last part may be shorter: all parts get the length of the others.
            unit = ceil_div(ceil_div(k, g), s) * g * s if k else order.length
        case _:
            unit = order.length
    fill = -columns.shape[0] % unit
    columns, rows = (xp.concatenate([x, _zeros(x, fill)]) if fill else x for x in (columns, rows))
    if order.schedule == PairInterleaved():
        within = np.arange(unit)
        within = np.concatenate([within[within % 4 < 2], within[within % 4 >= 2]])
        index = (np.arange(columns.shape[0]).reshape(-1, unit)[:, within]).reshape(-1)
        columns, rows = columns[index], rows[index]
    return columns, rows


def _zeros(x: Array, count: int) -> Array:
    return namespace(x).zeros((count, *x.shape[1:]), x.dtype)


def with_or_without_special(run: Any, first: Array, x: Any, y: Any) -> Array:
    """Run with the steps' special cases only where there is an infinity or a NaN in the factors' `bits`."""
    xp = namespace(first, x.bits)
    magnitude, infinity = _U(FLOAT32.sign_bit - 1), _U(FLOAT32.infinity)
    is_special = [xp.any((bits & magnitude) >= infinity) for bits in (first, x.bits, y.bits)]
    some = is_special[0] | is_special[1] | is_special[2]
    plain, careful = partial(run, is_special=False), partial(run, is_special=True)
    if not is_jax(some):
        return (careful if some else plain)(first, x, y)
    from jax import lax

    return lax.cond(some, careful, plain, first, x, y)


def _scheduled(
    first: Array, x: Factor, y: Factor, *, order: FusedBlock, step: Step, is_special: bool
) -> Array:
    """Chain the steps over K as the schedule says."""
    count = x.bits.shape[0]
    chain = partial(add_products, x, y, step=step, is_special=is_special)
    match order.schedule:
        case Promote() | PairInterleaved() as schedule:
            part = schedule.interval if isinstance(schedule, Promote) else 32
            zero = namespace(first).zeros_like(first)
            body = lambda k, total: add_totals(total, chain(zero, k * part, part), step.accumulator)
            return repeat(count // part, body, first)
        case SplitK(splits=s):
            part = count // s
            zero = namespace(first).zeros_like(first)
            total = chain(first, 0, part)
            body = lambda k, total: add_totals(
                total, chain(zero, (k + 1) * part, part), step.accumulator
            )
            return repeat(s - 1, body, total)
        case _:
            return chain(first, 0, count)


def add_totals(x: Array, y: Array, accumulator: RoundingSpec) -> Array:
    """Add two totals (patterns) with one rounding to nearest, in float32 or the accumulator's fp16."""
    fmt = accumulator.format
    target = fmt if fmt == get_format("fp16") else get_format("fp32")
    x, y = (bitcast(v, FLOAT32.float_dtype) for v in (x, y))
    total = bitcast(add(x, y, target), _U)
    is_nan = (total & _U(FLOAT32.sign_bit - 1)) > _U(FLOAT32.infinity)
    return namespace(total).where(is_nan, _U(NAN), total)
