"""How the values of a format are stored for the platform's kernels."""

from typing import Any

import ml_dtypes
import numpy as np
from jax import lax

from precsim._arrays import Array
from precsim.formats.codec import encode
from precsim.formats.registry import Format, get_format
from precsim.products.specs.spec import MatmulSpec

DTYPES: dict[Format, Any] = {
    get_format("fp32"): np.float32,
    get_format("fp16"): np.float16,
    get_format("bf16"): ml_dtypes.bfloat16,
    get_format("tf32"): np.float32,
    get_format("e4m3"): ml_dtypes.float8_e4m3fn,
    get_format("e5m2"): ml_dtypes.float8_e5m2,
}
"""The dtype in which each format is an operand of some kernel."""


def operand_refusal(spec: MatmulSpec, allowed: tuple[Format, ...], kernels: str) -> str | None:
    """Return why kernels do not take a spec's operands; None if they do."""
    for name, operand in (("lhs", spec.lhs), ("rhs", spec.rhs)):
        if operand is None or operand.format not in allowed:
            names = ", ".join(fmt.name for fmt in allowed)
            return f"{name} is '{operand or 'raw'}'; {kernels} have {names}"
    return None


def stored(x: Array, fmt: Format) -> Array:
    """Return values of a format in its dtype.

    They go by way of their codes, since XLA's cast to e5m2 on a GPU loses infinities.
    """
    dtype = DTYPES[fmt]
    return x if x.dtype == dtype else lax.bitcast_convert_type(encode(x, fmt), dtype)
