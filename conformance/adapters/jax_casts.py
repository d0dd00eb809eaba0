"""JAX: `astype` there and back, arithmetic between the two casts, and `reduce_precision`."""

from collections.abc import Callable
from typing import Any

import numpy as np

import precsim as ps
from conformance.adapters.adapter import Adapter, Arguments
from conformance.adapters.dtypes import DTYPES, OPERATORS, is_a_cast
from conformance.vector_file import Task


def supports(task: Task) -> bool:
    """Have all dtypes of XLA, to nearest; casts saturate only where a format has no NaN."""
    return is_a_cast(task) and task.operation == "round" and task.format not in ("e3m2", "e2m3")


def supports_arithmetic(task: Task) -> bool:
    """Have operations on the same dtypes; XLA flushes subnormals there, by design."""
    return is_a_cast(task) and task.operation != "round"


def supports_reduce_precision(task: Task) -> bool:
    """Have formats with IEEE specials: all it takes is numbers of exponent and fraction bits."""
    fmt = ps.get_format(task.format)
    is_ieee = isinstance(fmt, ps.FloatFormat) and fmt.specials is ps.Specials.IEEE
    is_cast = task.operation == "round" and task.mode == "rne" and task.rule in ("any", "infinity")
    return is_ieee and is_cast


def compute(task: Task, arguments: Arguments) -> np.ndarray:
    """Call JAX operation by operation."""
    return _with_x64(lambda columns: _in_dtype(task, columns), arguments)


def compute_jit(task: Task, arguments: Arguments) -> np.ndarray:
    """Call a jitted function."""
    import jax

    return _with_x64(jax.jit(lambda columns: _in_dtype(task, columns)), arguments)


def reduce_precision(task: Task, arguments: Arguments) -> np.ndarray:
    """Call a jitted `lax.reduce_precision`."""
    import jax

    fmt = ps.get_format(task.format)
    assert isinstance(fmt, ps.FloatFormat)
    widths = (fmt.exponent_bits or 0, fmt.precision - 1)
    return _with_x64(
        jax.jit(lambda columns: jax.lax.reduce_precision(columns["x"], *widths)), arguments
    )


def _in_dtype(task: Task, columns: Arguments) -> Any:
    import jax.numpy as jnp

    dtype = getattr(jnp, DTYPES[task.format])
    operands = [x.astype(dtype) for x in columns.values()]
    function = jnp.sqrt if task.operation == "sqrt" else OPERATORS.get(task.operation)
    result: Any = function(*operands) if function else operands[0]
    return result.astype(columns["x"].dtype)


def _with_x64(function: Callable[[Arguments], Any], arguments: Arguments) -> np.ndarray:
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        return np.asarray(function({name: jnp.asarray(x) for name, x in arguments.items()}))


CAST = Adapter(package="jax", supports=supports, compute=compute)
CAST_JIT = Adapter(package="jax", supports=supports, compute=compute_jit)
ARITHMETIC = Adapter(
    package="jax", supports=supports_arithmetic, compute=compute, has_subnormals=False
)
ARITHMETIC_JIT = Adapter(
    package="jax", supports=supports_arithmetic, compute=compute_jit, has_subnormals=False
)
REDUCE_PRECISION = Adapter(
    package="jax",
    supports=supports_reduce_precision,
    compute=reduce_precision,
    has_subnormals=False,
)
