"""The strings of machines, and the tensor cores of NVIDIA's GPUs: one row per kind of operand.

Sources: MMA-Sim (arXiv 2511.10909 v2, parameter table); Khattak and Mikaitis, ACM TACO, doi
10.1145/3830409 (recorded outputs of V100, A100, Ada, H100 and B200, with which these rows were
compared).
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from precsim.formats.arguments import nearest, shown
from precsim.formats.block import BlockFormat
from precsim.products.specs.fused_block import (
    FLAT,
    FusedBlock,
    PairInterleaved,
    Schedule,
    parse_schedule,
)
from precsim.products.specs.grammar import (
    parse_piece,
    piece,
    split_operands,
    split_outside_brackets,
)
from precsim.products.specs.matrix_units import (
    MATRIX_UNITS,
    UNDECIDED,
    operand_name,
    operand_of,
    unit_of,
)
from precsim.products.specs.step_block import StepBlock
from precsim.rounding.spec import RoundingSpec


class Instruction(NamedTuple):
    """One instruction of a machine."""

    length: int
    fraction_bits: int
    accumulators: tuple[str, ...]
    """The first is the default. `float(e=8,p=14)` is float32 with 13 fraction bits."""
    group: int = 1
    """Products that are added exactly before they meet their scales."""
    zero_exponent: int | None = None
    """Exponent of a zero term, where it is not the rule's."""


_FP32, _FP16, _FP22 = "fp32", "fp16", "float(e=8,p=14)"
_HALF = (_FP32, _FP16)

MACHINES: dict[str, dict[str, Instruction]] = {
    "v100": {"fp16": Instruction(4, 23, _HALF)},
    "t4": {"fp16": Instruction(8, 24, _HALF)},
    "a100": {
        "fp16": Instruction(8, 24, _HALF),
        "bf16": Instruction(8, 24, (_FP32,)),
        "tf32": Instruction(4, 24, (_FP32,)),
    },
    "ada": {
        "fp16": Instruction(8, 24, _HALF),
        "bf16": Instruction(8, 24, (_FP32,)),
        "tf32": Instruction(4, 24, (_FP32,)),
        "fp8": Instruction(16, 13, (_FP22, _FP16)),
    },
    "h100": {
        "fp16": Instruction(16, 25, _HALF),
        "bf16": Instruction(16, 25, (_FP32,)),
        "tf32": Instruction(8, 25, (_FP32,)),
        "fp8": Instruction(32, 13, (_FP22, _FP16)),
    },
    "b200": {
        "fp16": Instruction(16, 25, _HALF),
        "bf16": Instruction(16, 25, (_FP32,)),
        "tf32": Instruction(8, 25, (_FP32,)),
        "fp8": Instruction(32, 25, _HALF),
    },
}
"""Machine -> kind of operand -> instruction.

"fp8" is any mix of e4m3 and e5m2, on b200 also of e3m2, e2m3 and e2m1.
"""

SAME = {"h200": "h100"}
"""Machine -> the one whose tensor cores have the same bits (`python -m conformance.silicon`)."""

NAMES = (*MACHINES, *SAME, *MATRIX_UNITS)
"""Every machine that a string may start with."""

BLOCK_INSTRUCTIONS: dict[str, Instruction] = {
    "mx": Instruction(32, 25, (_FP32,)),
    "mxfp4": Instruction(64, 35, (_FP32,), group=16, zero_exponent=-139),
    "nvfp4": Instruction(64, 35, (_FP32,), group=16, zero_exponent=-139),
}
"""Blackwell's block-scaled instructions (b200).

There is one for any mix of MXFP8, 6 and 4, one for MXFP4 alone, one for NVFP4 alone.
"""

# FP8 through mma.sync: converted to fp16 and sent through that unit (Hopper, Blackwell).
_MMA = Instruction(16, 25, _HALF)
_MMA_MACHINES = ("h100", "b200")
_FP8 = ("e4m3", "e5m2")
_NARROWER = ("e3m2", "e2m3", "e2m1")
_BLOCK_MACHINE = "b200"
_BLOCK_OPERANDS = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4", "nvfp4")
_TF32 = RoundingSpec.parse("tf32:rtz")


