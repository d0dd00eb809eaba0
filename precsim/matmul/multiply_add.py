"""One multiply-accumulate by definition, ``fl(total + x * y)``: integers, any spec, either library."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from precsim._arrays import Array, namespace
from precsim.arithmetic.elementwise import add, fma, multiply, subtract
from precsim.matmul.spec import MatmulSpec
from precsim.rounding.api import round_to

Step: TypeAlias = Callable[[Array, Array, Array], Array]


class Operations(NamedTuple):
    """The rounded operations of a spec; with an adder, sums are rounded twice."""

    multiply_add: Step
    """``multiply_add(total, x, y)``: the exact product, or the rounded one, added to a total."""
    product: Callable[[Array, Array], Array]
    """A product that is a sum of its own: rounded as the spec's products are, then as its sums."""
    plus: Callable[[Array, Array], Array]
    minus: Callable[[Array, Array], Array]


def operations(spec: MatmulSpec) -> Operations:
    """Return the operations of a spec."""
    target = spec.accumulator if spec.adder is None else spec.adder

    def stored(x: Array) -> Array:
        return x if spec.adder is None else round_to(x, spec.accumulator)

    def plus(x: Array, y: Array) -> Array:
        return stored(add(x, y, target))

    def minus(x: Array, y: Array) -> Array:
        return stored(subtract(x, y, target))

    def product(x: Array, y: Array) -> Array:
        if spec.product is None:
            return multiply(x, y, spec.accumulator)
        products = multiply(x, y, spec.product)
        return plus(products, namespace(products).zeros_like(products))

    def multiply_add(total: Array, x: Array, y: Array) -> Array:
        if spec.product is None:
            return stored(fma(x, y, total, target))
        return plus(total, multiply(x, y, spec.product))

    return Operations(multiply_add, product, plus, minus)
