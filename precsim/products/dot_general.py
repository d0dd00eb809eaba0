"""A drop-in for `jax.lax.dot_general`, for the injection points of Flax and others."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.products.backends import resolve_backend
from precsim.products.matmul import matmul
from precsim.products.specs.spec import MatmulSpec

DimensionNumbers = tuple[tuple[Any, Any], tuple[Any, Any]]


def dot_general(
    spec: str | MatmulSpec,
    *,
    dgrad: str | MatmulSpec | None = None,
    wgrad: str | MatmulSpec | None = None,
    backend: str = "auto",
) -> Callable[..., Array]:
    """Return a function with the signature of `jax.lax.dot_general` that computes by a spec.

    Parameters
    ----------
    spec : str or MatmulSpec
        Formats and order of the product.
    dgrad, wgrad : str or MatmulSpec, optional
        Specs of the gradients of the left and of the right operand; `spec` by default.
    backend : {"auto", "emulated", "native"}
        As in `matmul`.

    Returns
    -------
    callable
        ``f(lhs, rhs, dimension_numbers, precision=None, preferred_element_type=None, **ignored)``.
        Operands narrower than float32 are widened exactly; contracted dimensions are summed in
        row-major order; the result has `preferred_element_type`, or the operands' dtype.

    Raises
    ------
    ValueError
        If the backend has no kernel for the spec.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> f = ps.dot_general("fp16_fp16_fp16")
    >>> ones = jnp.ones((4096,))
    >>> float(f(ones, ones, (((0,), (0,)), ((), ()))))
    2048.0
    """
    parsed = MatmulSpec.parse(spec)
    resolve_backend(parsed, backend)

    def run(
        lhs: Array,
        rhs: Array,
        dimension_numbers: DimensionNumbers,
        precision: Any = None,
        preferred_element_type: Any = None,
        **ignored: Any,
    ) -> Array:
        (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dimension_numbers
        lhs, rhs = jnp.asarray(lhs), jnp.asarray(rhs)
        dtype = preferred_element_type or jnp.result_type(lhs, rhs)
        a, lhs_free = _arrange(lhs, lhs_batch, lhs_contract, contract_last=True)
        b, rhs_free = _arrange(rhs, rhs_batch, rhs_contract, contract_last=False)
        y = matmul(a, b, parsed, dgrad=dgrad, wgrad=wgrad, backend=backend)
        batch = tuple(lhs.shape[d] for d in lhs_batch)
        return y.reshape(*batch, *lhs_free, *rhs_free).astype(dtype)

    return run


def _arrange(
    x: Array, batch: Any, contract: Any, *, contract_last: bool
) -> tuple[Array, tuple[int, ...]]:
    """Bring an operand to shape (batch, free, contracted) or (batch, contracted, free)."""
    batch, contract = tuple(batch), tuple(contract)
    free = tuple(d for d in range(x.ndim) if d not in (*batch, *contract))
    groups = (batch, free, contract) if contract_last else (batch, contract, free)
    sizes = [int(np.prod([x.shape[d] for d in group])) for group in groups]
    wide = x if x.dtype in (jnp.float32, jnp.float64) else x.astype(jnp.float32)
    arranged = wide.transpose(sum(groups, ()))
    shape = sizes[1:] if not batch else sizes
    return arranged.reshape(shape), tuple(x.shape[d] for d in free)