def list_machines() -> tuple[str, ...]:
    """Return the products of all machines, as specs of two equal operands.

    Returns
    -------
    tuple of str
        Specs, machine by machine. One that names an accumulator follows that without a name. Pairs
        of different operands, outputs and schedules are not listed. Nor is "h200", another name of
        "h100".

    Notes
    -----
    Machines with the same arithmetic share one canonical string, that of the spec: of "t4:fp16" it
    is "ada:fp16".

    Examples
    --------
    >>> import precsim as ps
    >>> ps.list_machines()[:3], "mi300x:e4m3fnuz" in ps.list_machines()
    (('v100:fp16', 'v100:fp16:acc=fp16', 't4:fp16'), True)
    """
    names = []
    for machine, table in MACHINES.items():
        for kind, instruction in table.items():
            endings = ["", *(f":acc={name}" for name in instruction.accumulators[1:])]
            names += [
                f"{machine}:{operand}{ending}"
                for operand in _of_kind(machine, kind)
                for ending in endings
            ]
    names += [f"{_BLOCK_MACHINE}:{operand}" for operand in _BLOCK_OPERANDS]
    return (*names, *(f"{machine}:{x}" for machine, table in MATRIX_UNITS.items() for x in table))


def parse_machine(text: str) -> dict[str, object] | None:
    """Return the fields of ``MACHINE:LHS[_RHS][->OUTPUT][:acc=fp16][:SCHEDULE]``.

    None for anything that does not start with a machine.
    """
    name, colon, rest = text.partition(":")
    if colon and name in UNDECIDED:
        raise ValueError(f"{name} is no machine of a matmul spec: {UNDECIDED[name]}")
    if name not in NAMES:
        return None
    given, name = name, SAME.get(name, name)
    head, *options = split_outside_brackets(rest, ":")
    operands, _, output = head.partition("->")
    pieces = split_operands(operands, (1, 2)) or []
    if not operands:
        raise ValueError(f"{shown(text)} names no operand; those of {given} are {_listed(name)}")
    if not pieces or not all(pieces):
        raise ValueError(
            f"{shown(text)} is not understood; allowed is MACHINE:LHS[_RHS][->OUTPUT][:acc=fp16][:SCHEDULE], for "
            "example 'h100:bf16' or 'h100:e4m3_e5m2:promote128'"
        )
    lhs, rhs = (pieces * 2)[:2]
    schedule: Schedule = FLAT
    accumulator = None
    for option in options:
        key, equals, value = option.partition("=")
        if equals and key == "acc":
            accumulator = value
        else:
            schedule = parse_schedule(option)
    if name in MATRIX_UNITS:
        fields = _matrix_unit(name, lhs, rhs, schedule, accumulator, text)
        return fields | ({"output": parse_piece(output)} if output else {})
    instruction = _instruction(name, lhs, rhs, schedule, text)
    accumulator = accumulator or instruction.accumulators[0]
    if accumulator not in instruction.accumulators:
        allowed = ", ".join(instruction.accumulators)
        raise ValueError(
            f"{given} has no accumulator {shown(accumulator)} for {shown(operands)}; allowed are {allowed}"
        )
    is_half = accumulator == _FP16
    # The exponent of a zero term: 5 below the smallest normal one, and lower with more fraction
    # bits.
    zero = (-14 if is_half else -126) - 5 - max(instruction.fraction_bits - 23, 0)
    zero = zero if instruction.zero_exponent is None else instruction.zero_exponent
    fields = {
        "lhs": _operand(lhs),
        "rhs": _operand(rhs),
        "accumulator": RoundingSpec.parse(accumulator if is_half else f"{accumulator}:rtz"),
        "order": FusedBlock(
            length=instruction.length,
            fraction_bits=instruction.fraction_bits,
            zero_exponent=zero,
            schedule=schedule,
            group=instruction.group,
        ),
    }
    if output:
        fields["output"] = parse_piece(output)
    return fields


def _matrix_unit(
    machine: str, lhs: str, rhs: str, schedule: Schedule, accumulator: str | None, text: str
) -> dict[str, object]:
    """Return the fields of a product of a machine of `MATRIX_UNITS`."""
    pieces = lhs, rhs
    unit = unit_of(machine, [_bare(piece) for piece in pieces])
    if unit is None:
        raise _no_product(machine, [_bare(piece) for piece in pieces], text)
    if schedule == PairInterleaved():
        raise _not_by_mma(text)
    if accumulator not in (None, _FP32):
        raise ValueError(
            f"{machine} has no accumulator {shown(accumulator)} for {shown(text)}; allowed is {_FP32}"
        )
    return {
        "lhs": operand_of(unit, lhs),
        "rhs": operand_of(unit, rhs),
        "accumulator": RoundingSpec.parse(unit.sums),
        "product": None if unit.product is None else RoundingSpec.parse(unit.product),
        "order": replace(unit.order, schedule=schedule),
    }


def _bare(piece: str) -> str:
    return re.sub(r"\[.*", "", piece)


