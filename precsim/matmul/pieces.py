"""The pieces of a matmul's string: formats with their rounding options in brackets, ``e4m3[rtz]``."""

import re

from precsim.formats.registry import short_name
from precsim.rounding.spec import RoundingSpec


def split_outside_brackets(text: str, separator: str) -> list[str]:
    """Split at every separator that is not part of the options of a format."""
    return re.split(rf"{separator}(?![^\[]*\])", text)


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
