"""NumPy: casts to float16, and operations on float16 arrays."""

import numpy as np

from conformance.adapters.adapter import Adapter, Arguments
from conformance.adapters.dtypes import OPERATORS, is_a_cast
from conformance.vector_file import Task


def supports(task: Task) -> bool:
    """Have float16 only, to nearest, infinity on overflow."""
    return is_a_cast(task) and task.format == "fp16"


def compute(task: Task, arguments: Arguments) -> np.ndarray:
    """Cast, or cast the operands (exactly, they are in the format) and compute."""
    operands = [x.astype(np.float16) for x in arguments.values()]
    function = np.sqrt if task.operation == "sqrt" else OPERATORS.get(task.operation)
    return np.asarray(function(*operands) if function else operands[0])


NUMPY = Adapter(package="numpy", supports=supports, compute=compute)
