"""The matrix units of AMD's GPUs (MFMA on CDNA1 to CDNA3): one row per machine and operand.

Source: MMA-Sim 2.1.1 (arXiv 2511.10909, `mmasim/amd`), tested there on the machines. Khattak and
Mikaitis, ACM TACO, doi 10.1145/3830409, has the same rules as models.
"""

from dataclasses import replace
from typing import NamedTuple

from precsim.products.specs.grammar import parse_piece, piece
from precsim.products.specs.step_block import ExactBlock, FlooredBlock, PairwiseBlock, StepBlock
from precsim.rounding.modes import SubnormalMode
from precsim.rounding.spec import RoundingSpec


class MatrixUnit(NamedTuple):
    """One instruction of a machine."""

    order: StepBlock
    flushes: bool = False
    """Whether subnormal operands, products and sums become zero."""


_FLUSH = SubnormalMode.FLUSH_AFTER_ROUNDING
_XF32 = RoundingSpec.parse("tf32:rtz")
_FOUR = MatrixUnit(PairwiseBlock(length=4), flushes=True)
_EIGHT = MatrixUnit(FlooredBlock(length=8, fraction_bits=24))
_FP8 = MatrixUnit(FlooredBlock(length=16, fraction_bits=24, parts=2))

CDNA: dict[str, dict[str, MatrixUnit]] = {
    "mi100": {"fp16": MatrixUnit(ExactBlock(length=4)), "bf16": MatrixUnit(ExactBlock(length=2))},
    # The bf16 instructions that end in _1k; the older ones add two products a step.
    "mi250": {"fp16": _FOUR, "bf16": _FOUR},
    "mi300x": {
        "fp16": _EIGHT,
        "bf16": _EIGHT,
        "xf32": MatrixUnit(FlooredBlock(length=4, fraction_bits=24)),
        "e4m3fnuz": _FP8,
        "e5m2fnuz": _FP8,
    },
}
"""Machine -> operand -> instruction; the two fp8 formats of MI300X may be mixed.

Operands of xf32 are float32 numbers, truncated to tf32.
"""


def unit_of(machine: str, names: list[str]) -> MatrixUnit | None:
    """Return the instruction that multiplies formats of these names, None if there is none."""
    units = [CDNA[machine].get(name) for name in names]
    is_mixed = len(set(names)) > 1
    return units[0] if units[0] == units[1] and (not is_mixed or units[0] == _FP8) else None


def operand_of(unit: MatrixUnit, text: str) -> RoundingSpec | None:
    """Return the rounding of an operand of an instruction."""
    if text == "xf32":
        return _XF32
    part = parse_piece(text)
    return replace(part, subnormals=_FLUSH) if unit.flushes and part is not None else part


def operand_name(machine: str, part: RoundingSpec) -> str:
    """Return what stands for an operand in the machine's string."""
    if part == _XF32 and "xf32" in CDNA[machine]:
        return "xf32"
    flushes = any(unit.flushes for unit in CDNA[machine].values())
    if flushes and part.subnormals is _FLUSH:
        part = replace(part, subnormals=SubnormalMode.GRADUAL)
    return piece(part)


def sums_of(unit: MatrixUnit) -> RoundingSpec:
    """Return how an instruction rounds its sums."""
    sums = RoundingSpec.parse("fp32")
    return replace(sums, subnormals=_FLUSH) if unit.flushes else sums
