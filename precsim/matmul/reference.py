"""The definition of an emulated matrix product: NumPy, one rounding at a time."""

from typing import Any

import numpy as np

from precsim.arithmetic.elementwise import add, fma, multiply
from precsim.arithmetic.order import SEQUENTIAL
from precsim.matmul.fused_block import FusedBlock
from precsim.matmul.ordered import ordered_matmul
from precsim.matmul.spec import MatmulSpec
from precsim.matmul.tensor_core import fused_matmul
from precsim.rounding.api import round_to


def reference_matmul(
    a: np.ndarray, b: np.ndarray, c: np.ndarray | None, spec: MatmulSpec, random_bits: Any = None
) -> np.ndarray:
    """Return c + a @ b with every rounding of the spec, in its order; about a millisecond per k.

    Shapes (..., M, K), (..., K, N) and (..., M, N); one carrier dtype.
    """
    if spec.lhs is not None:
        a = round_to(a, spec.lhs)
    if spec.rhs is not None:
        b = round_to(b, spec.rhs)
    if isinstance(spec.order, FusedBlock):
        total = np.asarray(fused_matmul(a, b, c, spec))
    else:
        total = (
            _sequential(a, b, c, spec)
            if spec.order == SEQUENTIAL
            else ordered_matmul(a, b, c, spec)
        )
        total = np.where(
            np.isnan(total), np.full_like(total, np.nan), total
        )  # one NaN, without sign
    return total if spec.output is None else round_to(total, spec.output, random_bits=random_bits)


def _sequential(a: np.ndarray, b: np.ndarray, c: np.ndarray | None, spec: MatmulSpec) -> np.ndarray:
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*batch, a.shape[-2], b.shape[-1])
    total = np.zeros(shape, a.dtype) if c is None else np.broadcast_to(c, shape)
    for k in range(a.shape[-1]):
        total = _step(total, a[..., :, k, None], b[..., None, k, :], spec)
    return total


def _step(total: np.ndarray, x: np.ndarray, y: np.ndarray, spec: MatmulSpec) -> np.ndarray:
    """Add one product to the partial sums."""
    target = spec.accumulator if spec.adder is None else spec.adder
    if spec.product is None:
        total = fma(x, y, total, target)
    else:
        total = add(total, multiply(x, y, spec.product), target)
    return total if spec.adder is None else round_to(total, spec.accumulator)
