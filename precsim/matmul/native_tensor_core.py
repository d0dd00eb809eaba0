"""Products on the tensor cores of this machine's GPU, where they have the bits of a `FusedBlock` spec.

Which kernel a library takes for a shape, and in what order it adds, is not documented and changes between
versions. So nothing is assumed: the first time that a shape is wanted, it is computed once on random
operands in every layout, and the bits are compared with the model.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from precsim._arrays import Array, bitcast, repeat
from precsim.formats.carrier import FLOAT32
from precsim.formats.codec import encode
from precsim.formats.registry import Format, get_format
from precsim.matmul.fused_block import FLAT, FusedBlock, Promote, Schedule, SplitK, ceil_div
from precsim.matmul.kernels import read_kernels
from precsim.matmul.reference import reference_matmul
from precsim.matmul.schedules import add_totals
from precsim.matmul.spec import MatmulSpec
from precsim.rounding.api import round_array, round_to

RECOMMENDED_FLAGS = "--xla_gpu_enable_triton_gemm=false --xla_gpu_enable_cublaslt=true"
"""XLA_FLAGS under which an H100 was found to run cuBLASLt kernels whose order is known."""

_DTYPES: dict[Format, Any] = {
    get_format("fp16"): np.float16,
    get_format("bf16"): ml_dtypes.bfloat16,
    get_format("tf32"): np.float32,
    get_format("e4m3"): ml_dtypes.float8_e4m3fn,
    get_format("e5m2"): ml_dtypes.float8_e5m2,
}
_FP8 = (get_format("e4m3"), get_format("e5m2"))
_LAYOUTS = ("nn", "nt", "tn", "tt")
_COMPARED = 16  # rows and columns of a result that are compared with the model
_PARTS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
_GRANULES = (64, 32, 128)


class NativeProduct(NamedTuple):
    """What this machine does for a product of one shape.

    Parameters
    ----------
    kernel : str
        Kind of the kernel, as in `Kernel`; several kinds are joined by "+".
    schedule : Flat, Promote, SplitK or None
        The schedule whose bits all compared outputs have, None if none was found.
    share : float
        Largest share of compared outputs with the bits of one schedule, 0 to 1.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.NativeProduct("cublaslt", None, 0.25).schedule is None  # no order has all bits
    True
    """

    kernel: str
    schedule: Schedule | None
    share: float


def platform_refusal(spec: MatmulSpec) -> str | None:
    """Say why no product of this process can be native with the bits of a fused block; None if one may be."""
    device = _device()
    if device.platform != "gpu":
        return f"JAX computes on {device.device_kind!r}; tensor cores are on NVIDIA GPUs"
    for name in ("lhs", "rhs"):
        operand = getattr(spec, name)
        if operand is None or operand.format not in _DTYPES:
            allowed = ", ".join(fmt.name for fmt in _DTYPES)
            return f"{name} is '{operand or 'raw'}'; native tensor cores have {allowed}"
    if spec.accumulator.format == get_format("fp16"):
        return "accumulator is 'fp16'; XLA offers float32 accumulators only"
    return None


def shape_refusal(
    spec: MatmulSpec, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
) -> str | None:
    """Say why a product of these shapes is not native with the spec's bits, found by trying; None if it is."""
    assert isinstance(spec.order, FusedBlock)
    *batch, m, k = a_shape
    n = b_shape[-1]
    if 0 in (*batch, m, n, k):
        return "the product is empty"
    if not _is_one_kernel(spec):
        assert isinstance(spec.order.schedule, Promote)
        k, spec = min(k, spec.order.schedule.interval), _flat(spec)
    assert isinstance(spec.order, FusedBlock)
    schedule = spec.order.schedule
    found = find_schedule(spec, m, n, k, batch=tuple(batch))
    if found.schedule is None:
        return (
            f"the {found.kernel or 'missing'} kernel of {m} x {k} by {k} x {n} is not explained: "
            f"{100 * found.share:.1f} % of its bits are the model's (recommended: XLA_FLAGS="
            f"'{RECOMMENDED_FLAGS}', set before JAX starts)"
        )
    if found.schedule != schedule:
        return (
            f"the {found.kernel} kernel of {m} x {k} by {k} x {n} has schedule '{found.schedule}'"
        )
    return None


