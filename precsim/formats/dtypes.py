"""Dtypes that name formats: those of NumPy, ml_dtypes, JAX and torch."""

import numpy as np


def dtype_name(x: object) -> str | None:
    """Return the name of the floating-point dtype that `x` is, None if it is none.

    The names are aliases of registered formats ("float16", "bfloat16", "float8_e4m3fn", ...). Torch
    has the same names, so that torch is not imported. Integer dtypes are not formats: the name
    "int8" means an affine one.
    """
    name = str(x)
    if isinstance(x, str) or x is None:
        return None
    if isinstance(x, (np.dtype, type)):
        try:
            name = np.dtype(x).name
        except TypeError:
            return None
    elif name.startswith("torch."):
        name = name.removeprefix("torch.")
    else:
        return None
    return name if name.startswith(("float", "bfloat16")) else None
