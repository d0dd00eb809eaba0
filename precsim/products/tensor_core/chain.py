"""A chain of tensor-core steps over consecutive products: as one loop, or on a GPU tile by tile."""

from functools import partial
from typing import Any

from precsim._arrays import Array, entry, is_jax, repeat
from precsim.products.tensor_core.step import (
    Factor,
    Fold,
    Step,
    add_block,
    add_special,
    count_negative,
    exact_product,
    special_products,
    unrolled,
)
from precsim.products.tensor_core.tiles import row


def add_products(
    x: Factor, y: Factor, total: Array, start: Any, count: int, *, step: Step, is_special: bool
) -> Array:
    """Return accumulators (patterns) after `count` products from index `start` on, L a step.

    Shapes: x (K, ..., M, 1), y (..., K, N), total (..., M, N); `start` and `count` are multiples of L. `is_special`: products
    may be infinite or NaN.
    """
    run = partial(_loop, start=start, count=count, step=step)
    if is_special:
        # Hardly ever run, so it is kept short to compile.
        return run(x, y, total, fold=repeat, is_special=True)
    if not is_jax(total) or not count:
        return run(x, y, total)
    from precsim.products import pallas_gpu
    from precsim.products.tensor_core import float32_step as float_step

    tiled = partial(float_step.add_products, start=start, count=count, step=step, otherwise=run)
    return pallas_gpu.by_platform(tiled, run, x, y, total)


def _loop(
    x: Factor,
    y: Factor,
    total: Array,
    *,
    start: Any,
    count: int,
    step: Step,
    fold: Fold = unrolled,
    is_special: bool = False,
) -> Array:
    def body(group: Any, total: Array) -> Array:
        first = start + group * step.length
        product = lambda lane: exact_product(x, y, first + lane, step)
        negative = count_negative(x, y, start // step.length + group, step.length)
        finite = add_block(total, product, negative, step, fold)
        if not is_special:
            return finite
        patterns = lambda lane: (entry(x.bits, first + lane), row(y.bits, first + lane))
        return add_special(total, finite, special_products(patterns, step, fold))

    return repeat(count // step.length, body, total)
