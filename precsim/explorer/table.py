"""The table of the codes of a format."""

import re
from typing import Any

from precsim.explorer import asked as read
from precsim.explorer.asked import Asked
from precsim.explorer.bits import facts, size
from precsim.explorer.said import coded
from precsim.formats.arguments import shown
from precsim.formats.fields import fields_of
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.numbers import Format
from precsim.formats.written import exact_decimal

WIDEST = 16
"""Bits of a format whose codes are listed."""
ROWS = 256
"""Codes of one page of the table."""


def table(asked: Asked) -> dict[str, Any]:
    """List codes of a format: all of a small one, a page of a larger one."""
    fmt = read.number_format(asked)
    width = fmt.width or 0
    if width > WIDEST:
        raise ValueError(f"format {fmt} has {width} bits; allowed for a table are at most {WIDEST}")
    first = _first(asked, 1 << width)
    last = min(first + ROWS, 1 << width)
    named = _named_values(fmt)
    rows = [coded(code, fmt) for code in range(first, last)]
    for row in rows:
        row["name"] = named.get(row["value"], "")
        row["binary"] = "".join(field["bits"] for field in row["fields"])
    before = max(first - ROWS, 0) if first else None
    after = last if last < 1 << width else None
    return {
        "rows": rows,
        "names": [field.name for field in fields_of(0, fmt)],
        "size": size(fmt),
        "facts": facts(fmt),
        "before": before,
        "after": after,
        "count": 1 << width,
    }


def _first(asked: Asked, count: int) -> int:
    """Return the first code that is listed: 0 where the format has fewer."""
    digits = read.text({"first": "0", **asked}, "first")
    if not re.fullmatch(r"[0-9]{1,6}", digits):
        raise ValueError(f"first is {shown(digits)}; allowed are codes in decimal")
    return int(digits) if int(digits) < count else 0


def _named_values(fmt: Format) -> dict[str, str]:
    """Return the values that have a name, by their exact text."""
    if isinstance(fmt, FixedPointFormat):
        named = {fmt.max_value: "largest", fmt.min_value: "smallest", fmt.resolution: "step"}
    else:
        named = {
            fmt.min_subnormal: "smallest positive",
            fmt.min_normal: "smallest normal",
            fmt.max_finite: "largest",
        }
    return {exact_decimal(value): name for value, name in named.items()}
