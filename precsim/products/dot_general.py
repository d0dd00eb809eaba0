"""A drop-in for `jax.lax.dot_general`, for the injection points of Flax and others."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array, ArrayLike, JaxArray, as_array
from precsim._calls import compiled, not_narrowed
from precsim.formats.carrier import as_carrier, is_narrow_float
from precsim.products.backends import Specs
from precsim.products.operands import as_operands
from precsim.products.product import run_matmul
from precsim.products.specs.spec import MatmulSpec

DimensionNumbers = tuple[tuple[Any, Any], tuple[Any, Any]]


def dot_general(
    spec: str | MatmulSpec,
    *,
    dgrad: str | MatmulSpec | None = None,
    wgrad: str | MatmulSpec | None = None,
    backend: str = "auto",
) -> Callable[..., JaxArray]:
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
        Its operands become JAX arrays of float32 or float64. Narrower floats are widened exactly;
        complex numbers, integers and booleans are refused, and so are float64 NumPy arrays without
        jax_enable_x64. Contracted dimensions are summed in row-major order. The result has
        `preferred_element_type`, or the operands' dtype.

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
    specs = Specs.resolve(spec, dgrad, wgrad, backend)
    if backend == "reference":
        raise ValueError(
            "backend is 'reference'; allowed for dot_general are 'auto', 'emulated', 'native'"
        )

    def run(
        lhs: ArrayLike,
        rhs: ArrayLike,
        dimension_numbers: DimensionNumbers,
        precision: Any = None,
        preferred_element_type: Any = None,
        **ignored: Any,
    ) -> JaxArray:
        contracted, batch = (tuple(map(tuple, pair)) for pair in dimension_numbers)
        lhs, rhs = as_array(lhs, "lhs"), as_array(rhs, "rhs")
        # Widened here: XLA's CPU compiler cannot join the conversion of a 6-bit float to others.
        a, b = (as_carrier(not_narrowed(x, n), n)[0] for x, n in ((lhs, "lhs"), (rhs, "rhs")))
        dtype = preferred_element_type
        if dtype is None:
            dtype = lhs.dtype if lhs.dtype == rhs.dtype else jnp.result_type(lhs, rhs)
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64) and not is_narrow_float(dtype):
            raise TypeError(
                f"preferred_element_type is {dtype}; allowed are float32, float64 and narrower floats"
            )
        return _compiled(a, b, specs, contracted, batch, dtype)

    return run


@compiled(static_argnums=(2, 3, 4, 5))
def _compiled(
    lhs: Array, rhs: Array, specs: Specs, contracted: Any, batch: Any, dtype: Any
) -> JaxArray:
    a, lhs_free = _arrange(lhs, batch[0], contracted[0], contract_last=True)
    b, rhs_free = _arrange(rhs, batch[1], contracted[1], contract_last=False)
    y = run_matmul(as_operands(a, b, None, None, specs), specs)
    shared = (lhs.shape[d] for d in batch[0])
    return jnp.asarray(y.reshape(*shared, *lhs_free, *rhs_free), dtype)


def _arrange(
    x: Array, batch: Any, contract: Any, *, contract_last: bool
) -> tuple[Array, tuple[int, ...]]:
    """Bring an operand to shape (batch, free, contracted) or (batch, contracted, free)."""
    batch, contract = tuple(batch), tuple(contract)
    free = tuple(d for d in range(x.ndim) if d not in (*batch, *contract))
    groups = (batch, free, contract) if contract_last else (batch, contract, free)
    sizes = [int(np.prod([x.shape[d] for d in group])) for group in groups]
    shape = sizes[1:] if not batch else sizes
    return x.transpose(sum(groups, ())).reshape(shape), tuple(x.shape[d] for d in free)
