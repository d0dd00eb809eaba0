"""A drop-in for `jax.lax.dot_general`, for the injection points of Flax and others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array, ArrayLike, JaxArray
from precsim._calls import compiled
from precsim.products.backends import Specs
from precsim.products.drop_in import specs_of, widened
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
        `preferred_element_type`, or the operands' dtype. Functions of equal specs are equal and
        have one hash: a model that is built again finds what `jax.jit` compiled for the first.

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
    return DotGeneral(specs_of("dot_general", spec, dgrad, wgrad, backend))


@dataclass(frozen=True, slots=True)
class DotGeneral:
    """A function with the signature of `jax.lax.dot_general`; equal specs make equal functions."""

    specs: Specs

    def __call__(
        self,
        lhs: ArrayLike,
        rhs: ArrayLike,
        dimension_numbers: DimensionNumbers,
        precision: Any = None,
        preferred_element_type: Any = None,
        **ignored: Any,
    ) -> JaxArray:
        """Compute a product, whose dimensions are numbered as in `jax.lax.dot_general`."""
        contracted, batch = (tuple(map(tuple, pair)) for pair in dimension_numbers)
        a, b, dtype = widened(lhs, rhs, preferred_element_type)
        return _compiled(a, b, self.specs, contracted, batch, dtype)


@compiled(static_argnums=(2, 3, 4, 5))
def _compiled(
    lhs: Array, rhs: Array, specs: Specs, contracted: Any, batch: Any, dtype: Any
) -> JaxArray:
    a, lhs_free = arrange(lhs, batch[0], contracted[0], contract_last=True)
    b, rhs_free = arrange(rhs, batch[1], contracted[1], contract_last=False)
    y = run_matmul(as_operands(a, b, None, None, specs), specs)
    shared = (lhs.shape[d] for d in batch[0])
    return jnp.asarray(y.reshape(*shared, *lhs_free, *rhs_free), dtype)


def arrange(
    x: Array, batch: Any, contract: Any, *, contract_last: bool
) -> tuple[Array, tuple[int, ...]]:
    """Bring an operand to shape (batch, free, contracted) or (batch, contracted, free)."""
    batch, contract = tuple(batch), tuple(contract)
    free = tuple(d for d in range(x.ndim) if d not in (*batch, *contract))
    groups = (batch, free, contract) if contract_last else (batch, contract, free)
    sizes = [int(np.prod([x.shape[d] for d in group])) for group in groups]
    shape = sizes[1:] if not batch else sizes
    return x.transpose(sum(groups, ())).reshape(shape), tuple(x.shape[d] for d in free)
