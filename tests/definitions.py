"""What the definitions of precsim return, as strings: read by `test_bare_python.py`.

Run as a program, it refuses every package that is not of Python itself, and prints the results.
"""

import enum
import io
import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from fractions import Fraction
from itertools import islice, product
from pathlib import Path
from typing import Any
from unittest import mock

HERE = Path(__file__).resolve().parent


class Refused:
    """Finder of modules that refuses all that is neither Python's own nor precsim's."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "precsim"}:
            raise ModuleNotFoundError(f"{name} is refused here", name=name)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    sys.meta_path.insert(0, Refused())

import precsim as ps
from precsim import oracle
from precsim.cli.main import main
from precsim.products.specs.machines import MACHINES
from precsim.products.specs.matrix_units import MATRIX_UNITS

NAMES = ps.list_formats()
NUMBERS = [
    name
    for name in NAMES
    if name in {*ps.list_formats(kind="float"), *ps.list_formats(kind="fixed")}
]
MORE = (
    "float(e=6,p=3)",
    "float(e=inf,p=5)",
    "binary6p3uf",
    "q-2.6",
    "uq9.-3",
    "mxfp4_rceil",
    "int4_channel",
)

FRACTIONS = [Fraction(n, d) for n in (1, 3, 465, 70_001) for d in (1, 3, 2**9, 2**20)]
SPECIAL = [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e300, 5e-324, 2**70]
REALS: list[Any] = [*FRACTIONS, *(-x for x in FRACTIONS), *SPECIAL]

ROUNDED = ("e4m3", "e2m1", "e8m0", "q3.4", "binary6p3se", "float(e=inf,p=3)")
OPTIONS = ("", ":saturate", ":flush_after_rounding", ":wrap", ":satfinite")
ROUNDING_STRINGS = ("e4m3:rtz:saturate", "bf16:sr8", "q3.4:trn_zero:sat_sym", "e2m1:ml_dtypes")
MATMULS = (
    "e4m3_e4m3_fp16:sequential",
    "bf16_bf16_fp32->bf16",
    "q3.8_q3.8_fp32->q3.8[sr]",
    "e5m2_e5m2_fp32[rtz]:kahan:product=fp32",
    "fp16_fp16_fp16:blocked8:adder=fp32",
    "bf16_bf16_fp32[sr]:fused16x25@-133:promote128",
    "fp16_fp16_fp32:fused4x23+sticky:splitk2x64+residue16",
)
OPERANDS = ("fp16", "bf16", "tf32", "e4m3", "e4m3_e5m2", "mxfp8_e4m3", "mxfp4", "nvfp4")
SCHEDULES = ("", ":acc=fp16", ":promote64", ":splitk2x64", ":residue64", ":mma")


SHOWN = (
    "0.1",
    "1/3 fp16 e4m3:rtz:saturate bf16:sr8",
    "-nan e5m2 e2m1 q3.4 float(e=inf,p=5)",
    "2**-24 fp16 --json",
    "0.1 mxfp4 nvfp4 int8 binary8p4se",
    "--code 0x3c00 fp16",
    "mxfp8",
    "q3.12",
    "int4",
)

WALKED = (
    ("0.1 + 0.2", "fp16"),
    ("sqrt(1/3) - -7e5", "e4m3:rtz"),
    ("kahan([2048, 1, 1, 1])", "fp16"),
    ("pairwise([0.1, 0.2, 0.3])", "bf16:sr8"),
    ("dot([1, 2**12], [0.3, 2**12], c=1)", "h100:fp16"),
    ("dot([1, 2], [0.3, 4], b200:nvfp4)", "fp32"),
    ("9**9**9", "fp32"),
)


def text(value: Any) -> str:
    """Write a result: floats exactly, the sign of NaN too."""
    if isinstance(value, float):
        return "-nan" if math.isnan(value) and math.copysign(1, value) < 0 else value.hex()
    if isinstance(value, tuple):
        return " ".join(map(text, value))
    return value.name or "" if isinstance(value, enum.Enum) else str(value)


def outcome(function: Any, *arguments: Any, **options: Any) -> str:
    """Call a function; an error counts as its result."""
    try:
        return text(function(*arguments, **options))
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def properties(name: str) -> dict[str, str]:
    fmt = ps.get_format(name)
    public = [key for key in dir(fmt) if not key.startswith("_")]
    values = {key: outcome(getattr, fmt, key) for key in public}
    return {key: value for key, value in values.items() if not value.startswith("<")}


def machines() -> Iterator[str]:
    """Name every product that a machine has."""
    for machine, operand, schedule in product((*MACHINES, *MATRIX_UNITS), OPERANDS, SCHEDULES):
        try:
            ps.MatmulSpec.parse(name := f"{machine}:{operand}{schedule}")
        except ValueError:
            continue
        yield name


def fused(spec: str) -> str:
    """Sum 70 products of numbers of few bits; much of them is cut off beside 2**15."""
    a = [(1 + k % 3 / 2) * 2.0 ** (k * 7 % 5 - 2) * (-1) ** (k // 3) for k in range(70)]
    call = oracle.fused_dot_exact
    firsts = (0.0,) if ps.MatmulSpec.parse(spec).scales_sums else (1.5, 2.0**15)
    return " ".join(outcome(call, a, a[::-1], c, spec, random_bits=7) for c in firsts)


def shown(arguments: str) -> str:
    """Return what `precsim show` prints on 80 columns."""
    with mock.patch.dict(os.environ, {"COLUMNS": "80"}), redirect_stdout(io.StringIO()) as printed:
        status = main(["show", *arguments.split()])
    return f"{status}\n{printed.getvalue()}"


def results() -> dict[str, Any]:
    """Return everything that a class on number formats needs."""
    codes = {}
    for name in NUMBERS:
        width = ps.get_format(name).width or 0
        values = [oracle.decode_exact(code, name) for code in islice(range(1 << width), 256)]
        back = [outcome(oracle.encode_exact, value, name) for value in values]
        codes[name] = [f"{text(value)} {code}" for value, code in zip(values, back, strict=True)]
    specs = [
        f"{fmt}:{mode}{option}" for fmt, mode, option in product(ROUNDED, ps.RoundingMode, OPTIONS)
    ]
    operations = {
        "reciprocal": 1,
        "sqrt": 1,
        "add": 2,
        "subtract": 2,
        "multiply": 2,
        "divide": 2,
        "fma": 3,
    }
    few = [Fraction(1, 3), -2, 448.0, *SPECIAL[:6]]
    return {
        "formats": {name: properties(name) for name in (*NAMES, *MORE)},
        "codes": codes,
        "roundings": {
            spec: [outcome(oracle.round_exact, x, spec, random_bits=5) for x in REALS]
            for spec in specs
        },
        "ulps": {name: [outcome(oracle.ulp_exact, x, name) for x in REALS] for name in NUMBERS},
        "operations": {
            f"{operation} {spec}": [
                outcome(oracle.compute_exact, operation, *x, spec=spec)
                for x in product(few, repeat=arity)
            ]
            for operation, arity in operations.items()
            for spec in ("e4m3", "fp16:rtn", "q3.4:wrap")
        },
        "products": {spec: fused(spec) for spec in (*machines(), *MATMULS)},
        "show": {arguments: shown(arguments) for arguments in SHOWN},
        "walks": {f"{given} {spec}": outcome(ps.walk, given, spec) for given, spec in WALKED},
        "strings": [
            str(parse(str(parse(given))))
            for parse, strings in (
                (ps.RoundingSpec.parse, (*ROUNDING_STRINGS, *NAMES)),
                (ps.MatmulSpec.parse, MATMULS),
            )
            for given in strings
        ],
        "errors": [
            outcome(ps.get_format, "fp15"),
            outcome(ps.get_format, float),
            outcome(ps.get_format, int),
            outcome(oracle.round_exact, "x", "fp16"),
            outcome(ps.MatmulSpec.parse, "h100:bf61"),
        ],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(results()))
