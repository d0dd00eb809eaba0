"""pychop: `Chopf`, fixed point that saturates."""

from typing import Any

import precsim as ps
from conformance.adapters.adapter import Adapter, Arguments
from conformance.vector_file import Task

MODES = {"rne": 1, "rtp": 2, "rtn": 3, "rtz": 4}


def supports(task: Task) -> bool:
    """Have fixed-point formats, saturating."""
    is_fixed = isinstance(ps.get_format(task.format), ps.FixedPointFormat)
    return is_fixed and task.mode in MODES and task.rule in ("any", "saturate")


def compute(task: Task, arguments: Arguments) -> Any:
    """Round; it counts the sign among the integer bits."""
    import pychop

    fmt = ps.get_format(task.format)
    assert isinstance(fmt, ps.FixedPointFormat)
    chop = pychop.Chopf(fmt.integer_bits + 1, fmt.fraction_bits, MODES[task.mode])
    return chop(arguments["x"].copy())


NUMPY = Adapter(package="pychop", supports=supports, compute=compute)
