"""The direction of a mode, as a condition on arrays."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from precsim.rounding.modes import Direction


def is_outward(
    direction: Direction,
    negative: Any,
    odd: Callable[[], Any],
    *,
    invert: Callable[[Any], Any] = operator.invert,
) -> Any:
    """Return where the neighbour in a direction is the larger one.

    `negative` tells where the number is negative, `odd` where its smaller neighbour is odd: NumPy
    or JAX booleans, or other flags that `invert` inverts.
    """
    match direction:
        case Direction.EVEN:
            return odd()
        case Direction.ODD:
            return invert(odd())
        case Direction.ZERO:
            return np.False_
        case Direction.AWAY:
            return np.True_
        case Direction.POSITIVE:
            return invert(negative)
        case Direction.NEGATIVE:
            return negative
