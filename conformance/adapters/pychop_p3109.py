"""pychop: `p3109_quantize` on NumPy and JAX arrays."""

import re
from typing import Any

import numpy as np

import precsim as ps
from conformance.adapters.adapter import Adapter, Arguments
from conformance.vector_file import Task

MODES = {
    "rne": "nearest_even",
    "rna": "nearest_away",
    "rtz": "toward_zero",
    "rtp": "toward_positive",
    "rtn": "toward_negative",
    "rto": "to_odd",
    **{f"sr{bits}:{variant}": f"stochastic_{variant}" for bits in (4, 8) for variant in "abc"},
}
RULES = {"any": "none", "satnone": "none", "satfinite": "finite", "satpropagate": "propagate"}


def supports(task: Task) -> bool:
    """Have the formats of P3109; NaN on overflow of a finite format, as in drafts before 4.0.

    What rounding to odd does on overflow is not documented.
    """
    fmt = ps.get_format(task.format)
    if not task.format.startswith("binary") or isinstance(fmt, ps.FixedPointFormat):
        return False
    rules = {*RULES} if fmt.has_infinity else {*RULES, "infinity"} - {"satnone"}
    if task.mode == "rto":
        rules = {"any"}
    return task.operation == "round" and task.mode in MODES and task.rule in rules


def compute(task: Task, arguments: Arguments) -> Any:
    """Round; the backend follows the array."""
    from pychop.p3109 import P3109Format, p3109_quantize

    parts = re.fullmatch(r"binary(\d+)p(\d+)([su])([ef])", task.format)
    assert parts is not None
    fmt = P3109Format(
        int(parts[1]), int(parts[2]), parts[3] == "s", "extended" if parts[4] == "e" else "finite"
    )
    number = task.spec.num_random_bits
    bits = (
        {"srbits": arguments["random_bits"] % (1 << number), "srnumbits": number} if number else {}
    )
    return p3109_quantize(
        arguments["x"],
        fmt,
        rounding=MODES[task.mode],
        saturate=RULES.get(task.rule, "none"),
        **bits,
    )


def compute_jax(task: Task, arguments: Arguments) -> np.ndarray:
    """Round JAX arrays."""
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        columns = {name: jnp.asarray(x) for name, x in arguments.items()}
        return np.asarray(compute(task, columns))


NUMPY = Adapter(package="pychop", supports=supports, compute=compute)
JAX = Adapter(package="pychop", supports=supports, compute=compute_jax)