def find_schedule(
    spec: str | MatmulSpec, m: int, n: int, k: int, *, batch: tuple[int, ...] = ()
) -> NativeProduct:
    """Find the schedule of the kernel that this machine's GPU runs for a shape, by trying.

    Parameters
    ----------
    spec : str or MatmulSpec
        A machine's product, for example "h100:bf16"; its schedule is the first to be compared.
    m, n, k : int
        Shapes (m, k) and (k, n) of the operands.
    batch : tuple of int, optional
        Batch dimensions of both operands.

    Returns
    -------
    NativeProduct
        Kind of kernel, schedule ("flat", split over K, or None) and share of explained outputs. A schedule is
        given only if all four layouts (operands stored transposed or not) have its bits in all compared outputs:
        up to 16 rows and columns of the first and the last product of a batch.

    Raises
    ------
    TypeError
        If the order of the spec is not a `FusedBlock`.
    ValueError
        If there is no GPU, or it has no such operands.

    Notes
    -----
    Remembered for the life of the process. Cost: compiling the product and some 16 x 16 x k products on the CPU.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.find_schedule("h100:bf16", 64, 64, 4096)  # doctest: +SKIP
    NativeProduct(kernel='cuBLASLt', schedule=SplitK(splits=6, granule=64), share=1.0)
    """
    spec = MatmulSpec.parse(spec)
    if not isinstance(spec.order, FusedBlock):
        raise TypeError(f"spec is '{spec}'; allowed are specs of tensor cores, such as 'h100:bf16'")
    if (reason := platform_refusal(spec)) is not None:
        raise ValueError(f"no native kernel computes '{spec}': {reason}")
    return _find(replace(spec, output=None), m, n, k, batch)


def tried_products() -> dict[str, NativeProduct]:
    """Return what this process found out about native products so far, by operands and shapes."""
    return {
        f"{spec.lhs}_{spec.rhs} {(*batch, m, k)} by {(*batch, k, n)}": found
        for (spec, m, n, k, batch), found in _TRIED.items()
    }


_TRIED: dict[tuple[MatmulSpec, int, int, int, tuple[int, ...]], NativeProduct] = {}


def _find(spec: MatmulSpec, m: int, n: int, k: int, batch: tuple[int, ...]) -> NativeProduct:
    key = spec, m, n, k, batch
    if key not in _TRIED:
        _TRIED[key] = _try(*key)
    return _TRIED[key]


def _try(spec: MatmulSpec, m: int, n: int, k: int, batch: tuple[int, ...]) -> NativeProduct:
    order = spec.order
    assert isinstance(order, FusedBlock)
    assert spec.lhs is not None
    assert spec.rhs is not None
    rng = np.random.default_rng((m, n, k))
    a = _operand(rng, (*batch, m, k), spec.lhs.format)
    b = _operand(rng, (*batch, k, n), spec.rhs.format)

    def products(a: Array, at: Array, b: Array, bt: Array) -> list[Array]:
        pairs = ((x, y) for x in (a, at.mT) for y in (b, bt.mT))
        return [_chain(x, y, spec) for x, y in pairs]

    stored = a, np.ascontiguousarray(a.mT), b, np.ascontiguousarray(b.mT)
    try:
        # Compiled ahead of time, so that it runs here even while a caller is being traced.
        run = jax.jit(products).lower(*stored).compile()
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        return NativeProduct(f"refused ({str(error).splitlines()[0][:80]})", None, 0.0)
    kernels = "+".join(sorted({kernel.kind for kernel in read_kernels(run.as_text() or "")}))
    first = (0,) * len(batch)
    last = tuple(size - 1 for size in batch)
    outputs = [np.asarray(y) for y in run(*stored)]
    best = 0.0
    for schedule in _candidates(order, k):
        model = replace(spec, order=replace(order, schedule=schedule))
        equal = [
            reference_matmul(a[at][-_COMPARED:], b[at][:, :_COMPARED], None, model).view(np.uint32)
            == y[at][-_COMPARED:, :_COMPARED].view(np.uint32)
            for at in {first, last}
            for y in outputs
        ]
        best = max(best, float(np.mean(equal)))
        if best == 1.0:
            return NativeProduct(kernels, schedule, best)
    return NativeProduct(kernels, None, best)


def _operand(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format) -> np.ndarray:
    """Random values of a format with exponents some 5 binades around 0: every order has its own bits."""
    values = rng.standard_normal(shape, np.float32) * np.exp2(
        rng.integers(-3, 4, shape).astype(np.float32)
    )
    return np.asarray(round_to(values, fmt, overflow="saturate"))


def _candidates(order: FusedBlock, k: int) -> Iterator[Schedule]:
    """Yield schedules, likeliest first."""
    yield FLAT
    if order.schedule != FLAT:
        yield order.schedule
    if k >= 1024:  # cuBLASLt was never seen to split less
        yield from (
            SplitK(splits=s, granule=g) for g in _GRANULES for s in _PARTS if g % order.length == 0
        )


