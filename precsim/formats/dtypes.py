"""Dtypes that name formats: those of NumPy, ml_dtypes, JAX and torch, none of which is loaded."""

import sys


def dtype_name(x: object) -> str | None:
    """Return the name of the floating-point dtype that `x` is, None if it is none.

    The names are aliases of registered formats ("float16", "bfloat16", "float8_e4m3fn", ...).
    Integer dtypes are not formats: the name "int8" means an affine one.
    """
    if isinstance(x, str) or x is None:
        return None
    name, numpy = str(x), sys.modules.get("numpy")
    if x is float:
        name = "float64"
    elif name.startswith("torch."):
        name = name.removeprefix("torch.")
    elif numpy is not None and isinstance(x, (numpy.dtype, type)):
        try:
            name = numpy.dtype(x).name
        except TypeError:
            return None
    else:
        return None
    return name if name.startswith(("float", "bfloat16")) else None
