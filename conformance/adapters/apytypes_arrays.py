"""APyTypes: `cast` of fixed-point and of floating-point arrays."""

from typing import Any

import precsim as ps
from conformance.adapters.adapter import Adapter, Arguments
from conformance.vector_file import Task

MODES = {
    "rne": "TIES_EVEN",
    "rna": "TIES_AWAY",
    "rnz": "TIES_ZERO",
    "rno": "TIES_ODD",
    "rnp": "TIES_POS",
    "rnn": "TIES_NEG",
    "rtz": "TO_ZERO",
    "raz": "TO_AWAY",
    "rtp": "TO_POS",
    "rtn": "TO_NEG",
}
OVERFLOW = {"any": "SAT", "saturate": "SAT", "wrap": "WRAP"}


def supports_fixed(task: Task) -> bool:
    """Have all fixed-point formats."""
    is_fixed = isinstance(ps.get_format(task.format), ps.FixedPointFormat)
    return is_fixed and task.mode in MODES and task.rule in OVERFLOW


def supports_float(task: Task) -> bool:
    """Have the formats with IEEE specials."""
    fmt = ps.get_format(task.format)
    is_ieee = isinstance(fmt, ps.FloatFormat) and fmt.specials is ps.Specials.IEEE
    is_rounding = task.operation == "round" and task.rule in ("any", "infinity")
    return is_ieee and is_rounding and task.mode in MODES


def compute_fixed(task: Task, arguments: Arguments) -> Any:
    """Cast from a fixed-point array so wide that it holds every float64."""
    import apytypes

    fmt = ps.get_format(task.format)
    assert isinstance(fmt, ps.FixedPointFormat)
    exact = apytypes.APyFixedArray.from_float(arguments["x"], int_bits=1025, frac_bits=1074)
    return exact.cast(
        int_bits=fmt.integer_bits + 1,
        frac_bits=fmt.fraction_bits,
        quantization=apytypes.QuantizationMode[MODES[task.mode]],
        overflow=apytypes.OverflowMode[OVERFLOW[task.rule]],
    ).to_numpy()


def compute_float(task: Task, arguments: Arguments) -> Any:
    """Cast from float64."""
    import apytypes

    fmt = ps.get_format(task.format)
    assert isinstance(fmt, ps.FloatFormat)
    exact = apytypes.APyFloatArray.from_float(arguments["x"], exp_bits=11, man_bits=52)
    return exact.cast(
        exp_bits=fmt.exponent_bits,
        man_bits=fmt.precision - 1,
        quantization=apytypes.QuantizationMode[MODES[task.mode]],
    ).to_numpy()


FIXED = Adapter(
    package="apytypes", supports=supports_fixed, compute=compute_fixed, inputs=("float64",)
)
FLOAT = Adapter(
    package="apytypes", supports=supports_float, compute=compute_float, inputs=("float64",)
)
