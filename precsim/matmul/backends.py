"""Which backends there are, and which one runs a spec."""

import ml_dtypes
import numpy as np

from precsim.arithmetic.order import SEQUENTIAL
from precsim.formats.registry import Format, get_format
from precsim.matmul.spec import MatmulSpec
from precsim.rounding.spec import RoundingSpec

BACKENDS = ("auto", "emulated", "native", "reference")

NATIVE_DTYPES: dict[Format, type] = {
    get_format("fp32"): np.float32,
    get_format("fp16"): np.float16,
    get_format("bf16"): ml_dtypes.bfloat16,
    get_format("e4m3"): ml_dtypes.float8_e4m3fn,
    get_format("e5m2"): ml_dtypes.float8_e5m2,
}


def native_refusal(spec: MatmulSpec) -> str | None:
    """Say why no native kernel computes the formats of a spec; None if one does."""
    for name in ("lhs", "rhs"):
        operand = getattr(spec, name)
        if operand is None or operand.format not in NATIVE_DTYPES:
            allowed = ", ".join(fmt.name for fmt in NATIVE_DTYPES)
            return f"{name} is '{operand or 'raw'}'; native kernels have {allowed}"
    if spec.accumulator != RoundingSpec(format=get_format("fp32")):
        return f"accumulator is '{spec.accumulator}'; native kernels accumulate in fp32"
    if spec.product is not None or spec.adder is not None or spec.order != SEQUENTIAL:
        return "product, adder and order cannot be chosen in a native kernel"
    return None


def resolve_backend(spec: str | MatmulSpec, backend: str = "auto") -> str:
    """Return the backend that `matmul` runs.

    Parameters
    ----------
    spec : str or MatmulSpec
        The product.
    backend : {"auto", "emulated", "native", "reference"}
        What was asked for.

    Returns
    -------
    str
        "emulated", "native" or "reference". "auto" gives "emulated": no native kernel of a CPU follows
        a sequential spec bit for bit.

    Raises
    ------
    ValueError
        If the backend is unknown, or has no kernel for the spec's formats.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.resolve_backend("bf16_bf16_fp32"), ps.resolve_backend("bf16_bf16_fp32", "native")
    ('emulated', 'native')
    """
    spec = MatmulSpec.parse(spec)
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; allowed are {', '.join(map(repr, BACKENDS))}")
    if backend == "native" and (reason := native_refusal(spec)) is not None:
        raise ValueError(f"no native kernel computes '{spec}': {reason}")
    return "emulated" if backend == "auto" else backend
