"""Matrix products in any order of summation: one source for NumPy (the reference) and JAX."""

from typing import Any

from precsim._arrays import Array, entry
from precsim.arithmetic.sums.order import Exact, Order
from precsim.arithmetic.sums.ordered import Terms, ordered_sum
from precsim.products.orders.exact import exact_matmul
from precsim.products.orders.multiply_add import as_seeds, operations
from precsim.products.shapes import first_value, with_k_first
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.threefry import bits_at


def ordered_matmul(
    a: Array, b: Array, c: Array | None, spec: MatmulSpec, random_bits: Array | None = None
) -> Array:
    """Return c + a @ b in the order of the spec, operands rounded already.

    A product is rounded to `product`, else to the accumulator, before it is a term of a sum; only
    where it is added to a running total (in blocks) it stays exact, as in the sequential order.
    Integer arithmetic. A product costs 270 to 340 operations in sequential order, 290 in blocks,
    380 pairwise, 1,040 with "kahan" and 1,700 with "two_sum". Shapes (..., M, K), (..., K, N) and
    (..., M, N). Stochastic roundings take the bits of Threefry at their place in the order, with
    the element's word of `random_bits` as the key (180 operations more in sequential order, of
    which Threefry takes 110).
    """
    order = spec.order
    assert isinstance(order, Order)
    seeds = as_seeds(random_bits, spec)
    if isinstance(order, Exact):
        noise = None if seeds is None else bits_at(seeds, a.shape[-1])
        return exact_matmul(a, b, c, spec, noise)
    start = first_value(a, b, c)
    columns, rows = with_k_first(a, b)
    multiply_add, product, plus, minus = operations(spec, seeds)

    def term(k: Any) -> Array:
        return product(entry(columns, k), entry(rows, k), (k, 0))

    def step(total: Array, k: Any) -> Array:
        return multiply_add(total, entry(columns, k), entry(rows, k), (k, 0))

    return ordered_sum(Terms(a.shape[-1], term, step, plus, minus), start, order)
