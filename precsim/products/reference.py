"""The definition of an emulated matrix product: NumPy, one rounding at a time."""

from typing import Any

import numpy as np

from precsim._arrays import Array
from precsim.products.orders.ordered import ordered_matmul
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec
from precsim.products.tensor_core.choice import fused_product
from precsim.rounding.round_to import round_to


def reference_matmul(
    a: Array, b: Array, c: Array | None, spec: MatmulSpec, random_bits: Any = None
) -> Array:
    """Return c + a @ b with every rounding of the spec, in its order; about a millisecond per k.

    Shapes (..., M, K), (..., K, N) and (..., M, N); one carrier dtype.
    """
    is_scaled = spec.is_block_scaled
    if spec.lhs is not None and not is_scaled:
        a = round_to(a, spec.lhs)
    if spec.rhs is not None and not is_scaled:
        b = round_to(b, spec.rhs)
    if isinstance(spec.order, FusedBlock):
        total: Array = np.asarray(fused_product(a, b, c, spec, random_bits))
    else:
        total = ordered_matmul(a, b, c, spec, random_bits)
        # One NaN, without sign.
        total = np.where(np.isnan(total), np.full_like(total, np.nan), total)
    return total if spec.output is None else round_to(total, spec.output, random_bits=random_bits)
