"""Matrix products as tensor cores compute them: the steps of `fused_step`, chained by a schedule.

The same source runs on NumPy arrays (the reference) and under JAX (compiled).
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from precsim._arrays import Array, bitcast, is_jax, namespace
from precsim.formats.carrier import FLOAT32
from precsim.formats.floating import FloatFormat
from precsim.products.specs.fused_block import FLAT, FusedBlock, Promote
from precsim.products.specs.spec import MatmulSpec
from precsim.products.tensor_core.chain import add_products
from precsim.products.tensor_core.plan import add_chains, in_order, plan
from precsim.products.tensor_core.step import Factor, Step, decode_operand, make_factors
from precsim.products.tensor_core.tiles import tiles_of

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
    places = plan(order, a.shape[-1]).places
    columns, rows = (in_order(x, places) for x in (columns, rows))
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


def with_or_without_special(run: Any, first: Array, x: Any, y: Any) -> Array:
    """Run with the steps' special cases only where there is an infinity or a NaN in the factors' `bits`."""
    xp = namespace(first, x.bits)
    magnitude, infinity = _U(FLOAT32.sign_bit - 1), _U(FLOAT32.infinity)
    is_special = [xp.any((bits & magnitude) >= infinity) for bits in (first, x.bits, y.bits)]
    some = is_special[0] | is_special[1] | is_special[2]
    plain, careful = partial(run, is_special=False), partial(run, is_special=True)
    if not is_jax(some):
        return (careful if some else plain)(first, x, y)
    from precsim._calls import choose

    return choose(some, careful, plain, first, x, y)


def _scheduled(
    first: Array, x: Factor, y: Factor, *, order: FusedBlock, step: Step, is_special: bool
) -> Array:
    """Chain the steps over K as the schedule says."""
    count = x.bits.shape[0]
    where = plan(order, count)  # filled up already, which leaves the chains as they are
    part = count // max(where.chains, 1)
    chain = partial(add_products, x, y, step=step, is_special=is_special)
    run = lambda total, j: chain(total, j * part, part)
    return add_chains(run, first, where, step.accumulator)
