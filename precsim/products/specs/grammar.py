"""The pieces of a matmul's string: formats with their rounding options in brackets, ``e4m3[rtz]``."""

import re
from itertools import combinations, pairwise

from precsim.formats.registry import short_name
from precsim.rounding.spec import RoundingSpec


def split_outside_brackets(text: str, separator: str) -> list[str]:
    """Split at every separator that is not part of the options of a format."""
    return re.split(rf"{separator}(?![^\[]*\])", text)


def split_operands(text: str, counts: tuple[int, ...]) -> list[str] | None:
    """Split formats at underscores that are not part of their names, into one of `counts` formats.

    The first way in which all are formats, with fewer formats first; else the parts, if there are as many. None
    where neither is.
    """
    parts = split_outside_brackets(text, "_")
    for count in counts:
        for cuts in combinations(range(1, len(parts)), count - 1):
            bounds = [0, *cuts, len(parts)]
            pieces = ["_".join(parts[i:j]) for i, j in pairwise(bounds)]
            if all(map(_is_piece, pieces)):
                return pieces
    return parts if len(parts) in counts else None


def _is_piece(text: str) -> bool:
    try:
        parse_piece(text)
    except ValueError:
        return False
    return True


def parse_piece(text: str) -> RoundingSpec | None:
    """Return the rounding of a piece; None for ``raw``."""
    if text == "raw":
        return None
    match = re.fullmatch(r"([^\[\]]+)(?:\[([^\[\]]*)\])?", text)
    if match is None:
        raise ValueError(f"format {text!r} is not understood; allowed is NAME or NAME[OPTIONS]")
    return RoundingSpec.parse(match[1] if match[2] is None else f"{match[1]}:{match[2]}")


def piece(spec: RoundingSpec | None) -> str:
    """Return the piece of a rounding."""
    if spec is None:
        return "raw"
    _, colon, options = str(spec).partition(":")
    name = short_name(spec.format)
    return f"{name}[{options}]" if colon else name
