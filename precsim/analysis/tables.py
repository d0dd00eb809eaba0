"""Tables of results: columns of text, HTML for notebooks, JSON without NaN."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from precsim.formats import notebook


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return aligned columns; those of which every cell is a number stand to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    table = [list(header), *cells]
    widths = [max(len(row[n]) for row in table) for n in range(len(header))]
    is_right = _are_numbers(len(header), rows)
    return "\n".join(
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, is_right, strict=True)
        ).rstrip()
        for row in table
    )


def html_table(summary: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a paragraph and a table for a notebook; numbers stand to the right."""
    is_right = _are_numbers(len(header), rows)
    numeric = [name for name, right in zip(header, is_right, strict=True) if right]
    cells = ([_cell(value) for value in row] for row in rows)
    table = notebook.table(header, cells, numeric=numeric)
    return notebook.fragment(notebook.paragraph(summary), table)


def json_text(content: Any) -> str:
    """Return JSON of numbers, arrays, strings and containers; NaN and infinity become null."""
    return json.dumps(_plain(content), indent=1, allow_nan=False)


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    if isinstance(content, np.ndarray):
        return _plain(content.tolist())
    if isinstance(content, np.generic):
        return _plain(content.item())
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _are_numbers(columns: int, rows: Sequence[Sequence[object]]) -> list[bool]:
    """Return whether every cell of a column is a number."""
    return [bool(rows) and all(_is_number(row[n]) for row in rows) for n in range(columns)]


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)
