"""What the drop-ins for `jax.lax` and `jax.numpy` share: operands, and the dtype of the result."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array, ArrayLike, as_array
from precsim._calls import not_narrowed
from precsim.formats.carrier import as_carrier, is_narrow_float
from precsim.products.backends import Specs
from precsim.products.specs.spec import MatmulSpec


def specs_of(
    function: str,
    spec: str | MatmulSpec,
    dgrad: str | MatmulSpec | None,
    wgrad: str | MatmulSpec | None,
    backend: str,
) -> Specs:
    """Parse the specs of a drop-in, which runs under JAX only."""
    specs = Specs.resolve(spec, dgrad, wgrad, backend)
    if backend == "reference":
        raise ValueError(
            f"backend is 'reference'; allowed for {function} are 'auto', 'emulated', 'native'"
        )
    return specs


def widened(
    lhs: ArrayLike, rhs: ArrayLike, preferred_element_type: Any
) -> tuple[Array, Array, Any]:
    """Return operands of float32 or float64, and the dtype that the result is to have.

    They are widened before anything else: XLA's CPU compiler cannot join the conversion of a 6-bit
    float to others.
    """
    given = as_array(lhs, "lhs"), as_array(rhs, "rhs")
    a, b = (carried(x, name) for x, name in zip(given, ("lhs", "rhs"), strict=True))
    return a, b, result_dtype(preferred_element_type, *given)


def result_dtype(preferred_element_type: Any, *operands: Array) -> Any:
    """Return the dtype that was asked for, or that of the operands."""
    dtypes = {x.dtype for x in operands}
    if preferred_element_type is not None:
        dtype = np.dtype(preferred_element_type)
    else:
        dtype = np.dtype(dtypes.pop() if len(dtypes) == 1 else jnp.result_type(*operands))
    if dtype not in (np.float32, np.float64) and not is_narrow_float(dtype):
        raise TypeError(
            f"preferred_element_type is {dtype}; allowed are float32, float64 and narrower floats"
        )
    return dtype


def carried(x: Array, argument: str) -> Array:
    """Return an array in its carrier; refuse what is no float, or what JAX would narrow."""
    return as_carrier(not_narrowed(x, argument), argument)[0]