def _instruction(machine: str, lhs: str, rhs: str, schedule: Schedule, text: str) -> Instruction:
    names = [_bare(piece) for piece in (lhs, rhs)]
    by_mma = schedule == PairInterleaved()
    if machine == _BLOCK_MACHINE and (instruction := _block_instruction(names)) is not None:
        if by_mma:
            raise _not_by_mma(text)
        return instruction
    kinds = {"fp8" if name in _narrow(machine) else name for name in names}
    table = MACHINES[machine]
    kind = kinds.pop()
    if kinds or kind not in table or "fp8" in names:
        raise _no_product(machine, names, text)
    if not by_mma:
        return table[kind]
    if not set(names) <= set(_FP8) or machine not in _MMA_MACHINES:
        raise _not_by_mma(text)
    return _MMA


def _narrow(machine: str) -> tuple[str, ...]:
    return _FP8 + (_NARROWER if machine == _BLOCK_MACHINE else ())


def _of_kind(machine: str, kind: str) -> tuple[str, ...]:
    return _narrow(machine) if kind == "fp8" else (kind,)


def _operands(machine: str) -> list[str]:
    """Return the names of a machine's operands."""
    if machine in MATRIX_UNITS:
        return list(MATRIX_UNITS[machine])
    kinds = [_of_kind(machine, kind) for kind in MACHINES[machine]]
    blocks = _BLOCK_OPERANDS if machine == _BLOCK_MACHINE else ()
    return [*(name for names in kinds for name in names), *blocks]


def _listed(machine: str) -> str:
    return ", ".join(_operands(machine))


def _no_product(machine: str, names: list[str], text: str) -> ValueError:
    """Return the error for operands that a machine does not multiply."""
    given = text.partition(":")[0]
    near = nearest(names[0], _operands(machine)) if len(set(names)) == 1 else None
    hint = f"; did you mean {near!r}?" if near else ""
    return ValueError(
        f"{given} has no product {shown(text)}; its operands are {_listed(machine)}{hint}"
    )


def _not_by_mma(text: str) -> ValueError:
    machines = ", ".join(_MMA_MACHINES)
    return ValueError(f"schedule 'mma' is for fp8 operands of {machines}, not {shown(text)}")


def _block_instruction(names: list[str]) -> Instruction | None:
    """Return the instruction that multiplies two block formats, None if there is none."""
    kinds = {block_kind(name) for name in names}
    if kinds == {"mx", "mxfp4"}:
        return BLOCK_INSTRUCTIONS["mx"]
    return BLOCK_INSTRUCTIONS.get(kinds.pop() or "") if len(kinds) == 1 else None


def block_kind(name: str) -> str | None:
    """Return "mx", "mxfp4" or "nvfp4" by element, scale and block size; any scale rule will do."""
    try:
        fmt = RoundingSpec.parse(name).format
    except ValueError:
        return None
    if not isinstance(fmt, BlockFormat) or fmt.across > 1:
        return None
    element, scale = str(fmt.element), str(fmt.scale)
    match scale, fmt.block_size:
        case "e8m0", 32 if element == "e2m1":
            return "mxfp4"
        case "e8m0", 32 if element in (*_FP8, *_NARROWER):
            return "mx"
        case "e4m3", 16 if element == "e2m1":
            return "nvfp4"
        case _:
            return None


def _operand(text: str) -> RoundingSpec | None:
    """Return the rounding of an operand; tf32 truncates float32 unless the text says otherwise."""
    return _TF32 if text == "tf32" else parse_piece(text)


def _operand_name(part: RoundingSpec, machine: str) -> str:
    """Return what stands for an operand in a machine's string."""
    if machine not in MATRIX_UNITS:
        return "tf32" if part == _TF32 else piece(part)
    return operand_name(machine, part)


def machine_name(fields: Mapping[str, object]) -> str | None:
    """Return the machine's string for these fields of a `MatmulSpec`, None if there is none."""
    lhs, rhs, output, order = (fields[name] for name in ("lhs", "rhs", "output", "order"))
    if not (
        isinstance(order, FusedBlock | StepBlock)
        and isinstance(lhs, RoundingSpec)
        and isinstance(rhs, RoundingSpec)
    ):
        return None
    if isinstance(order, FusedBlock):
        machines = [
            f"{machine}:{{}}{accumulator}"
            for machine in ("h100", "b200", "ada", "a100", "t4", "v100")
            for accumulator in ("", ":acc=fp16")
        ]
    else:
        machines = [f"{machine}:{{}}" for machine in MATRIX_UNITS]
    schedule = "" if order.schedule == FLAT else f":{order.schedule}"
    suffix = f"->{piece(output)}" if isinstance(output, RoundingSpec) else ""
    for machine in machines:
        operands = [_operand_name(part, machine.partition(":")[0]) for part in (lhs, rhs)]
        head = operands[0] if operands[0] == operands[1] else "_".join(operands)
        text = f"{machine.format(head + suffix)}{schedule}"
        try:
            found = parse_machine(text) or {}
        except ValueError:
            continue  # a machine that does not have it
        if all(fields[name] == value for name, value in found.items()):
            return text
    return None
