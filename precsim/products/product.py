"""One product of two arrays, run by the backend that was asked for."""

from functools import partial

from jax import lax

from precsim._arrays import Array
from precsim._calls import with_automatic_axes
from precsim.products.backends import resolve_backend
from precsim.products.emulated import emulated_matmul
from precsim.products.native.dot import native_matmul
from precsim.products.native.tensor_core import native_tensor_core
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec


def run_product(
    a: Array,
    b: Array,
    c: Array | None,
    spec: MatmulSpec,
    random_bits: Array | None,
    *,
    backend: str,
) -> Array:
    """Return c + a @ b; shapes (..., M, K), (..., K, N) and (..., M, N) of equal batch dimensions."""
    run = partial(_run, spec=spec, backend=backend)
    return with_automatic_axes(run, a, b, c, random_bits, contracted=(-1, -2))


def _run(
    a: Array,
    b: Array,
    c: Array | None,
    random_bits: Array | None,
    *,
    spec: MatmulSpec,
    backend: str,
) -> Array:
    is_fused = isinstance(spec.order, FusedBlock)
    if is_fused and c is not None:
        # Kernels add it last, the model first.
        if backend == "native":
            raise ValueError(f"c is given; no native kernel computes '{spec}' with a first value")
        return emulated_matmul(a, b, c, spec, random_bits)
    chosen = resolve_backend(spec, backend, shapes=(a.shape, b.shape))
    if chosen == "emulated":
        return emulated_matmul(a, b, c, spec, random_bits)
    if not is_fused:
        return native_matmul(a, b, c, spec, random_bits)
    if backend == "native":
        return native_tensor_core(a, b, spec, random_bits)
    # The caller's arrays may be placed on the CPU beside the GPU, which only XLA knows.
    return lax.platform_dependent(
        a,
        b,
        cuda=lambda a, b: native_tensor_core(a, b, spec, random_bits),
        default=lambda a, b: emulated_matmul(a, b, None, spec, random_bits),
    )
