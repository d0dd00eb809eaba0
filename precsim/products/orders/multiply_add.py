"""The definition of a multiply-add, ``fl(total + x * y)``: integers, any spec, either library."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from precsim._arrays import Array, namespace
from precsim.arithmetic.elementwise import add, fma, multiply, subtract
from precsim.arithmetic.sums.ordered import Place
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.modes import RoundingMode
from precsim.rounding.round_to import round_to
from precsim.rounding.threefry import bits_at

MultiplyAdd: TypeAlias = Callable[[Array, Array, Array], Array]
"""``f(total, x, y)``: the total with a product added, rounded as a spec says."""
_FIRST = (0, 0)


class Operations(NamedTuple):
    """The rounded operations of a spec; with an adder, sums are rounded twice.

    Each has a place (k, i) last, the counter of its random bits where the accumulator rounds
    stochastically.
    """

    multiply_add: Callable[..., Array]
    """``multiply_add(total, x, y, at)``: a total plus the exact product, or the rounded one."""
    product: Callable[[Array, Array, Place], Array]
    """A product that is a sum of its own: rounded as the spec's products are, then as its sums."""
    plus: Callable[[Array, Array, Place], Array]
    minus: Callable[[Array, Array, Place], Array]


def is_stochastic(spec: MatmulSpec) -> bool:
    """Return whether a spec's partial sums are rounded stochastically."""
    return spec.accumulator.mode is RoundingMode.STOCHASTIC


def as_seeds(random_bits: Array | None, spec: MatmulSpec) -> Array | None:
    """Return the seeds of the accumulators' random bits, uint32; None if none is stochastic."""
    if not is_stochastic(spec):
        return None
    if random_bits is None:
        raise ValueError(
            f"random_bits is missing: the accumulator of '{spec}' is rounded stochastically and needs one "
            "seed per element of the product"
        )
    return random_bits.astype(np.uint32)


def operations(spec: MatmulSpec, seeds: Array | None = None) -> Operations:
    """Return the operations of a spec; `seeds` have the shape of the result."""
    target = spec.accumulator if spec.adder is None else spec.adder

    def bits(at: Place, is_last: bool) -> Array | None:
        return bits_at(seeds, *at) if is_last and seeds is not None else None

    def stored(x: Array, at: Place) -> Array:
        if spec.adder is None:
            return x
        return round_to(x, spec.accumulator, random_bits=bits(at, True))

    def plus(x: Array, y: Array, at: Place) -> Array:
        return stored(add(x, y, target, random_bits=bits(at, spec.adder is None)), at)

    def minus(x: Array, y: Array, at: Place) -> Array:
        return stored(subtract(x, y, target, random_bits=bits(at, spec.adder is None)), at)

    def product(x: Array, y: Array, at: Place) -> Array:
        if spec.product is None:
            return multiply(x, y, spec.accumulator, random_bits=bits(at, True))
        products = multiply(x, y, spec.product)
        return plus(products, namespace(products).zeros_like(products), at)

    def multiply_add(total: Array, x: Array, y: Array, at: Place = _FIRST) -> Array:
        if spec.product is None:
            noise = bits(at, spec.adder is None)
            return stored(fma(x, y, total, target, random_bits=noise), at)
        return plus(total, multiply(x, y, spec.product), at)

    return Operations(multiply_add, product, plus, minus)
