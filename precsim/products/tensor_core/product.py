"""Products whose sums of a step fit one word: operands, tiles of columns, and the step."""

from functools import partial
from typing import Any

import numpy as np

from precsim._arrays import Array, bitcast, entry, is_jax, namespace
from precsim._loops import Fold, traced_once
from precsim.formats.carrier import FLOAT32
from precsim.products.specs.core import Core
from precsim.products.tensor_core.plan import Arranged, Plan, in_order
from precsim.products.tensor_core.step import (
    OneWordFactor,
    add_in_one_word,
    count_negative,
    decode,
    exact_product,
    make_factors,
)
from precsim.products.tensor_core.tiles import row, tiles_of

_U = FLOAT32.uint_dtype


def in_one_word(a: Array, b: Array, first: Array, core: Core, where: Plan) -> Arranged:
    """Arrange a product for steps of one word; operands in their formats, first totals as patterns.

    6 (fp8) or 8 integer operations per product, and the rounding of one accumulator per L products.
    No temporary is larger than the result times two. Factors have the shapes (K, 1, ..., M, 1) and,
    tile by tile, (tiles, ..., K, columns).
    """
    xp = namespace(a, b, first)
    tiles = tiles_of(first.shape[-1], core.block.length, is_compiled=xp is not np)
    # As many axes as the result has, and one for the tiles before them.
    a = a.reshape((1,) * (first.ndim - a.ndim + 1) + a.shape)
    b = b.reshape((1,) * (first.ndim - b.ndim) + b.shape)
    columns = xp.moveaxis(bitcast(a, _U), -1, 0)[..., None]
    rows = xp.moveaxis(bitcast(b, _U), -2, 0)[..., None, :]
    columns, rows = (in_order(x, where.places) for x in (columns, rows))
    x, y = _factors(columns, rows, core)
    tiled = (tiles.split(xp.moveaxis(part[..., 0, :], 0, -2)) for part in y)
    on_gpu = None
    if is_jax(first):
        from precsim.products.tensor_core.float32_step import chain_on_gpu

        on_gpu = partial(chain_on_gpu, core=core)
    return Arranged(
        tiles.split(first),
        x,
        OneWordFactor(*tiled),
        partial(_step, core=core),
        lambda x, y, k: (entry(x.bits, k), row(y.bits, k)),
        on_gpu,
        tiles.join,
    )


@traced_once("core")
def _factors(columns: Array, rows: Array, core: Core) -> tuple[OneWordFactor, OneWordFactor]:
    return make_factors(decode(columns, core.lhs.element), decode(rows, core.rhs.element), core)


def _step(
    x: OneWordFactor, y: OneWordFactor, total: Array, n: Any, fold: Fold, *, core: Core
) -> Array:
    """Return the totals after step n."""
    length = core.block.length
    start = n * length
    product = lambda lane: exact_product(x, y, start + lane, core)
    return add_in_one_word(total, product, count_negative(x, y, n, length), core, fold)
