"""gfloat: `round_ndarray` on NumPy and JAX arrays."""

from typing import Any

import numpy as np

import precsim as ps
from conformance.adapters.adapter import Adapter, Arguments, compiled
from conformance.vector_file import Task

MODES = {
    "rne": "TiesToEven",
    "rna": "TiesToAway",
    "rtz": "TowardZero",
    "rtp": "TowardPositive",
    "rtn": "TowardNegative",
    "sr4:a": "StochasticFastest",
    "sr8:a": "StochasticFastest",
    "sr4:b": "StochasticFast",
    "sr8:b": "StochasticFast",
    "sr4:c": "Stochastic",
    "sr8:c": "Stochastic",
}
_NO_NAN = ("e3m2", "e2m3", "e2m1")


def supports(task: Task) -> bool:
    """Have all floats; `sat=False` is "infinity" (P3109 before 4.0), `sat=True` is "satfinite".

    Unsigned formats are left out: it documents nothing for negative numbers. E8M0 breaks ties by
    the parity of the exponent's code, which is not the rule of the vectors.
    """
    fmt = ps.get_format(task.format)
    if isinstance(fmt, ps.FixedPointFormat) or not fmt.is_signed:
        return False
    extended = ("satnone",) if fmt.has_infinity else ()
    rules = (
        ("any", "saturate")
        if task.format in _NO_NAN
        else ("any", "infinity", "satfinite", *extended)
    )
    return task.operation == "round" and task.mode in MODES and task.rule in rules


def compute(task: Task, arguments: Arguments) -> Any:
    """Round NumPy arrays."""
    from gfloat import RoundMode, round_ndarray

    bits = arguments.get("random_bits")
    number = task.spec.num_random_bits
    if bits is not None:
        bits = (bits & ((1 << number) - 1)).astype(np.int32)
    return round_ndarray(
        _format(task.format),
        arguments["x"],
        RoundMode[MODES[task.mode]],
        sat=task.rule in ("saturate", "satfinite") or task.format in _NO_NAN,
        srbits=bits,
        srnumbits=number,
    )


def _format(name: str) -> Any:
    """Describe a format to gfloat by its parameters."""
    from gfloat.types import Domain, FormatInfo

    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.FloatFormat)
    high_nans = {ps.Specials.IEEE: (1 << (fmt.precision - 1)) - 1, ps.Specials.FN: 1}
    return FormatInfo(
        name,
        fmt.width,
        fmt.precision,
        bias=fmt.bias,
        is_signed=fmt.is_signed,
        domain=Domain.Extended if fmt.has_infinity else Domain.Finite,
        has_nz=fmt.has_negative_zero,
        num_high_nans=high_nans.get(fmt.specials, 0),
        has_subnormals=fmt.has_subnormals,
        is_twos_complement=False,
    )


NUMPY = Adapter(package="gfloat", supports=supports, compute=compute)
JIT = Adapter(package="gfloat", supports=supports, compute=compiled(compute))
