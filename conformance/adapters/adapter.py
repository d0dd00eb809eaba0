"""What the runner has to know of a library."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from conformance.vector_file import Task

Arguments: TypeAlias = Mapping[str, Any]
"""NumPy arrays by column: x, y, z in the library's input type, random_bits as uint32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """How a library is asked."""

    package: str
    """The package whose version is printed. If it is not installed, the library is skipped."""
    supports: Callable[[Task], bool]
    """Return whether the library documents this operation, format, mode and overflow rule."""
    compute: Callable[[Task, Arguments], Any]
    """From arguments to an array of results, or anything that becomes float64 without rounding."""
    inputs: tuple[str, ...] = ("float32", "float64")
    """The types of its arguments, one row of the table each, which lacks the others' values."""
    has_subnormals: bool = True
    """False if it documents none: inputs below the smallest normal value are then left out."""


def compiled(compute: Callable[[Task, Arguments], Any]) -> Callable[[Task, Arguments], np.ndarray]:
    """Return the same on JAX arrays, under `jit`."""

    def run(task: Task, arguments: Arguments) -> np.ndarray:
        import jax

        with jax.enable_x64(True):
            return np.asarray(jax.jit(lambda columns: compute(task, columns))(dict(arguments)))

    return run
