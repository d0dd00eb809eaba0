"""precsim: NumPy, JAX as it is called without `jit`, and under `jit`."""

from typing import Any

import numpy as np

import precsim as ps
from conformance.adapters.adapter import Adapter, Arguments, compiled
from conformance.vector_file import Task


def supports(task: Task) -> bool:
    """Have everything."""
    return True


def compute(task: Task, arguments: Arguments) -> Any:
    """Run one operation on arrays of whichever library the arguments are of."""
    operands = [arguments[name] for name in "xyz" if name in arguments]
    function = getattr(ps, "round_to" if task.operation == "round" else task.operation)
    return function(*operands, task.spec, random_bits=arguments.get("random_bits"))


def compute_eager(task: Task, arguments: Arguments) -> np.ndarray:
    """Run it on JAX arrays."""
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        return np.asarray(compute(task, {name: jnp.asarray(x) for name, x in arguments.items()}))


NUMPY = Adapter(package="precsim", supports=supports, compute=compute)
EAGER = Adapter(package="precsim", supports=supports, compute=compute_eager)
JIT = Adapter(package="precsim", supports=supports, compute=compiled(compute))
