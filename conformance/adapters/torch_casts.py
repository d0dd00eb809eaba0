"""PyTorch: casts of tensors, and operations on tensors of a dtype."""

import numpy as np

from conformance.adapters.adapter import Adapter, Arguments
from conformance.adapters.dtypes import DTYPES, OPERATORS, is_a_cast
from conformance.vector_file import Task

FORMATS = ("fp16", "bf16", "e4m3", "e5m2", "e4m3fnuz", "e5m2fnuz", "e8m0")
OPERATED = ("fp16", "bf16")


def supports(task: Task) -> bool:
    """Have casts to nearest; float8_e4m3fn saturates, infinity too (2.13); others do not."""
    if task.format == "e4m3":
        is_cast = task.operation == "round" and task.mode == "rne"
        return is_cast and task.rule in ("any", "satfinite")
    operated = task.operation == "round" or task.format in OPERATED
    return is_a_cast(task) and task.format in FORMATS and operated


def compute(task: Task, arguments: Arguments) -> np.ndarray:
    """Cast, or cast the operands (exactly, they are in the format) and compute."""
    import torch

    dtype = getattr(torch, DTYPES[task.format])
    operands = [torch.from_numpy(x.copy()).to(dtype) for x in arguments.values()]
    function = torch.sqrt if task.operation == "sqrt" else OPERATORS.get(task.operation)
    result = function(*operands) if function else operands[0]
    return np.asarray(result.to(torch.float64).numpy())


TORCH = Adapter(package="torch", supports=supports, compute=compute)
