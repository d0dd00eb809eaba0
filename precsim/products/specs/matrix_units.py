"""The matrix and dot-product units of AMD, Intel and Arm: one row per machine and operand.

Sources: for AMD's MFMA (CDNA1 to CDNA3) MMA-Sim 2.1.1 (arXiv 2511.10909, `mmasim/amd`), tested
there on the machines; Khattak and Mikaitis, ACM TACO, doi 10.1145/3830409, has the same rules as
models. For x86 the operations of VDPBF16PS, TDPBF16PS and TDPFP16PS in the Intel 64 and IA-32
Architectures Software Developer's Manual, volume 2; VDPBF16PS was compared with an AMD EPYC of
family 26 (conformance/processor.py). For Arm BFDotAdd, BFMulH, BFRound and FPDot in the shared
pseudocode of the Arm Architecture Reference Manual for A-profile (DDI 0487).
"""

from dataclasses import replace
from typing import NamedTuple

from precsim.products.specs.grammar import parse_piece, piece
from precsim.products.specs.step_block import (
    DescendingBlock,
    DotBlock,
    EvenOddBlock,
    ExactBlock,
    FlooredBlock,
    PairwiseBlock,
    StepBlock,
)
from precsim.rounding.modes import SubnormalMode
from precsim.rounding.spec import RoundingSpec


class MatrixUnit(NamedTuple):
    """One instruction of a machine."""

    order: StepBlock
    sums: str = "fp32"
    product: str | None = None
    operands: SubnormalMode = SubnormalMode.GRADUAL
    """What becomes of subnormal operands."""


_XF32 = RoundingSpec.parse("tf32:rtz")
_CDNA2 = "fp32:flush_after_rounding"
_FOUR = MatrixUnit(PairwiseBlock(length=4), _CDNA2, _CDNA2, SubnormalMode.FLUSH_AFTER_ROUNDING)
_EIGHT = MatrixUnit(FlooredBlock(length=8, fraction_bits=24))
_FP8 = MatrixUnit(FlooredBlock(length=16, fraction_bits=24, parts=2))
# Conversions to bf16 take subnormal float32 numbers for zeros on x86 (VCVTNEPS2BF16), and round to
# subnormals on Arm (BFCVT), where the product flushes them.
_DAZ, _X86 = SubnormalMode.FLUSH_BEFORE_ROUNDING, "fp32:flush_tiny"
_ODD = "fp32:rto:flush_before_rounding"

MATRIX_UNITS: dict[str, dict[str, MatrixUnit]] = {
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
    "avx512": {"bf16": MatrixUnit(DescendingBlock(length=2), _X86, operands=_DAZ)},
    "amx": {
        "bf16": MatrixUnit(EvenOddBlock(length=32), _X86, operands=_DAZ),
        "fp16": MatrixUnit(EvenOddBlock(length=32), _X86),
    },
    "arm": {"bf16": MatrixUnit(DotBlock(), _ODD, _ODD, SubnormalMode.FLUSH_AFTER_ROUNDING)},
    # FPCR.EBF = 1; FPCR's other bits as after a reset: to nearest, with subnormals.
    "arm_ebf16": {"bf16": MatrixUnit(DotBlock())},
}
"""Machine -> operand -> instruction; the two fp8 formats of MI300X may be mixed.

Operands of xf32 are float32 numbers, truncated to tf32.
"""

UNDECIDED = {
    "tpu": "public prints decide that operands are rounded to bf16 and sums to float32, but no order "
    "of the sums; allowed is an order of your own, for example 'bf16_bf16_fp32:sequential'",
}
"""Machines that someone may ask for, and why they are not here."""


def unit_of(machine: str, names: list[str]) -> MatrixUnit | None:
    """Return the instruction that multiplies formats of these names, None if there is none."""
    units = [MATRIX_UNITS[machine].get(name) for name in names]
    is_mixed = len(set(names)) > 1
    return units[0] if units[0] == units[1] and (not is_mixed or units[0] == _FP8) else None


def operand_of(unit: MatrixUnit, text: str) -> RoundingSpec | None:
    """Return the rounding of an operand of an instruction."""
    if text == "xf32":
        return _XF32
    part = parse_piece(text)
    if part is None or unit.operands is SubnormalMode.GRADUAL:
        return part
    return replace(part, subnormals=unit.operands)


def operand_name(machine: str, part: RoundingSpec) -> str:
    """Return what stands for an operand in the machine's string."""
    if part == _XF32 and "xf32" in MATRIX_UNITS[machine]:
        return "xf32"
    bare = replace(part, subnormals=SubnormalMode.GRADUAL)
    unit = MATRIX_UNITS[machine].get(piece(bare).partition("[")[0])
    return piece(bare if unit is not None and part.subnormals is unit.operands else part)
