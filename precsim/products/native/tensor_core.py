"""Products on the tensor cores of this machine's GPU, where they have the bits of a `FusedBlock` spec.

Which kernel a library takes for a shape, and in what order it adds, is not documented and changes between
versions. So nothing is assumed: the first time that a shape is wanted, it is computed on random operands in every
layout, and the bits are compared with the model's (`schedule_search`).
"""

from collections.abc import Callable
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
from precsim.products.native.hlo import read_kernels
from precsim.products.native.search import Run, Shape, search_schedule
from precsim.products.specs.fused_block import FLAT, FusedBlock, Promote, Schedule, ceil_div
from precsim.products.specs.spec import MatmulSpec
from precsim.products.tensor_core.plan import add_totals
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.modes import RoundingMode

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


class NativeProduct(NamedTuple):
    """What this machine does for a product of one shape.

    Parameters
    ----------
    kernel : str
        Kind of the kernel, as in `Kernel`; several kinds are joined by "+". Empty for a caller's own.
    schedule : Flat, Promote, SplitK, ResidueFirst, PairInterleaved or None
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
    spec: str | MatmulSpec,
    m: int,
    n: int,
    k: int,
    *,
    batch: tuple[int, ...] = (),
    product: Callable[[np.ndarray, np.ndarray], Any] | None = None,
) -> NativeProduct:
    """Find the schedule of a kernel for a shape: this GPU's own, or that of any function.

    Parameters
    ----------
    spec : str or MatmulSpec
        A machine's product, for example "h100:bf16"; its schedule is among the first to be compared.
    m, n, k : int
        Shapes (m, k) and (k, n) of the operands.
    batch : tuple of int, optional
        Batch dimensions of both operands.
    product : callable, optional
        A product to explain, of any library on any device: it takes two float32 NumPy arrays whose values are in the
        operands' formats, and returns an array with values of the spec's output (float32 if it has none). Without
        it, what XLA compiles for this process's GPU, with float32 results, in all four layouts (operands stored
        transposed or not): a schedule is then given only if all four have its bits.

    Returns
    -------
    NativeProduct
        Kind of kernel, schedule (None if none was found) and share of explained outputs: of up to 16 rows and columns of
        the first and the last product of a batch.

    Raises
    ------
    TypeError
        If the order of the spec is not a `FusedBlock`.
    ValueError
        If there is no GPU, or it has no such operands; with `product`, if operands are block-scaled, the accumulator is
        stochastic, or its results have another shape; if a size is below 1.

    Notes
    -----
    The spec's schedule, if it is not "flat", is compared first, by its bits alone. Then sums that cancel show whether and where
    K is split (FPRev, arXiv 2411.00442), and chains of that length are compared, with and without left-over products first.
    What this process's GPU does is remembered; `product` is run anew at each call. Cost: compiling the product, two to five runs, and as many
    16 x 16 x k products on the CPU.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.find_schedule("h100:bf16", 64, 64, 4096)  # doctest: +SKIP
    NativeProduct(kernel='cuBLASLt', schedule=SplitK(splits=6, granule=64, residue=0), share=1.0)
    >>> def product(a, b):
    ...     return ps.matmul(a, b, "h100:tf32:splitk8x4+residue16")
    >>> print(ps.find_schedule("h100:tf32", 8, 8, 784, product=product).schedule)
    splitk8x4+residue16
    """
    spec = MatmulSpec.parse(spec)
    if not isinstance(spec.order, FusedBlock):
        raise TypeError(f"spec is '{spec}'; allowed are specs of tensor cores, such as 'h100:bf16'")
    for name, size in (("m", m), ("n", n), ("k", k)):
        if size < 1:
            raise ValueError(f"{name} is {size}; allowed is >= 1")
    if product is not None:
        shape = Shape(m, n, k, batch)
        return NativeProduct("", *search_schedule(_checked(product, spec, shape), spec, shape))
    if (reason := platform_refusal(spec)) is not None:
        raise ValueError(f"no native kernel computes '{spec}': {reason}")
    return _find(replace(spec, output=None), m, n, k, batch)


def _checked(
    product: Callable[[np.ndarray, np.ndarray], Any], spec: MatmulSpec, shape: Shape
) -> Run:
    """Return a caller's product as a kernel of its own, whose results have to have the right shape."""
    if spec.is_block_scaled or spec.accumulator.mode is RoundingMode.STOCHASTIC:
        raise ValueError(
            f"spec is '{spec}'; allowed beside a product are operands without block scales, and no stochastic "
            "accumulator"
        )

    def run(a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        result = np.asarray(product(a, b), np.float32)
        expected = (*shape.batch, shape.m, shape.n)
        if result.shape != expected:
            raise ValueError(f"product returned shape {result.shape}; allowed is {expected}")
        return [result]

    return run


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
    def products(a: Array, at: Array, b: Array, bt: Array) -> list[Array]:
        pairs = ((x, y) for x in (a, at.mT) for y in (b, bt.mT))
        return [_chain(x, y, spec) for x, y in pairs]

    shapes = ((*batch, m, k), (*batch, k, m), (*batch, k, n), (*batch, n, k))
    try:
        # Compiled ahead of time, so that it runs here even while a caller is being traced.
        stored = [jax.ShapeDtypeStruct(x, np.float32) for x in shapes]  # type: ignore[no-untyped-call]
        compiled = jax.jit(products).lower(*stored).compile()
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        return NativeProduct(f"refused ({str(error).splitlines()[0][:80]})", None, 0.0)
    kernels = "+".join(sorted({kernel.kind for kernel in read_kernels(compiled.as_text() or "")}))

    def run(a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        stored = a, np.ascontiguousarray(a.mT), b, np.ascontiguousarray(b.mT)
        return [np.asarray(y) for y in compiled(*stored)]

    return NativeProduct(kernels, *search_schedule(run, spec, Shape(m, n, k, batch)))


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
