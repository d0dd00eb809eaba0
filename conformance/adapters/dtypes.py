"""What libraries of number types share: names, the rule of casts, operators on arrays."""

import operator
from collections.abc import Callable
from typing import Any

from conformance.vector_file import Task

DTYPES = {
    "fp16": "float16",
    "bf16": "bfloat16",
    "e4m3": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
    "ieee_e4m3": "float8_e4m3",
    "ieee_e3m4": "float8_e3m4",
    "e4m3fnuz": "float8_e4m3fnuz",
    "e4m3b11fnuz": "float8_e4m3b11fnuz",
    "e5m2fnuz": "float8_e5m2fnuz",
    "e3m2": "float6_e3m2fn",
    "e2m3": "float6_e2m3fn",
    "e2m1": "float4_e2m1fn",
    "e8m0": "float8_e8m0fnu",
}
"""Formats that have a dtype, and what ml_dtypes, JAX and PyTorch call it."""
OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
}


def is_a_cast(task: Task) -> bool:
    """Return whether a task is a cast: to nearest; overflow to infinity, NaN or the largest."""
    overflow = "saturate" if task.format in ("e3m2", "e2m3", "e2m1") else "infinity"
    is_known = task.format in DTYPES and task.rule in ("any", overflow)
    return is_known and task.mode == "rne" and task.operation in ("round", *OPERATORS, "sqrt")
