"""From a caller's operands to one rounded operation: one carrier, one shape, NumPy or compiled."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from precsim._arrays import Array, is_array, is_jax
from precsim.arithmetic.exact import BitsFunction, apply_operation
from precsim.formats.carrier import Carrier, as_carrier, exactly
from precsim.rounding.kernel.limits import limits
from precsim.rounding.random_bits import as_random_bits
from precsim.rounding.spec import RoundingSpec, SpecLike

COMPILED_FROM = 1 << 14
"""NumPy arrays of at least this many elements run compiled (same bits, faster)."""


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
    shape = np.broadcast_shapes(*(x.shape for x in operands))
    if math.prod(shape) < COMPILED_FROM:
        return apply_operation(function, operands, random_bits, spec, carrier)
    from precsim._calls import in_pieces
    from precsim.arithmetic.compiled import apply_compiled

    def run(random_bits: Array | None, *operands: Array) -> Array:
        return apply_compiled(function, unrounded, operands, random_bits, spec)

    operands = tuple(np.broadcast_to(x, shape) for x in operands)
    return in_pieces(run, carrier.float_dtype, random_bits, *operands)


def call(
    function: Callable[..., Array], option: Any, *arrays: Array, is_long: bool = False
) -> Array:
    """Call a function of one hashable option and of arrays.

    It runs compiled if an array is JAX's, or if NumPy would take long.
    """
    if any(map(is_jax, arrays)):
        from precsim._calls import as_jax, call_compiled

        return call_compiled(function, option, *map(as_jax, arrays))
    if is_long:
        from precsim._calls import call_compiled, in_numpy

        return in_numpy(partial(call_compiled, function, option), arrays[0].dtype, *arrays)
    return function(option, *arrays)


def call_elementwise(
    function: Callable[..., Array], option: Any, dtype: Any, *arrays: Array
) -> Array:
    """Call an elementwise function, as `call`; large NumPy arrays run compiled, in pieces.

    `dtype` is the carrier's, which decides whether JAX needs 64 bits.
    """
    shape = np.broadcast_shapes(*(x.shape for x in arrays))
    if any(map(is_jax, arrays)) or math.prod(shape) < COMPILED_FROM:
        return call(function, option, *arrays)
    from precsim._calls import call_compiled, in_pieces

    arrays = tuple(np.broadcast_to(x, shape) for x in arrays)
    return in_pieces(partial(call_compiled, function, option), dtype, *arrays)


def common_carrier(operands: tuple[Any, ...]) -> tuple[tuple[Array, ...], Carrier]:
    """Return operands as arrays of one carrier whose shapes broadcast, and that carrier."""
    named = dict(zip("xyz", operands, strict=False))
    # Python numbers take the carrier of the arrays beside them, when that is exact.
    found = (as_carrier(x, name)[1] for name, x in named.items() if is_array(x))
    beside = next(found, None)
    arrays, carriers = [], []
    for name, x in named.items():
        if beside is None or is_array(x):
            array, carrier = as_carrier(x, name)
        else:
            array, carrier = exactly(x, beside.float_dtype, name), beside
        arrays.append(array)
        carriers.append(carrier)
    if len(names := {carrier.name for carrier in carriers}) > 1:
        raise TypeError(
            f"operands have dtypes {', '.join(sorted(names))}; allowed is one carrier for all"
        )
    try:
        np.broadcast_shapes(*(x.shape for x in arrays))
    except ValueError:
        shapes = ", ".join(f"{name} {x.shape}" for name, x in zip(named, arrays, strict=True))
        raise ValueError(f"shapes are {shapes}; allowed are shapes that broadcast to one") from None
    return tuple(arrays), carriers[0]
