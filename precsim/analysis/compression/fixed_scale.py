"""Numbers rounded to a format whose scale is given, as a value of the carrier."""

from functools import lru_cache
from typing import Any

import jax
import numpy as np

from precsim._arrays import Array, is_jax
from precsim.arithmetic.elementwise import multiply
from precsim.rounding.scaled.scale import Scale, with_scale
from precsim.rounding.spec import RoundingSpec


def round_with_scale(x: Array, spec: RoundingSpec, scale: Scale) -> Array:
    """Return float32 numbers, each the element that `spec` makes of it, times the scale.

    Beyond the range it is the largest element, where the scale has been chosen for less.
    """
    if is_jax(x):
        jitted: Array = _compiled(spec)(x, scale)
        return jitted
    return _rounded(x, spec, scale)


def _rounded(x: Array, spec: RoundingSpec, scale: Scale) -> Array:
    elements, factor = with_scale(x, spec, scale)
    return multiply(elements.astype(np.float32), factor.reshape(()), "fp32")


@lru_cache(maxsize=64)
def _compiled(spec: RoundingSpec) -> Any:
    """Return it compiled, under a name that `emulate` knows for precsim's own."""

    def rounded(x: Array, scale: Scale) -> Array:
        return _rounded(x, spec, scale)

    rounded.__name__ = "precsim.round_with_scale"
    return jax.jit(rounded)
