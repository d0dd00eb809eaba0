"""From a caller's operands to one rounded operation: one carrier, one shape."""

from collections.abc import Callable
from typing import Any, TypeAlias

from precsim._arrays import Array, common_shape, is_array, is_jax
from precsim._calls import call_elementwise
from precsim.arithmetic.exact import BitsFunction, apply_operation
from precsim.formats.carrier import Carrier, as_carrier, exactly
from precsim.rounding.kernel.limits import limits
from precsim.rounding.random_bits import as_random_bits
from precsim.rounding.spec import RoundingSpec, SpecLike

Operation: TypeAlias = tuple[BitsFunction, Callable[..., Array], RoundingSpec]
"""What is computed: the exact result, the unrounded operation for gradients, the rounding."""


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
    operation: Operation = function, unrounded, spec
    return call_elementwise(_apply, operation, random_bits, *operands)


def _apply(operation: Operation, random_bits: Array | None, *operands: Array) -> Array:
    function, unrounded, spec = operation
    if any(map(is_jax, operands)):
        from precsim._lax_arrays import plain
        from precsim.arithmetic.compiled import apply_differentiable

        operands, random_bits = plain((operands, random_bits))
        return apply_differentiable(function, unrounded, operands, random_bits, spec)
    return apply_operation(function, operands, random_bits, spec, as_carrier(operands[0])[1])


def common_carrier(operands: tuple[Any, ...]) -> tuple[tuple[Array, ...], Carrier]:
    """Return operands as arrays of one carrier whose shapes broadcast, and that carrier."""
    are_arrays = list(map(is_array, operands))
    beside = None
    if not all(are_arrays) and any(are_arrays):
        first = are_arrays.index(True)
        beside = as_carrier(operands[first], "xyz"[first])[1]
    if beside is None:
        found = list(map(as_carrier, operands, "xyz"))
    else:  # Python numbers take the carrier of the arrays beside them, when that is exact
        found = [
            as_carrier(x, name) if is_one else (exactly(x, beside.float_dtype, name), beside)
            for x, name, is_one in zip(operands, "xyz", are_arrays, strict=False)
        ]
    arrays, carriers = zip(*found, strict=True)
    if carriers.count(carriers[0]) < len(carriers):
        dtypes = ", ".join(f"{n} {c.name}" for n, c in zip("xyz", carriers, strict=False))
        raise TypeError(f"operands have dtypes {dtypes}; allowed is one carrier for all")
    try:
        common_shape(*arrays)
    except ValueError:
        shapes = ", ".join(f"{n} {x.shape}" for n, x in zip("xyz", arrays, strict=False))
        raise ValueError(f"shapes are {shapes}; allowed are shapes that broadcast to one") from None
    return arrays, carriers[0]
