"""What someone may have meant by a matmul's string that is not understood."""

import difflib
from collections.abc import Iterator

from precsim.products.specs.grammar import split_outside_brackets
from precsim.products.specs.machines import MACHINES, block_kind
from precsim.products.specs.matrix_units import MATRIX_UNITS


def likely_spellings(text: str) -> Iterator[str]:
    """Yield strings near a text, the likeliest first; not all of them need to be understood."""
    name, colon, rest = text.partition(":")
    near = difflib.get_close_matches(name.lower(), [*MACHINES, *MATRIX_UNITS], n=1)
    if colon and near:
        yield f"{near[0]}:{rest}"
    operands = split_outside_brackets(text, ":")[0].partition("->")[0]
    rest = text[len(operands) :]
    parts = split_outside_brackets(operands, "_")
    if len(parts) > 2:
        return
    if parts[0].lower() in MACHINES and len(parts) == 2:
        yield f"{parts[0].lower()}:{parts[1]}{rest}"
    if block_kind(operands) is not None:
        yield f"b200:{operands}{rest}"
    if len(parts) == 2:
        yield f"{operands}_fp32{rest}"
    for accumulator in ("fp32", operands):
        yield f"{operands}_{operands}_{accumulator}{rest}"
