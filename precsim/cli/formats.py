"""`precsim formats`: the table of named formats, made from the formats themselves."""

import argparse
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from precsim.formats.catalogue import FORMATS
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat, Specials
from precsim.formats.registry import get_format, list_formats

KINDS = ("float", "fixed")

_SPECIALS = {
    Specials.IEEE: "inf, NaN",
    Specials.FN: "NaN, no inf",
    Specials.FNUZ: "NaN, no inf, no -0",
    Specials.NONE: "none",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `precsim formats`.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to add them.
    """
    parser.add_argument("--kind", choices=KINDS, help="list only these (default: all)")


def run(args: argparse.Namespace) -> int:
    """Print the tables of formats.

    Parameters
    ----------
    args : argparse.Namespace
        `kind`: "float", "fixed" or None.

    Returns
    -------
    int
        0.
    """
    rows = {"float": (FLOAT_COLUMNS, float_rows()), "fixed": (FIXED_COLUMNS, fixed_rows())}
    for number, kind in enumerate([args.kind] if args.kind else KINDS):
        if number:
            print()
        _print_table(*rows[kind])
    _print_notes(args.kind)
    return 0


FLOAT_COLUMNS = (
    "name",
    "bits",
    "s/e/p",
    "bias",
    "max",
    "min normal",
    "min subnormal",
    "u",
    "specials",
    "aliases",
    "source",
)
FIXED_COLUMNS = ("name", "bits", "s/i/f", "min", "max", "step", "source")
TEXT_COLUMNS = ("specials", "aliases", "source")


def float_rows() -> list[tuple[str, ...]]:
    """Return one row for each floating-point format of the catalogue.

    Returns
    -------
    list of tuple of str
        Cells in the order of `FLOAT_COLUMNS`.

    Examples
    --------
    >>> float_rows()[3][:8]
    ('fp16', '16', '1/5/11', '15', '65504', '2^-14', '2^-24', '2^-11')
    """
    return [_float_row(fmt, aliases) for fmt, aliases in FORMATS.items()]


def fixed_rows() -> list[tuple[str, ...]]:
    """Return one row for each registered fixed-point format.

    Returns
    -------
    list of tuple of str
        Cells in the order of `FIXED_COLUMNS`.

    Examples
    --------
    >>> fixed_rows()[0][:6]
    ('q3.12', '16', '1/3/12', '-8', '7.999755859375', '2^-12')
    """
    formats = [get_format(name) for name in list_formats(kind="fixed")]
    return [_fixed_row(fmt) for fmt in formats if isinstance(fmt, FixedPointFormat)]


def _float_row(fmt: FloatFormat, aliases: Sequence[str]) -> tuple[str, ...]:
    least = fmt.emin - fmt.precision + 1
    return (
        fmt.name,
        str(fmt.width),
        f"{int(fmt.is_signed)}/{fmt.exponent_bits}/{fmt.precision}",
        str(fmt.bias),
        f"{fmt.max_finite:.6g}",
        f"2^{fmt.emin}",
        f"2^{least}" if fmt.has_subnormals else "none",
        f"2^{-fmt.precision}",
        _SPECIALS[fmt.specials] + ("" if fmt.has_zero else ", no 0"),
        ", ".join(aliases),
        fmt.source,
    )


def _fixed_row(fmt: FixedPointFormat) -> tuple[str, ...]:
    return (
        fmt.name,
        str(fmt.width),
        f"{int(fmt.is_signed)}/{fmt.integer_bits}/{fmt.fraction_bits}",
        f"{fmt.min_value:.17g}",
        f"{fmt.max_value:.17g}",
        f"2^{-fmt.fraction_bits}",
        fmt.source,
    )


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Fit the table to a terminal; elsewhere print plain aligned columns, whole lines."""
    console = Console(highlight=False)
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    if console.is_terminal:
        narrow = console.width < sum(widths) + 2 * len(widths)
        for part in _parts(columns, narrow=narrow):
            table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for i in part:
                heading = columns[i].replace(" ", "\n")
                table.add_column(heading, no_wrap=columns[i] not in TEXT_COLUMNS)
            for row in rows:
                table.add_row(*(row[i] for i in part))
            console.print(table)
        return
    for row in (columns, *rows):
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())


def _parts(columns: Sequence[str], *, narrow: bool) -> list[list[int]]:
    """Return the columns of each table: numbers, then names and sources, where one table is too wide."""
    numbers = [i for i, name in enumerate(columns) if name not in TEXT_COLUMNS]
    texts = [i for i, name in enumerate(columns) if name in TEXT_COLUMNS]
    return [numbers, [0, *texts]] if narrow else [numbers + texts]


def _print_notes(kind: str | None) -> None:
    print()
    if kind != "fixed":
        print("s/e/p: bits of sign and exponent, precision p (it counts the implicit bit).")
        print("u = 2^-p: unit roundoff. Also float(e=W,p=P) for any other IEEE-like format.")
    if kind != "float":
        print("s/i/f: bits of sign, integer part, fraction. Also qI.F and uqI.F of any size.")
