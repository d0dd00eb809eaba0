"""Convolutions by the platform's own kernels."""

import jax.numpy as jnp
from jax import lax

from precsim._arrays import Array
from precsim._calls import compiled
from precsim.products.native.stored import stored
from precsim.products.specs.spec import MatmulSpec
from precsim.products.windows import Windows, join_last, split_last
from precsim.rounding.kernel.kernel import round_array


@compiled(static_argnums=(2, 3))
def native_convolution(
    x: Array, w: Array, spec: MatmulSpec, windows: Windows, random_bits: Array | None = None
) -> Array:
    """Return the convolution of images and filters from `lax.conv_general_dilated`.

    Only for specs that `native_refusal` accepts. Operands and output are rounded by precsim's
    kernel, as in `native_matmul`; order and rounding of the accumulation are the platform's own.
    Shapes: images ([groups], batch, *image, channels), filters ([groups], *window, channels,
    filters).
    """
    assert spec.lhs is not None
    assert spec.rhs is not None
    carrier, rank = x.dtype, len(windows.strides)
    x, w = (
        stored(round_array(v, None, part), part.format)
        for v, part in ((x, spec.lhs), (w, spec.rhs))
    )
    if x.dtype != w.dtype:  # which lax refuses; both are exact in float32
        x, w = x.astype(jnp.float32), w.astype(jnp.float32)
    is_grouped = x.ndim == rank + 3
    groups = x.shape[0] if is_grouped else 1
    if is_grouped:
        x, w = join_last(x), join_last(w)
    places = tuple(range(rank))
    images = (0, rank + 1, *(n + 1 for n in places))
    total: Array = lax.conv_general_dilated(
        jnp.asarray(x),
        jnp.asarray(w),
        windows.strides,
        windows.padding,
        windows.lhs_dilation,
        windows.rhs_dilation,
        lax.ConvDimensionNumbers(images, (rank + 1, rank, *places), images),
        feature_group_count=groups,
        precision=lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    if is_grouped:
        total = split_last(total, groups)
    total = total.astype(carrier)  # exact: wider or the same
    return total if spec.output is None else round_array(total, random_bits, spec.output)
