"""Matrix products in orders other than k ascending: one source for NumPy (the reference) and JAX."""

from typing import Any

import numpy as np

from precsim._arrays import Array, is_jax, namespace
from precsim.arithmetic.elementwise import add, fma, multiply, subtract
from precsim.arithmetic.order import Order
from precsim.arithmetic.ordered_sum import Terms, ordered_sum
from precsim.matmul.spec import MatmulSpec
from precsim.rounding.api import round_to


def ordered_matmul(a: Array, b: Array, c: Array | None, spec: MatmulSpec) -> Array:
    """Return c + a @ b in the order of the spec, operands rounded already.

    A product is rounded to `product`, else to the accumulator, before it is a term of a sum; only where it is
    added to a running total (in blocks) it stays exact, as in the sequential order. Integer arithmetic: about
    150 operations for each addition, 250 with a product. Shapes (..., M, K), (..., K, N) and (..., M, N).
    """
    order = spec.order
    assert isinstance(order, Order)
    xp = namespace(a, b, c)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*batch, a.shape[-2], b.shape[-1])
    start = xp.zeros(shape, a.dtype) if c is None else xp.broadcast_to(xp.asarray(c), shape)
    columns = xp.moveaxis(xp.asarray(a), -1, 0)[..., None]
    rows = xp.moveaxis(xp.asarray(b), -2, 0)[..., None, :]
    target = spec.accumulator if spec.adder is None else spec.adder

    def stored(x: Array) -> Array:
        return x if spec.adder is None else round_to(x, spec.accumulator)

    def plus(x: Array, y: Array) -> Array:
        return stored(add(x, y, target))

    def minus(x: Array, y: Array) -> Array:
        return stored(subtract(x, y, target))

    def term(k: Any) -> Array:
        products = multiply(_row(columns, k), _row(rows, k), spec.product or spec.accumulator)
        # A product in a format of its own becomes a sum by adding nothing.
        return products if spec.product is None else plus(products, xp.zeros_like(products))

    def step(total: Array, k: Any) -> Array:
        x, y = _row(columns, k), _row(rows, k)
        if spec.product is None:
            return stored(fma(x, y, total, target))
        return plus(total, multiply(x, y, spec.product))

    return ordered_sum(Terms(a.shape[-1], term, step, plus, minus), start, order)


def _row(x: Array, k: Any) -> Array:
    if not is_jax(x):
        return x[k]
    from jax import lax

    return lax.dynamic_index_in_dim(x, k, 0, keepdims=False)
