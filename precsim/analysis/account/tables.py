"""Reports as text: tables for terminals, and what ``print(report)`` shows."""

import io
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from precsim.analysis.account.rows import OperationRow, by_share, largest_first, names_of
from precsim.analysis.account.stated import Stated
from precsim.analysis.account.words import (
    GROUPINGS,
    decibel,
    events,
    factor,
    figures,
    group_name,
    groups,
    is_share,
    percent,
    share,
    share_heading,
    title,
    verdict,
)
from precsim.formats.arguments import integer, not_allowed

WIDTH = 100
"""Columns that printed text has at most."""
_SHORT = 24
"""Letters of places and names that are not broken in printed text."""


class _Column(NamedTuple):
    heading: str
    cells: list[str]
    is_number: bool = False


def table(report: Stated, by: str, k: int) -> Table:
    """Return the rows with the largest shares."""
    k = integer(k, "k", 0)
    if by == "operation":
        return _operations(report, k)
    if by not in GROUPINGS:
        raise not_allowed("by", by, ("operation", *GROUPINGS))
    every = groups(report, by)
    some, change = every[:k], report.change
    columns = [
        _Column(by, [group_name(g, by) for g in some]),
        _Column("operations", [str(g.operations) for g in some], True),
        _Column(share_heading(change), [share(g.share, change) for g in some], True),
        _Column("SQNR\ndB", [decibel(g.sqnr) for g in some], True),
        _Column("factor", [factor(g.max_condition) for g in some], True),
        _Column("left the range", [events(g) for g in some]),
    ]
    rest = [g.share for g in every[k:]]
    return _made(columns, _left_out(len(some), by, rest, report))


def _operations(report: Stated, k: int) -> Table:
    """Return the operations with the largest shares, and those that left the range."""
    every = sorted(
        by_share(report.rows), key=lambda pair: (largest_first(pair[0]), not events(pair[0]))
    )
    some, change = [row for row, _ in every[:k]], report.change
    columns = [
        _Column("where", [place(row) for row in some]),
        _Column("operation", [name for _, name in every[:k]]),
        _Column("format", [row.format for row in some]),
        _Column("runs", [str(row.times) for row in some], True),
        _Column(share_heading(change), [share(row.share, change) for row in some], True),
        _Column("SQNR\ndB", [decibel(row.sqnr) for row in some], True),
        _Column("factor", [factor(row.condition) for row in some], True),
        _Column("left the range", [events(row) for row in some]),
    ]
    rest = [row.share for row, _ in every[k:]]
    return _made(columns, _left_out(len(some), "operation", rest, report))


def place(row: OperationRow) -> str:
    """Return the line of an operation and its scope."""
    return " ".join(dict.fromkeys(part for part in (row.where, row.scope) if part))


def _left_out(count: int, what: str, rest: Sequence[float], report: Stated) -> str:
    """Return how many rows are shown, and what those have that are not."""
    total = count + len(rest)
    every = f"{total} {what}{'' if total == 1 else 's'}"
    unit = " Shares are in % of the change." if is_share(report.change) else ""
    if not rest:
        return f"{every}.{unit}"
    part = percent(sum(map(abs, rest)), report.gross) if report.gross else "nothing"
    return f"{count} of {every}; the others have {part} of the gross.{unit}"


def _made(columns: Sequence[_Column], caption: str) -> Table:
    """Return a table without the columns that say nothing. Numbers are never broken."""
    made = Table(caption=caption, caption_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    said = [c for c in columns if set(c.cells) - {"", "1"} or not c.cells]
    for column in said:
        made.add_column(
            column.heading,
            justify="right" if column.is_number else "left",
            no_wrap=column.is_number,
            overflow="fold",
        )
    for cells in zip(*(column.cells for column in said), strict=True):
        made.add_row(*map(Text, cells))
    return made


def text(report: Stated, k: int = 10) -> str:
    """Return headline, first sentences, and the rows with the largest shares, as plain text."""
    named = ", ".join(f"{name} {value}" for name, value in figures(report).items())
    lines = [line for part in (title(report), named, *verdict(report)) for line in _filled(part)]
    for n, sentence in enumerate(report.top(3), 1):
        lines += _filled(sentence, f"{n}. ")
    if report.rows:
        made = table(report, "operation", k)
        said = {"where": list(map(place, report.rows)), "operation": names_of(report.rows)}
        for column in made.columns:
            if words := said.get(str(column.header)):
                column.no_wrap = max(map(len, words)) <= _SHORT
        lines += rendered(made)
    return "\n".join(lines)


def _filled(words: str, mark: str = "") -> list[str]:
    """Return a paragraph as lines, none of which parts a number from its unit."""
    together = words.replace(" %", "\xa0%").replace(" ulp)", "\xa0ulp)")
    lines = textwrap.wrap(
        together,
        WIDTH,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_on_hyphens=False,
    )
    return [line.replace("\xa0", " ") for line in lines]


def rendered(made: Table, width: int = WIDTH) -> list[str]:
    """Return the lines of a table, without colours, whatever the terminal is."""
    file = io.StringIO()
    console = Console(
        file=file, width=width, color_system=None, force_terminal=False, legacy_windows=False
    )
    console.print(made)
    return [line.rstrip() for line in file.getvalue().rstrip().split("\n")]
