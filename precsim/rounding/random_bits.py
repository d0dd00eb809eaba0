"""Random bits that a caller gives: checked, and brought to the operands' library and shape."""

from typing import Any

import numpy as np

from precsim._arrays import Array, is_jax, namespace
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
    if not is_jax(random_bits):
        random_bits = np.asarray(random_bits)
    elif not any(map(is_jax, operands)):
        random_bits = _beside_numpy(random_bits, carrier)
    shape = np.broadcast_shapes(*(x.shape for x in operands))
    if random_bits.dtype.kind not in "iu":
        raise TypeError(f"random_bits has dtype {random_bits.dtype}; allowed are integers")
    if 8 * random_bits.dtype.itemsize < spec.num_random_bits:
        raise ValueError(
            f"random_bits has dtype {random_bits.dtype}; allowed are integers of at least the "
            f"{spec.num_random_bits} bits that the spec uses"
        )
    try:
        return namespace(random_bits).broadcast_to(random_bits, shape)
    except ValueError:
        raise ValueError(
            f"random_bits has shape {random_bits.shape}; allowed are shapes that broadcast to {shape}"
        ) from None


def _beside_numpy(random_bits: Array, carrier: Carrier) -> Array:
    """Bits made by JAX for a NumPy `x`: JAX must neither change the library nor round float64."""
    import jax

    if not isinstance(random_bits, jax.core.Tracer):
        return np.asarray(random_bits)
    if carrier is FLOAT64 and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise ValueError(
            "x is float64 and random_bits are traced by JAX, which has float64 with jax_enable_x64 only "
            "(give x as float32)"
        )
    return random_bits
