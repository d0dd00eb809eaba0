"""`precsim formats`: the table of named formats, made from the formats themselves; pictures."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from precsim.cli.format_rows import COLUMNS, KINDS, NOTES, TEXT_COLUMNS, entry, kind_of, row_of
from precsim.cli.output import is_terminal, naming_options, print_words
from precsim.formats.arguments import shown
from precsim.formats.registry import AnyFormat, get_format, list_formats

PICTURE = "formats.svg"
"""Where `--plot` without a name draws."""
PLOTTED = ("fp32", "tf32", "fp16", "bf16", "e4m3", "e5m2", "e3m2", "e2m3", "e2m1", "int8")
"""What `--plot` draws where no format is named."""
MOST_PLOTTED = 13
"""Formats that one picture has at most: there are so many colours."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "words", metavar="FORMAT", nargs="*", help="list, or draw, only these (default: all)"
    )
    parser.add_argument(
        "--kind", metavar="KIND", help=f"list only these: {', '.join(KINDS)} (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list of all formats")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        nargs="?",
        const=PICTURE,
        help=f"draw range, precision and values to FILE, .svg or .png, which may not exist (default: "
        f"{PICTURE}), of the formats named, or of {', '.join(PLOTTED)}",
    )


def run(args: argparse.Namespace) -> int:
    """Print the tables of formats, or draw them."""
    words = list(args.words)
    file = args.plot
    if file is not None and Path(file).suffix not in (".svg", ".png"):
        try:
            words.insert(0, str(get_format(file)))  # --plot fp16 bf16
        except ValueError:
            raise ValueError(
                f"--plot is {shown(file)}; allowed are names of files that end in .svg or .png"
            ) from None
        file = PICTURE
    if words and args.kind:
        raise ValueError(f"--kind is {args.kind!r} and FORMAT {words[0]!r}; allowed is one of both")
    if file is not None and args.json:
        raise ValueError("--json is given with --plot; allowed is one of both")
    with naming_options({"kind": "--kind"}):
        names = words or list_formats(kind=args.kind)
    formats = [get_format(name) for name in names]
    if file is not None:
        return _plot(formats if words or args.kind else list(map(get_format, PLOTTED)), Path(file))
    if args.json:
        print(json.dumps([entry(fmt) for fmt in formats], indent=2))
        return 0
    kinds = list(dict.fromkeys(map(kind_of, formats)))
    for number, kind in enumerate(kinds):
        if number:
            print()
        _print_table(COLUMNS[kind], [row_of(fmt) for fmt in formats if kind_of(fmt) == kind])
    print()
    for kind in kinds:
        if kind in NOTES:
            print_words(NOTES[kind])
    return 0


def _plot(formats: Sequence[AnyFormat], file: Path) -> int:
    """Draw a picture, and say where it is."""
    if len(formats) > MOST_PLOTTED:
        raise ValueError(
            f"{len(formats)} formats are to be drawn; allowed are {MOST_PLOTTED}: name them before "
            "--plot"
        )
    if file.exists():
        raise FileExistsError(f"--plot is {file}, which exists; allowed is a new name")
    if not file.parent.is_dir():
        raise FileNotFoundError(
            f"--plot is {file}, but there is no folder {file.parent}; allowed are folders that exist"
        )
    from precsim.analysis.plots.figures import figure
    from precsim.analysis.plots.number_sets import is_small, plot_precision, plot_values

    small = list(filter(is_small, formats))
    with figure(1 + bool(small), height=7.0, path=file) as axes:
        plot_precision(axes[0], formats)
        axes[0].set_title("range and precision")
        if small:
            plot_values(axes[1], small)
            axes[1].set_title("values of the small ones")
    print(f"{file}: {', '.join(map(str, formats))}")
    return 0


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Fit the table to a terminal; elsewhere print plain aligned columns, whole lines."""
    if is_terminal():
        headings = (max(column.split(), key=len) for column in columns)
        cells = zip(headings, *rows, strict=True)
        _print_fitted(columns, rows, [max(map(len, column)) for column in cells])
        return
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())


def _print_fitted(
    columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]
) -> None:
    from rich import box
    from rich.table import Table

    from precsim.cli.console import PlainConsole

    console = PlainConsole(highlight=False)
    for part in _parts(columns, [size + 2 for size in widths], console.width - 1):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for i in part:
            heading = columns[i].replace(" ", "\n")
            table.add_column(heading, no_wrap=columns[i] not in TEXT_COLUMNS, overflow="fold")
        for row in rows:
            table.add_row(*(row[i] for i in part))
        console.print(table)


def _parts(columns: Sequence[str], sizes: Sequence[int], room: int) -> list[list[int]]:
    """Return the columns of each table: where one has no room, numbers, then names and sources."""
    if sum(sizes) <= room:
        return [list(range(len(columns)))]
    parts: list[list[int]] = [[0]]
    for i in (i for i, name in enumerate(columns) if i and name not in TEXT_COLUMNS):
        if sum(sizes[k] for k in (*parts[-1], i)) > room:
            parts.append([0])
        parts[-1].append(i)
    return [*parts, [0, *(i for i, name in enumerate(columns) if name in TEXT_COLUMNS)]]
