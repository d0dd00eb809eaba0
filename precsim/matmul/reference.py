"""The definition of an emulated matrix product: NumPy, one rounding at a time."""

from typing import Any

import numpy as np

from precsim.matmul.fused import fused_product
from precsim.matmul.fused_block import FusedBlock
from precsim.matmul.fused_limits import is_block_scaled
from precsim.matmul.ordered import ordered_matmul
from precsim.matmul.spec import MatmulSpec
from precsim.rounding.api import round_to


def reference_matmul(
    a: np.ndarray, b: np.ndarray, c: np.ndarray | None, spec: MatmulSpec, random_bits: Any = None
) -> np.ndarray:
    """Return c + a @ b with every rounding of the spec, in its order; about a millisecond per k.

    Shapes (..., M, K), (..., K, N) and (..., M, N); one carrier dtype.
    """
    is_scaled = is_block_scaled(spec)
    if spec.lhs is not None and not is_scaled:
        a = round_to(a, spec.lhs)
    if spec.rhs is not None and not is_scaled:
        b = round_to(b, spec.rhs)
    if isinstance(spec.order, FusedBlock):
        total = np.asarray(fused_product(a, b, c, spec, random_bits))
    else:
        total = ordered_matmul(a, b, c, spec, random_bits)
        # One NaN, without sign.
        total = np.where(np.isnan(total), np.full_like(total, np.nan), total)
    return total if spec.output is None else round_to(total, spec.output, random_bits=random_bits)
