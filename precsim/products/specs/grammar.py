"""The pieces of a matmul's string: formats with rounding options in brackets, ``e4m3[rtz]``."""

import re
from functools import cache
from itertools import combinations, pairwise

from precsim.formats.arguments import shown
from precsim.formats.block import BlockFormat
from precsim.formats.registry import list_formats, short_name
from precsim.products.specs.scaling import parse_register
from precsim.rounding.spec import RoundingSpec

_LONGEST_NAME = 6
"""Parts of a format's name between underscores: ``mxfp8_e4m3_transformer_engine`` has four."""
_WITH_ACCUMULATOR = 3
"""Formats of a product: both operands, and the accumulator."""


def split_outside_brackets(text: str, separator: str, brackets: str = "[]") -> list[str]:
    """Split at every separator whose next bracket, of each of the pairs, does not close.

    One pass: a search for that bracket from each separator takes minutes for a hostile text.
    """
    opened = dict(zip(brackets[::2], brackets[1::2], strict=True))
    parts: list[str] = []
    inside: set[str] = set()
    end = len(text)
    for at in range(end - 1, -1, -1):
        letter = text[at]
        if letter == separator and not inside:
            parts.append(text[at + 1 : end])
            end = at
        elif letter in opened:
            inside.discard(opened[letter])
        elif letter in brackets:
            inside.add(letter)
    return [*parts, text[:end]][::-1]


def split_operands(text: str, counts: tuple[int, ...]) -> list[str] | None:
    """Split formats at underscores that are not part of their names, into one of `counts` formats.

    Return the first way in which all are formats, with fewer formats first. A third format is an
    accumulator, which no block format can be: ``mxfp8_e5m2_mxfp8_e5m2`` has three formats in two
    ways, and the second is meant. Else return the parts, if one of `counts` is their number; else
    None.
    """
    parts = split_outside_brackets(text, "_")
    if len(parts) > _LONGEST_NAME * max(counts):
        longest = max(name.count("_") + 1 for name in list_formats())
        if len(parts) > longest * max(counts):
            return None
    is_piece = cache(_is_piece)  # most pieces occur in several ways, and a refusal takes long
    ways = []
    for count in counts:
        for cuts in combinations(range(1, len(parts)), count - 1):
            bounds = [0, *cuts, len(parts)]
            pieces = ["_".join(parts[i:j]) for i, j in pairwise(bounds)]
            if all(map(is_piece, pieces)):
                if count < _WITH_ACCUMULATOR or not _is_block(pieces[-1]):
                    return pieces
                ways.append(pieces)
    return ways[0] if ways else parts if len(parts) in counts else None


def _is_piece(text: str) -> bool:
    try:
        parse_accumulator(text)
    except ValueError:
        return False
    return True


def _is_block(text: str) -> bool:
    found = parse_accumulator(text)
    return isinstance(found, RoundingSpec) and isinstance(found.format, BlockFormat)


def parse_piece(text: str) -> RoundingSpec | None:
    """Return the rounding of a piece; None for ``raw``."""
    if text == "raw":
        return None
    match = re.fullmatch(r"([^\[\]]+)(?:\[([^\[\]]*)\])?", text)
    if match is None:
        raise ValueError(
            f"format {shown(text)} is not understood; allowed is NAME or NAME[OPTIONS]"
        )
    return RoundingSpec.parse(match[1] if match[2] is None else f"{match[1]}:{match[2]}")


def parse_accumulator(text: str) -> RoundingSpec | str | None:
    """Return the rounding of an accumulator; of a register of integers its string."""
    register = text.replace("[", ":").removesuffix("]")
    return parse_piece(text) if parse_register(register) is None else register


def piece(spec: RoundingSpec | None) -> str:
    """Return the piece of a rounding."""
    if spec is None:
        return "raw"
    _, colon, options = str(spec).partition(":")
    name = short_name(spec.format)
    return f"{name}[{options}]" if colon else name