@partial(jax.jit, static_argnums=2)
def native_tensor_core(
    a: Array, b: Array, spec: MatmulSpec, random_bits: Array | None = None
) -> Array:
    """Return a @ b from the platform's tensor cores; only for products that `shape_refusal` accepts."""
    order = spec.order
    assert isinstance(order, FusedBlock)
    assert spec.lhs is not None
    assert spec.rhs is not None
    a, b = round_array(a, None, spec.lhs), round_array(b, None, spec.rhs)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = jnp.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = jnp.broadcast_to(b, (*batch, *b.shape[-2:]))
    if _is_one_kernel(spec):
        total = _chain(a, b, spec)
    else:
        assert isinstance(order.schedule, Promote)
        total = _promoted(a, b, _flat(spec), order.schedule.interval)
    return total if spec.output is None else round_array(total, random_bits, spec.output)


def _flat(spec: MatmulSpec) -> MatmulSpec:
    assert isinstance(spec.order, FusedBlock)
    return replace(spec, order=replace(spec.order, schedule=FLAT))


def _is_one_kernel(spec: MatmulSpec) -> bool:
    """Tell whether one native kernel may do it all: cuBLASLt promotes only fp8, and every 128 products."""
    assert isinstance(spec.order, FusedBlock)
    schedule = spec.order.schedule
    return not isinstance(schedule, Promote) or _is_fp8_promotion(spec)


def _is_fp8_promotion(spec: MatmulSpec) -> bool:
    assert isinstance(spec.order, FusedBlock)
    assert spec.lhs is not None
    return spec.lhs.format in _FP8 and spec.order.schedule == Promote(interval=128)


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
        return add_totals(total, bitcast(_chain(x, y, spec), FLOAT32.uint_dtype), spec.accumulator)

    total = repeat(parts, add_part, jnp.zeros(shape, FLOAT32.uint_dtype))
    return bitcast(total, FLOAT32.float_dtype)


def _chain(a: Array, b: Array, spec: MatmulSpec) -> Array:
    """One kernel: operands of equal batch dimensions, in their formats already."""
    assert spec.lhs is not None
    assert spec.rhs is not None
    assert isinstance(spec.order, FusedBlock)
    is_fp8 = spec.lhs.format in _FP8
    m, n = a.shape[-2], b.shape[-1]
    # Fewer than 8 rows or columns run outside the tensor cores; cuBLASLt takes fp8 in multiples of 16.
    a = _padded(a, 16 if is_fp8 else 8, 16 if is_fp8 else 1)
    b = _padded(b, 16 if is_fp8 else 1, 16 if is_fp8 else 8)
    # Kept apart from what surrounds it, so that the kernel is the one that was tried.
    x, y = lax.optimization_barrier(  # type: ignore[no-untyped-call]
        (_stored(a, spec.lhs.format), _stored(b, spec.rhs.format))
    )
    axes = tuple(range(a.ndim - 2))
    is_tf32 = get_format("tf32") in (spec.lhs.format, spec.rhs.format)
    # Without fast accumulation, which HIGHEST switches off, fp8 totals are promoted every 128 products.
    total = lax.dot_general(
        x,
        y,
        (((a.ndim - 1,), (b.ndim - 2,)), (axes, axes)),
        precision=lax.DotAlgorithmPreset.TF32_TF32_F32
        if is_tf32
        else lax.Precision.HIGHEST
        if _is_fp8_promotion(spec)
        else lax.Precision.DEFAULT,
        preferred_element_type=jnp.float32,
    )
    return lax.optimization_barrier(total)[..., :m, :n]  # type: ignore[no-untyped-call]


def _padded(x: Array, rows: int, columns: int) -> Array:
    """Fill up with zeros: to a multiple of 16, or to 8 at least."""
    sizes = [
        -size % count if count == 16 else max(count - size, 0)
        for size, count in zip(x.shape[-2:], (rows, columns), strict=True)
    ]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, size) for size in sizes])


def _stored(x: Array, fmt: Format) -> Array:
    """Store values of a format in its dtype, by way of codes: XLA's cast to e5m2 on GPU loses infinities."""
    dtype = _DTYPES[fmt]
    return x if dtype is np.float32 else lax.bitcast_convert_type(encode(x, fmt), dtype)


def _device() -> jax.Device:
    """Return the device that computes what is not placed elsewhere."""
    chosen: Any = jax.config.jax_default_device  # type: ignore[attr-defined]
    if chosen is None or isinstance(chosen, str):
        return jax.devices(chosen)[0]
    device: jax.Device = chosen
    return device
