"""The definition of an emulated matrix product: NumPy, one rounding at a time."""

from typing import Any

import numpy as np

from precsim._arrays import Array
from precsim.products.orders.ordered import ordered_matmul
from precsim.products.preparation import operand_bits, rotated_operands
from precsim.products.scaled.product import NO_SCALES, Scales, scaled_product
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import StepBlock
from precsim.products.tensor_core.choice import fused_product
from precsim.products.tensor_core.step_blocks import block_product
from precsim.rounding.round_to import round_to


def reference_matmul(
    a: Array,
    b: Array,
    c: Array | None,
    spec: MatmulSpec,
    random_bits: Any = None,
    given: Scales = NO_SCALES,
) -> Array:
    """Return c + a @ b with every rounding of the spec, in its order; about a millisecond per k.

    Shapes (..., M, K), (..., K, N) and (..., M, N); one carrier dtype.
    """
    a, b, spec = rotated_operands(a, b, spec)
    if spec.has_scales:
        total = scaled_product(a, b, c, spec, random_bits, _product, given)
    else:
        if not spec.is_block_scaled:
            of_a, of_b = operand_bits(random_bits, a, b, spec)
            a = a if spec.lhs is None else round_to(a, spec.lhs, random_bits=of_a)
            b = b if spec.rhs is None else round_to(b, spec.rhs, random_bits=of_b)
        total = _product(a, b, c, spec, random_bits)
    return total if spec.output is None else round_to(total, spec.output, random_bits=random_bits)


def _product(a: Array, b: Array, c: Array | None, spec: MatmulSpec, random_bits: Any) -> Array:
    """Return c + a @ b of rounded operands, before the output is rounded."""
    if isinstance(spec.order, FusedBlock):
        total: Array = np.asarray(fused_product(a, b, c, spec, random_bits))
        return total
    if isinstance(spec.order, StepBlock):
        total = np.asarray(block_product(a, b, c, spec)[0])
    else:
        total = ordered_matmul(a, b, c, spec, random_bits)
    # One NaN, without sign.
    return np.where(np.isnan(total), np.full_like(total, np.nan), total)
