"""Products on the tensor cores of this machine's GPU, for specs whose bits they have."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from precsim._arrays import Array, bitcast
from precsim._calls import compiled, kept_apart
from precsim._loops import repeat
from precsim.formats.carrier import FLOAT32
from precsim.formats.registry import get_format
from precsim.products.native.stored import operand_refusal, stored
from precsim.products.shapes import with_one_batch
from precsim.products.specs.core import Core
from precsim.products.specs.fused_block import FLAT, Promote, ceil_div
from precsim.products.specs.spec import MatmulSpec
from precsim.products.tensor_core.plan import add_totals
from precsim.rounding.kernel.kernel import round_array

_FP8 = (get_format("e4m3"), get_format("e5m2"))
_OPERANDS = tuple(map(get_format, ("fp16", "bf16", "tf32", "e4m3", "e5m2")))


def platform_refusal(spec: MatmulSpec) -> str | None:
    """Return why no kernel of this process has a fused block's bits; None if one may have them."""
    device = _device()
    if device.platform != "gpu":
        return f"JAX computes on {device.device_kind!r}; tensor cores are on NVIDIA GPUs"
    if (reason := operand_refusal(spec, _OPERANDS, "native tensor cores")) is not None:
        return reason
    if spec.accumulator.format == get_format("fp16"):
        return "accumulator is 'fp16'; XLA offers float32 accumulators only"
    return None


def _device() -> jax.Device:
    """Return the device that computes what is not placed elsewhere."""
    chosen: Any = jax.config.jax_default_device  # type: ignore[attr-defined]
    if chosen is None or isinstance(chosen, str):
        return jax.devices(chosen)[0]
    device: jax.Device = chosen
    return device


@compiled(static_argnums=2)
def native_tensor_core(
    a: Array, b: Array, spec: MatmulSpec, random_bits: Array | None = None
) -> Array:
    """Return a @ b from the platform's tensor cores, for products that `native_refusal` accepts."""
    core = spec.core
    a, b = round_array(a, None, core.lhs.rounding), round_array(b, None, core.rhs.rounding)
    a, b = with_one_batch(a, b)
    interval = promoted_interval(spec)
    total = one_kernel(a, b, spec) if interval is None else _promoted(a, b, flat(spec), interval)
    return total if spec.output is None else round_array(total, random_bits, spec.output)


def flat(spec: MatmulSpec) -> MatmulSpec:
    """Return a spec with one chain of steps over K."""
    return replace(spec, order=replace(spec.core.block, schedule=FLAT))


def promoted_interval(spec: MatmulSpec) -> int | None:
    """Return the number of products that are one kernel each; None if one kernel may do it all.

    cuBLASLt promotes only fp8, every 128 products.
    """
    match spec.core.block.schedule:
        case Promote(interval=interval) if not _is_fp8_promotion(spec.core):
            return interval
        case _:
            return None


def _is_fp8_promotion(core: Core) -> bool:
    return core.lhs.element in _FP8 and core.block.schedule == Promote(interval=128)


def _promoted(a: Array, b: Array, spec: MatmulSpec, interval: int) -> Array:
    """Add chains of `interval` products in order, each a kernel of its own."""
    k = a.shape[-1]
    parts = ceil_div(k, interval)
    if parts > 1:
        fill = [(0, 0)] * (a.ndim - 1) + [(0, parts * interval - k)]
        a, b = jnp.pad(a, fill), jnp.pad(b.mT, fill).mT
    size = min(k, interval)
    shape = (*a.shape[:-1], b.shape[-1])

    def add_part(i: Array, total: Array) -> Array:
        x = lax.dynamic_slice_in_dim(a, i * size, size, a.ndim - 1)
        y = lax.dynamic_slice_in_dim(b, i * size, size, b.ndim - 2)
        return add_totals(
            total, bitcast(one_kernel(x, y, spec), FLOAT32.uint_dtype), spec.accumulator
        )

    zeros: Array = jnp.zeros(shape, FLOAT32.uint_dtype)
    total = repeat(parts, add_part, zeros)
    return bitcast(total, FLOAT32.float_dtype)


def one_kernel(a: Array, b: Array, spec: MatmulSpec) -> Array:
    """One kernel: operands of equal batch dimensions, in their formats already."""
    core = spec.core
    lhs, rhs = core.lhs.element, core.rhs.element
    is_fp8 = lhs in _FP8
    m, n = a.shape[-2], b.shape[-1]
    # Fewer than 8 rows or columns run outside the tensor cores; cuBLASLt takes fp8 in multiples of
    # 16.
    a = _padded(a, 16 if is_fp8 else 8, 16 if is_fp8 else 1)
    b = _padded(b, 16 if is_fp8 else 1, 16 if is_fp8 else 8)
    # Kept apart from what surrounds it, so that the kernel is the one that was tried.
    x, y = kept_apart((stored(a, lhs), stored(b, rhs)))
    axes = tuple(range(a.ndim - 2))
    is_tf32 = get_format("tf32") in (lhs, rhs)
    # Without fast accumulation, which HIGHEST switches off, fp8 totals are promoted every 128
    # products.
    total = lax.dot_general(
        x,
        y,
        (((a.ndim - 1,), (b.ndim - 2,)), (axes, axes)),
        precision=lax.DotAlgorithmPreset.TF32_TF32_F32
        if is_tf32
        else lax.Precision.HIGHEST
        if _is_fp8_promotion(core)
        else lax.Precision.DEFAULT,
        preferred_element_type=jnp.float32,
    )
    return kept_apart(total)[..., :m, :n]


def _padded(x: Array, rows: int, columns: int) -> Array:
    """Fill up with zeros: to a multiple of 16, or to 8 at least."""
    sizes = [
        -size % count if count == 16 else max(count - size, 0)
        for size, count in zip(x.shape[-2:], (rows, columns), strict=True)
    ]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, size) for size in sizes])
