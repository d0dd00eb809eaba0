"""ml_dtypes: casts of NumPy arrays, and operations on arrays of its dtypes."""

import numpy as np

from conformance.adapters.adapter import Adapter, Arguments
from conformance.adapters.dtypes import DTYPES, OPERATORS, is_a_cast
from conformance.vector_file import Task


def supports(task: Task) -> bool:
    """Have all its dtypes, to nearest; casts saturate only where a format has no NaN."""
    return is_a_cast(task) and task.format != "fp16"


def compute(task: Task, arguments: Arguments) -> np.ndarray:
    """Cast, or cast the operands (exactly, they are in the format) and compute."""
    import ml_dtypes

    dtype = getattr(ml_dtypes, DTYPES[task.format])
    operands = [x.astype(dtype) for x in arguments.values()]
    function = np.sqrt if task.operation == "sqrt" else OPERATORS.get(task.operation)
    return np.asarray(function(*operands) if function else operands[0])


ML_DTYPES = Adapter(package="ml_dtypes", supports=supports, compute=compute)
