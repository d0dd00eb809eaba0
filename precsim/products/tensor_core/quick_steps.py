"""`QuickSteps`: steps of a `StepBlock` that are quick, and exact for numbers within a range."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from precsim._arrays import Array, bitcast
from precsim.formats.carrier import FLOAT32
from precsim.products.orders.float32 import in_range
from precsim.products.specs.spec import MatmulSpec
from precsim.products.tensor_core.plan import Step


class QuickSteps(NamedTuple):
    """Steps, and the numbers for which they have the general steps' bits."""

    steps: Callable[[Array, Array], Step]
    """``steps(columns, rows)``: the step of operands given as patterns, K first."""
    lowest: int | None
    """Operands, products and first totals have to be multiples of 2**lowest.

    None: operands may be any finite numbers, and first totals any numbers.
    """
    highest: int = FLOAT32.bias - 2
    """All magnitudes that are added to one total have to sum to less than 2**highest."""
    is_for_all: bool = False
    """Whether infinities and NaN are right too, within the range."""
    unroll: int = 1
    """Steps that a loop unrolls."""

    def fit(self, a: Array, b: Array, c: Array | None, spec: MatmulSpec) -> Array:
        """Return whether the steps have the general steps' bits for these numbers."""
        if self.lowest is None:
            return _all_finite(a) & _all_finite(b)
        fits = jnp.asarray(in_range(a, b, c, spec, self.lowest, self.highest))
        for x in (a, b, c):
            if not (self.is_for_all or x is None):
                fits = fits & _all_finite(x)
        return fits


def _all_finite(x: Array) -> Array:
    magnitude, infinity = FLOAT32.uint(FLOAT32.sign_bit - 1), FLOAT32.uint(FLOAT32.infinity)
    return jnp.all((bitcast(x, FLOAT32.uint_dtype) & magnitude) < infinity)
