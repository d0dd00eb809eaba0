"""pychop: `Chop` on NumPy and JAX arrays, `FaultChop` on NumPy arrays."""

from typing import Any

import numpy as np

import precsim as ps
from conformance.adapters.adapter import Adapter, Arguments
from conformance.vector_file import Task

MODES = {"rne": 1, "rtp": 2, "rtn": 3, "rtz": 4, "rnz": 7, "rna": 8, "rto": 9}
FAULT_MODES = {"rne": 1, "rtp": 2, "rtn": 3, "rtz": 4}
FAULT_FORMATS = {"fp16": "h", "bf16": "b", "fp32": "s", "e5m2": "q52", "ieee_e4m3": "q43"}


def supports(task: Task) -> bool:
    """Have formats with IEEE specials: `Chop` takes only counts of exponent and fraction bits."""
    fmt = ps.get_format(task.format)
    is_ieee = isinstance(fmt, ps.FloatFormat) and fmt.specials is ps.Specials.IEEE
    return is_ieee and _is_rounding(task) and task.mode in MODES


def supports_fault(task: Task) -> bool:
    """Have the formats that `FaultChop` names; its q43 ends at 240, as by IEEE rules."""
    return task.format in FAULT_FORMATS and _is_rounding(task) and task.mode in FAULT_MODES


def _is_rounding(task: Task) -> bool:
    return task.operation == "round" and task.rule in ("any", "infinity")


def compute(task: Task, arguments: Arguments) -> Any:
    """Round with `Chop`, whose backend follows the array."""
    import pychop

    fmt = ps.get_format(task.format)
    assert isinstance(fmt, ps.FloatFormat)
    chop = pychop.Chop(
        exp_bits=fmt.exponent_bits, sig_bits=fmt.precision - 1, rmode=MODES[task.mode]
    )
    return chop(arguments["x"])


def compute_jax(task: Task, arguments: Arguments) -> np.ndarray:
    """Round JAX arrays with `Chop`, which jits its kernel."""
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        return np.asarray(compute(task, {"x": jnp.asarray(arguments["x"])}))


def compute_fault(task: Task, arguments: Arguments) -> Any:
    """Round with `FaultChop`, the port of MATLAB's chop."""
    import pychop

    name = FAULT_FORMATS[task.format]
    return pychop.FaultChop(name, subnormal=True, rmode=FAULT_MODES[task.mode])(arguments["x"])


NUMPY = Adapter(package="pychop", supports=supports, compute=compute)
JAX = Adapter(package="pychop", supports=supports, compute=compute_jax)
FAULT = Adapter(package="pychop", supports=supports_fault, compute=compute_fault)
