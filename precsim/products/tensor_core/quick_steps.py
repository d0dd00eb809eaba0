"""`QuickSteps`: steps of a `StepBlock` that are quick, and exact for numbers within a range."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp

from precsim._arrays import Array, bitcast
from precsim.formats.carrier import FLOAT32
from precsim.products.orders.float32 import in_range
from precsim.products.specs.spec import MatmulSpec

Step: TypeAlias = Callable[[Array, Any], Array]
"""``step(total, n)``: the totals after step n, patterns in and out."""


class QuickSteps(NamedTuple):
    """Steps for finite operands, and the numbers for which they have the general steps' bits."""

    steps: Callable[[Array, Array], Step]
    """``steps(columns, rows)``: the step of operands given as patterns, K first."""
    lowest: int
    """Operands, products and first totals have to be multiples of 2**lowest."""
    highest: int
    """All magnitudes that are added to one total have to sum to less than 2**highest."""

    def fit(self, a: Array, b: Array, c: Array | None, spec: MatmulSpec) -> Array:
        """Return whether a product's operands and first totals are finite and within the range."""
        magnitude, infinity = FLOAT32.uint(FLOAT32.sign_bit - 1), FLOAT32.uint(FLOAT32.infinity)
        fits = jnp.asarray(in_range(a, b, c, spec, self.lowest, self.highest))
        for x in (a, b, c):
            if x is not None:
                fits = fits & jnp.all((bitcast(x, FLOAT32.uint_dtype) & magnitude) < infinity)
        return fits
