"""Matrix products by the platform's own kernels."""

from functools import partial

import jax.numpy as jnp
from jax import lax

from precsim._arrays import Array
from precsim._calls import compiled
from precsim._loops import by_platform
from precsim.products.native.stored import stored
from precsim.products.shapes import with_one_batch
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.kernel.kernel import round_array


@compiled(static_argnums=3)
def native_matmul(
    a: Array, b: Array, c: Array | None, spec: MatmulSpec, random_bits: Array | None = None
) -> Array:
    """Return c + a @ b from `lax.dot_general` on narrow operands with float32 accumulation.

    Only for specs that `native_refusal` accepts. Operands and output are rounded by precsim's
    kernel. Order and rounding of the accumulation are the platform's own; `c` is added last, in
    float32. Shapes as in `reference_matmul`.
    """
    assert spec.lhs is not None
    assert spec.rhs is not None
    carrier = a.dtype
    a, b = (
        stored(round_array(x, None, part), part.format)
        for x, part in ((a, spec.lhs), (b, spec.rhs))
    )
    a, b = with_one_batch(a, b)
    axes = tuple(range(a.ndim - 2))
    dimensions = (((a.ndim - 1,), (b.ndim - 2,)), (axes, axes))
    multiply = partial(
        lax.dot_general,
        dimension_numbers=dimensions,
        precision=lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    if axes:  # XLA's kernel for batches on a CPU does not take narrow operands
        total = by_platform(lambda a, b: multiply(*map(_as_float32, (a, b))), multiply, a, b)
    else:
        total = multiply(a, b)
    total = total if c is None else total + c.astype(jnp.float32)
    total = total.astype(carrier)  # exact: wider or the same
    return total if spec.output is None else round_array(total, random_bits, spec.output)


def _as_float32(x: Array) -> Array:
    return x.astype(jnp.float32)
