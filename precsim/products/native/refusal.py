"""Why a native kernel cannot run a product, in one line that names what is in the way."""

from typing import TypeAlias

import jax

from precsim.arithmetic.sums.order import SEQUENTIAL
from precsim.formats.registry import get_format
from precsim.products.native.finding import find_schedule
from precsim.products.native.stored import operand_refusal
from precsim.products.native.tensor_core import flat, platform_refusal, promoted_interval
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec

Shapes: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]

RECOMMENDED_FLAGS = "--xla_gpu_enable_triton_gemm=false --xla_gpu_enable_cublaslt=true"
"""XLA_FLAGS under which an H100 was found to run cuBLASLt kernels whose order is known."""

_DOT_OPERANDS = tuple(map(get_format, ("fp32", "fp16", "bf16", "e4m3", "e5m2")))


def native_refusal(spec: MatmulSpec, shapes: Shapes | None = None) -> str | None:
    """Return why no native kernel computes a spec (for these shapes); None if one does."""
    if spec.accumulator.mode is RoundingMode.STOCHASTIC:
        return (
            f"accumulator is '{spec.accumulator}'; native kernels round to nearest or toward zero"
        )
    if spec.has_scales:
        return "operands with scales are quantized by precsim, which emulates their products"
    if spec.has_random_operands or spec.rotation is not None:
        return "operands are rotated or rounded stochastically, which precsim emulates"
    if isinstance(spec.order, FusedBlock):
        if spec.order.sticky:
            return "no tensor core keeps a sticky bit"
        reason = platform_refusal(spec)
        if reason is not None or shapes is None:
            return reason
        return _division_refusal() or _shape_refusal(spec, *shapes)
    if (reason := operand_refusal(spec, _DOT_OPERANDS, "native kernels")) is not None:
        return reason
    if spec.accumulator != RoundingSpec(format=get_format("fp32")):
        return f"accumulator is '{spec.accumulator}'; native kernels accumulate in fp32"
    if spec.product is not None or spec.adder is not None or spec.order != SEQUENTIAL:
        return "product, adder and order cannot be chosen in a native kernel"
    return None


def _division_refusal() -> str | None:
    """Return why a product may not stay in one piece; None if it does.

    A product that is divided over K has another order of sums.
    """
    mesh = jax.sharding.get_abstract_mesh()
    count = jax.local_device_count()
    if count == 1 or (mesh.manual_axes and len(mesh.manual_axes) == len(mesh.axis_names)):
        return None
    return (
        f"XLA may divide it among this process's {count} devices after its kernel was tried; allowed are calls inside "
        "jax.shard_map, or a process that sees one GPU (CUDA_VISIBLE_DEVICES=0)"
    )


def _shape_refusal(
    spec: MatmulSpec, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
) -> str | None:
    """Return why a product of these shapes is not native with the spec's bits; None if it is.

    The kernel is tried.
    """
    *batch, m, k = a_shape
    n = b_shape[-1]
    if 0 in (*batch, m, n, k):
        return "the product is empty"
    if (interval := promoted_interval(spec)) is not None:
        k, spec = min(k, interval), flat(spec)
    found = find_schedule(spec, m, n, k, batch=tuple(batch))
    if found.schedule is None:
        return (
            f"the {found.kernel or 'missing'} kernel of {m} x {k} by {k} x {n} is not explained: "
            f"{100 * found.share:.1f} % of its bits are the model's (recommended: XLA_FLAGS="
            f"'{RECOMMENDED_FLAGS}', set before JAX starts)"
        )
    if found.schedule != spec.core.block.schedule:
        return (
            f"the {found.kernel} kernel of {m} x {k} by {k} x {n} has schedule '{found.schedule}'"
        )
    return None
