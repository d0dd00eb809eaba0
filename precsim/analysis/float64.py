"""Operations of a program in float64, whatever dtypes it names, in the 64-bit mode of JAX."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.transform import jaxprs
from precsim.transform.values import is_inexact


def wide_dtype(dtype: Any) -> Any:
    """Return float64 for the dtypes of real numbers, complex128 for those of complex ones."""
    if not jnp.issubdtype(dtype, jnp.inexact):
        return dtype
    is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
    return np.dtype(np.complex128 if is_complex else np.float64)


def in_float64(x: Any) -> Array:
    """Return an array in float64; integers and Booleans as they are."""
    x = jnp.asarray(x)
    wide: Array = x.astype(wide_dtype(x.dtype)) if is_inexact(x) else x
    return wide


def bind_in_float64(eqn: Any, arrays: Sequence[Any]) -> list[Array]:
    """Return the results of one operation that holds no programs, on operands in float64."""
    params = {name: _widened(value) for name, value in eqn.params.items()}
    wide: list[Array] = jaxprs.bind(eqn.replace(params=params), list(map(in_float64, arrays)))
    return wide


def _widened(value: Any) -> Any:
    """Return a parameter of an operation, float64 where it is the dtype of real numbers."""
    is_dtype = isinstance(value, (np.dtype, type)) and jnp.issubdtype(value, jnp.inexact)
    return wide_dtype(value) if is_dtype else value
