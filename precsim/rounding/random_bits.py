"""Random bits that a caller gives: checked, and brought to the operands' library and shape."""

from typing import Any

import numpy as np

from precsim._arrays import Array, as_integers, common_shape, is_jax, is_traced, namespace
from precsim.formats.carrier import FLOAT64, Carrier
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec


def as_random_bits(
    random_bits: Any,
    operands: tuple[Array, ...],
    carrier: Carrier,
    spec: RoundingSpec,
    each: str = "element",
) -> Array | None:
    """Return random bits as an array of the operands' library and common shape, after checks.

    None where none are given; that is refused in mode sr, which needs one integer per `each`.
    """
    if random_bits is None:
        if spec.mode is RoundingMode.STOCHASTIC:
            raise ValueError(
                f"random_bits is missing: mode 'sr' of {spec} needs one integer per {each}"
            )
        return None
    bits = as_integers(random_bits, "random_bits")
    if 8 * bits.dtype.itemsize < spec.num_random_bits:
        raise ValueError(
            f"random_bits has dtype {bits.dtype}; allowed are integers of at least the "
            f"{spec.num_random_bits} bits that the spec uses"
        )
    bits = beside(bits, operands, carrier)
    shape = common_shape(*operands)
    if bits.shape == shape:
        return bits
    try:
        return namespace(bits).broadcast_to(bits, shape)
    except ValueError:
        raise ValueError(
            f"random_bits has shape {bits.shape}; allowed are shapes that broadcast to {shape}"
        ) from None


def beside(integers: Array, operands: tuple[Array, ...], carrier: Carrier) -> Array:
    """Return integers in the library of the operands: JAX neither changes it nor rounds float64.

    Integers that JAX traces stay; float64 operands of NumPy beside them are refused without
    jax_enable_x64.
    """
    if not is_jax(integers) or any(map(is_jax, operands)):
        return integers
    if not is_traced(integers):
        return np.asarray(integers)
    import jax

    if carrier is FLOAT64 and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise ValueError(
            "x is float64 and random_bits are traced by JAX, which has float64 with jax_enable_x64 only "
            "(give x as float32)"
        )
    return integers
