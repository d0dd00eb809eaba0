"""From a caller's operands to one rounded operation: one carrier, one shape, NumPy or compiled."""

from collections.abc import Callable
from typing import Any

import numpy as np

from precsim._arrays import Array, is_jax
from precsim.arithmetic.exact import BitsFunction, apply_operation
from precsim.formats.carrier import Carrier, as_carrier
from precsim.rounding.kernel.limits import limits
from precsim.rounding.random_bits import as_random_bits
from precsim.rounding.spec import RoundingSpec, SpecLike


def apply(
    function: BitsFunction,
    unrounded: Callable[..., Array],
    operands: tuple[Any, ...],
    spec: SpecLike,
    random_bits: Any,
) -> Array:
    """Bring operands to one carrier and one shape, run the operation, round."""
    spec = RoundingSpec.parse(spec)
    operands, carrier = common_carrier(operands)
    limits(spec, carrier)
    random_bits = as_random_bits(random_bits, operands, carrier, spec)
    if any(map(is_jax, (*operands, random_bits))):
        from precsim.arithmetic.compiled import apply_compiled

        return apply_compiled(function, unrounded, operands, random_bits, spec)
    return apply_operation(function, operands, random_bits, spec, carrier)


def call(function: Callable[..., Array], option: Any, *arrays: Array) -> Array:
    """Call a function of one hashable option and of arrays; compiled if one of them is JAX's."""
    if not any(map(is_jax, arrays)):
        return function(option, *arrays)
    from precsim._calls import call_compiled

    return call_compiled(function, option, *arrays)


def common_carrier(operands: tuple[Any, ...]) -> tuple[tuple[Array, ...], Carrier]:
    """Return operands as arrays of one carrier, and that carrier."""
    typed = [x for x in operands if hasattr(x, "dtype")]
    if typed:
        # Python numbers take the dtype of the arrays beside them, when that is exact.
        dtype = typed[0].dtype
        operands = tuple(x if hasattr(x, "dtype") else exactly(x, dtype) for x in operands)
    pairs = [as_carrier(x, name) for x, name in zip(operands, "xyz", strict=False)]
    carriers = {carrier.name for _, carrier in pairs}
    if len(carriers) > 1:
        raise TypeError(
            f"operands have dtypes {', '.join(sorted(carriers))}; allowed is one carrier for all"
        )
    return tuple(array for array, _ in pairs), pairs[0][1]


def exactly(x: Any, dtype: Any) -> np.ndarray:
    """Return Python numbers as an array of a dtype that has them; refuse any other."""
    given = np.asarray(x)
    with np.errstate(over="ignore", under="ignore"):
        narrow = given.astype(np.float64).astype(dtype)
    # As Python objects, numbers of any type compare exactly; NaN differs from itself.
    given = given.astype(object)
    if not np.all((given == narrow.astype(object)) | (given != given)):  # noqa: PLR0124
        raise TypeError(
            f"{x!r} is not exact in the {dtype} of the other operands; convert it first"
        )
    return narrow
