"""Which schedule a native kernel follows for a shape: found by trying it.

Which kernel a library takes for a shape, and in what order it adds, is not documented and changes
between versions. So nothing is assumed: the first time that a shape is wanted, it is computed on
random operands in every layout, and the bits are compared with the model's (`search`).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from precsim._arrays import Array
from precsim.formats.arguments import integer, shown
from precsim.products.native.hlo import read_kernels
from precsim.products.native.search import Run, Shape, search_schedule
from precsim.products.native.tensor_core import one_kernel, platform_refusal
from precsim.products.specs.fused_block import FusedBlock, Schedule
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.modes import RoundingMode


class NativeProduct(NamedTuple):
    """What this machine does for a product of one shape.

    Parameters
    ----------
    kernel : str
        Kind of the kernel, as in `Kernel`; several kinds are joined by "+". Empty for a caller's
        own.
    schedule : Flat, Promote, SplitK, ResidueFirst, PairInterleaved or None
        The schedule whose bits all compared outputs have, None if none was found.
    share : float
        Largest share of compared outputs with the bits of one schedule, 0 to 1.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.kernels.NativeProduct("cublaslt", None, 0.25).schedule is None  # no order has all bits
    True
    """

    kernel: str
    schedule: Schedule | None
    share: float


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
        A machine's product, for example "h100:bf16"; its schedule is among the first to be
        compared.
    m, n, k : int
        Shapes (m, k) and (k, n) of the operands.
    batch : tuple of int, optional
        Batch dimensions of both operands.
    product : callable, optional
        A product to explain, of any library on any device: it takes two float32 NumPy arrays whose
        values are in the operands' formats, and returns an array with values of the spec's output
        (float32 if it has none). Without it, the product is the one that XLA compiles for this
        process's GPU, with float32 results, in all four layouts (operands stored transposed or
        not). A schedule is then given only if all four have its bits.

    Returns
    -------
    NativeProduct
        Kind of kernel, schedule (None if none was found) and share of explained outputs: of up to
        16 rows and columns of the first and the last product of a batch.

    Raises
    ------
    TypeError
        If the order of the spec is not a `FusedBlock`.
    ValueError
        If there is no GPU, or it has no such operands; with `product`, if operands are
        block-scaled, the accumulator is stochastic, or its results have another shape; if a size is
        below 1.

    Notes
    -----
    The spec's schedule, if it is not "flat", is compared first, by its bits alone. Then sums that
    cancel show whether and where K is split (FPRev, arXiv 2411.00442), and chains of that length
    are compared, with and without left-over products first. The findings for this process's GPU are
    remembered; `product` is run anew at each call. Cost: compiling the product, two to five runs,
    and as many 16 x 16 x k products on the CPU.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.kernels.find_schedule("h100:bf16", 64, 64, 4096)  # doctest: +SKIP
    NativeProduct(kernel='cuBLASLt', schedule=SplitK(splits=6, granule=64, residue=0), share=1.0)
    >>> def product(a, b):
    ...     return ps.matmul(a, b, "h100:tf32:splitk8x4+residue16")
    >>> print(ps.kernels.find_schedule("h100:tf32", 8, 8, 784, product=product).schedule)
    splitk8x4+residue16
    """
    spec = MatmulSpec.parse(spec)
    if not isinstance(spec.order, FusedBlock):
        raise TypeError(f"spec is '{spec}'; allowed are specs of tensor cores, such as 'h100:bf16'")
    m, n, k = (integer(size, name, least=1) for name, size in (("m", m), ("n", n), ("k", k)))
    if product is not None:
        if not callable(product):
            raise TypeError(
                f"product is {shown(product)}; allowed are functions of two arrays, for example jnp.matmul"
            )
        shape = Shape(m, n, k, batch)
        return NativeProduct("", *search_schedule(_checked(product, spec, shape), spec, shape))
    if (reason := platform_refusal(spec)) is not None:
        raise ValueError(f"no native kernel computes '{spec}': {reason}")
    return _find(replace(spec, output=None), m, n, k, batch)


def _checked(
    product: Callable[[np.ndarray, np.ndarray], Any], spec: MatmulSpec, shape: Shape
) -> Run:
    """Return a caller's product as a kernel of its own; check the shape of its results."""
    has_scales = spec.is_block_scaled or spec.has_scales
    if has_scales or spec.accumulator.mode is RoundingMode.STOCHASTIC:
        raise ValueError(
            f"spec is '{spec}'; allowed beside a product are operands without scales, and no stochastic "
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
        return [one_kernel(x, y, spec) for x, y in pairs]

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
