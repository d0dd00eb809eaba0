"""Which backends there are, and which one runs a spec."""

from typing import TypeAlias

import ml_dtypes
import numpy as np

from precsim.arithmetic.sums.order import SEQUENTIAL
from precsim.formats.registry import Format, get_format
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec

Shapes: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]

BACKENDS = ("auto", "emulated", "native", "reference")

NATIVE_DTYPES: dict[Format, type] = {
    get_format("fp32"): np.float32,
    get_format("fp16"): np.float16,
    get_format("bf16"): ml_dtypes.bfloat16,
    get_format("e4m3"): ml_dtypes.float8_e4m3fn,
    get_format("e5m2"): ml_dtypes.float8_e5m2,
}


def native_refusal(spec: MatmulSpec, shapes: Shapes | None = None) -> str | None:
    """Say why no native kernel computes a spec (for these shapes); None if one does."""
    if spec.accumulator.mode is RoundingMode.STOCHASTIC:
        return (
            f"accumulator is '{spec.accumulator}'; native kernels round to nearest or toward zero"
        )
    if isinstance(spec.order, FusedBlock):
        if spec.order.sticky:
            return "no tensor core keeps a sticky bit"
        from precsim.products.native.tensor_core import platform_refusal, shape_refusal

        reason = platform_refusal(spec) or _division_refusal()
        return shape_refusal(spec, *shapes) if reason is None and shapes is not None else reason
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


def _division_refusal() -> str | None:
    """Say why a product may not stay in one piece; None if it does: divided over K, its sums have another order."""
    import jax

    mesh = jax.sharding.get_abstract_mesh()
    count = jax.local_device_count()
    if count == 1 or (mesh.manual_axes and len(mesh.manual_axes) == len(mesh.axis_names)):
        return None
    return (
        f"XLA may divide it among this process's {count} devices after its kernel was tried; allowed are calls inside "
        "jax.shard_map, or a process that sees one GPU (CUDA_VISIBLE_DEVICES=0)"
    )


def resolve_backend(
    spec: str | MatmulSpec, backend: str = "auto", *, shapes: Shapes | None = None
) -> str:
    """Return the backend that `matmul` runs.

    Parameters
    ----------
    spec : str or MatmulSpec
        The product.
    backend : {"auto", "emulated", "native", "reference"}
        What was asked for.
    shapes : pair of tuple of int, optional
        Shapes (..., M, K) and (..., K, N) of the operands, with equal batch dimensions. A tensor core's order
        depends on them: "auto" is "emulated" without.

    Returns
    -------
    str
        "emulated", "native" or "reference". "auto" gives "native" for the product of a machine ("h100:bf16") where
        this process has one such GPU (or the call is inside `jax.shard_map`), whose kernel for these shapes was found to have
        the spec's bits; else "emulated", since no native kernel follows a sequential spec bit for bit.

    Raises
    ------
    ValueError
        If the backend is unknown, or has no kernel for the spec (of these shapes).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.resolve_backend("bf16_bf16_fp32"), ps.resolve_backend("bf16_bf16_fp32", "native")
    ('emulated', 'native')
    """
    spec = MatmulSpec.parse(spec)
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; allowed are {', '.join(map(repr, BACKENDS))}")
    if backend == "native" and (reason := native_refusal(spec, shapes)) is not None:
        raise ValueError(f"no native kernel computes '{spec}': {reason}")
    if backend != "auto":
        return backend
    if shapes is None or not isinstance(spec.order, FusedBlock):
        return "emulated"
    return "native" if native_refusal(spec, shapes) is None else "emulated"
