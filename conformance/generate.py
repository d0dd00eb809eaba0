"""Every file of vectors, from the exact oracle: the same bytes on every machine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

import precsim as ps
from conformance.inputs import overflow_inputs, rounding_inputs, stochastic_inputs
from conformance.operands import operand_codes
from conformance.vector_file import OPERANDS, VERSION, Task, Vectors, words

MODES = ("rne", "rna", "rnz", "rtz", "raz", "rtp", "rtn", "rto")
TIES = ("rno", "rnp", "rnn")
"""More ways to break ties, which fixed-point libraries have."""
STOCHASTIC = ("sr4:a", "sr4:b", "sr4:c", "sr8:a", "sr8:b", "sr8:c")

_FLOAT = ("infinity", "saturate", "satfinite")
_P3109 = ("satnone", "satpropagate", "satfinite")
RULES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("fp16", "bf16", "tf32", "fp32"), ("infinity", "saturate")),
    **dict.fromkeys(("e4m3", "e5m2", "ieee_e4m3", "ieee_e3m4"), _FLOAT),
    **dict.fromkeys(("e4m3fnuz", "e4m3b11fnuz", "e5m2fnuz"), _FLOAT),
    **dict.fromkeys(("e3m2", "e2m3", "e2m1"), ("saturate",)),
    "e8m0": ("infinity", "saturate"),
    **dict.fromkeys(("binary8p4se", "binary8p3se", "binary6p3ue", "binary5p1uf"), _P3109),
    "binary4p2sf": (*_P3109, "infinity"),
    **dict.fromkeys(("q3.4", "q7.8"), ("saturate", "wrap")),
}
"""Formats, and the overflow rules of each; the first one is precsim's default."""
STOCHASTICALLY = ("fp16", "bf16", "e4m3", "e5m2", "e2m1", "binary8p4se", "q3.4")
OPERATED = ("fp16", "bf16", "e4m3", "e5m2")
OPERATIONS = {name: count for name, count in OPERANDS.items() if name != "round"}
"""Operations, and how many operands they have."""


def files() -> Mapping[str, Callable[[], Vectors]]:
    """Map the name of every file to the function that computes it."""
    rounding = {
        f"round/{fmt}.{rule}.txt": partial(_rounding, fmt, rule)
        for fmt, rules in RULES.items()
        for rule in ("any", *rules)
    }
    stochastic = {
        f"stochastic/{fmt}.txt": partial(_stochastic, fmt, RULES[fmt][0]) for fmt in STOCHASTICALLY
    }
    operations = {
        f"operations/{fmt}.{operation}.txt": partial(_operation, fmt, operation)
        for fmt in OPERATED
        for operation in OPERATIONS
    }
    return rounding | stochastic | operations


def write(folder: Path) -> Iterator[str]:
    """Write every file, and yield its name."""
    for name, compute in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(compute().text(), encoding="ascii", newline="\n")
        yield name


def _rounding(fmt: str, rule: str) -> Vectors:
    x = (rounding_inputs if rule == "any" else overflow_inputs)(ps.get_format(fmt))
    modes = MODES + TIES if isinstance(ps.get_format(fmt), ps.FixedPointFormat) else MODES
    specs = {mode: Task(operation="round", format=fmt, rule=rule, mode=mode).spec for mode in modes}
    results = {
        mode: _words([ps.oracle.round_exact(value, spec) for value in x], fmt)
        for mode, spec in specs.items()
    }
    return _vectors("round", fmt, rule, {"x": _float_words(x)}, results)


def _stochastic(fmt: str, rule: str) -> Vectors:
    pairs = stochastic_inputs(ps.get_format(fmt))
    results = {}
    for mode in STOCHASTIC:
        spec = Task(operation="round", format=fmt, rule=rule, mode=mode).spec
        results[mode] = _words(
            [ps.oracle.round_exact(x, spec, random_bits=r) for x, r in pairs], fmt
        )
    arguments = {
        "x": _float_words([x for x, _ in pairs]),
        "random_bits": tuple(f"{r:02x}" for _, r in pairs),
    }
    return _vectors("round", fmt, rule, arguments, results)


def _operation(fmt: str, operation: str) -> Vectors:
    codes, results = operand_codes(operation, OPERATIONS[operation], fmt, MODES)
    digits = (ps.get_format(fmt).width or 0) // 4
    arguments = {
        name: tuple(f"{code:0{digits}x}" for code in column)
        for name, column in zip("xyz", zip(*codes, strict=True), strict=False)
    }
    rounded = {mode: _words(column, fmt) for mode, column in results.items()}
    return _vectors(operation, fmt, "infinity", arguments, rounded)


def _words(results: Sequence[tuple[float, ps.oracle.Flags]], fmt: str) -> tuple[str, ...]:
    return words([value for value, _ in results], [flags for _, flags in results], fmt)


def _float_words(values: Sequence[float]) -> tuple[str, ...]:
    return tuple(f"{bits:016x}" for bits in np.array(values).view(np.uint64).tolist())


def _vectors(
    operation: str,
    fmt: str,
    rule: str,
    arguments: dict[str, tuple[str, ...]],
    results: dict[str, tuple[str, ...]],
) -> Vectors:
    facts = {
        "conformance": VERSION,
        "operation": operation,
        "format": fmt,
        "rule": rule,
        "arguments": "float64" if operation == "round" else "codes",
        **_described(ps.get_format(fmt)),
        "cases": str(len(arguments["x"])),
    }
    return Vectors(facts=facts, arguments=arguments, results=results)


def _described(fmt: ps.FloatFormat | ps.FixedPointFormat) -> dict[str, str]:
    """Return the definition of a format, complete enough to build it from."""
    facts: dict[str, object] = {"source": fmt.source, "width": fmt.width, "signed": fmt.is_signed}
    if isinstance(fmt, ps.FixedPointFormat):
        facts |= {"kind": "fixed", "fraction_bits": fmt.fraction_bits}
    else:
        facts |= {
            "kind": "float",
            "precision": fmt.precision,
            "exponent_bits": fmt.exponent_bits,
            "bias": fmt.bias,
            "specials": fmt.specials,
            "subnormals": fmt.has_subnormals,
            "negative_zero": fmt.has_negative_zero,
            "max_finite": repr(fmt.max_finite),
            "min_normal": repr(fmt.min_normal),
        }
    names = {True: "yes", False: "no"}
    return {
        key: names[value] if isinstance(value, bool) else str(value) for key, value in facts.items()
    }
