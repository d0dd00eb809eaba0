"""`python -m conformance --emit`: writes vectors that hardware, emulators and compilers read."""

import argparse
import itertools
import random
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import track

import precsim as ps
from conformance.command_line import CommandLine
from conformance.emission.blocks import block_functions, is_mx
from conformance.emission.codes import ALL_CODES, float_format, width
from conformance.emission.dots import dot_product
from conformance.emission.functions import CHUNK, Function, roundings
from conformance.emission.layouts import CHECKER, ENDINGS, Row, header, identifier, lines
from conformance.generate import MODES
from conformance.generate import RULES as RULES_OF_FORMATS
from conformance.vector_file import OPERANDS, RULES, Task

CAST_MODES = ("rne", "rtz", "rtp", "rtn", "rna")
"""The five of IEEE 754."""
SOURCES = ("fp32", "bf16")
OPERATIONS = ("convert", *(name for name in OPERANDS if name != "round"), "dot")
MOST_PRODUCTS = 1024
"""Of a dot product; checker.c has room for their words."""
WHOLE = "by an estimate 8 minutes of one core and 140 MB in hex"
"""What it takes to write all functions: 4.3 million hard cases, and 1000 random ones of each."""
EPILOG = f"""
All functions take {WHOLE}. Some of them:

  --emit hex --operation convert --format e4m3 --source bf16 --out vectors      all conversions
  --emit testfloat --format e5m2 --operation add fma --mode rne rtz --out vectors
  --emit c --machine mi300x:fp16 --random 5000 --out vectors      dot products of two steps
"""


class Written(NamedTuple):
    """What one file holds."""

    path: str
    cases: int
    hard: int
    size: int


def main(arguments: Sequence[str]) -> int:
    """Write the files; return 2 if an argument is wrong.

    They are written to a folder beside, which is there under its name only when it is whole.
    """
    parser = _parser()
    if not {"-h", "--help"}.isdisjoint(arguments):  # also where no layout is named
        parser.print_help()
        return 0
    options = parser.read(arguments, random=0)
    partial = options.out.with_name(f"{options.out.name}.partial")
    try:
        functions = _functions(options)
        _check_folder(options.out, partial)
        partial.mkdir()
    except (OSError, ValueError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    if not (options.operation or options.format or options.machine):
        print(f"{len(functions)} functions: {WHOLE}; name some for less", file=sys.stderr)
    try:
        written = _write(functions, partial, options)
        partial.rename(options.out)
    except OSError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    size = sum(each.size for each in written)
    print(
        f"{len(written)} files in {options.out}: {sum(each.cases for each in written)} cases, "
        f"{sum(each.hard for each in written)} of them hard, {size} bytes"
    )
    return 0


def _write(
    functions: Sequence[Function], folder: Path, options: argparse.Namespace
) -> list[Written]:
    console = Console(stderr=True)
    progress = track(functions, "functions", console=console, disable=not console.is_terminal)
    written = [emit(each, options.emit, folder, options.random, options.seed) for each in progress]
    write_index(folder, options.emit, functions, written)
    return written


def emit(function: Function, layout: str, folder: Path, count: int, seed: int) -> Written:
    """Write the file of a function: its hard cases, then `count` random ones."""
    name = f"{function.name}{ENDINGS[layout]}"
    cases = [0, 0]
    with (folder / name).open("x", encoding="ascii", newline="\n") as file:
        for line in lines(layout, function, rows(function, count, seed, cases)):
            file.write(f"{line}\n")
    return Written(name, sum(cases), cases[0], (folder / name).stat().st_size)


def rows(
    function: Function, count: int, seed: int, cases: list[int] | None = None
) -> Iterator[Row]:
    """Yield the cases with their results, which the compiled kernel has to have too.

    `cases` counts the hard ones in its first place, the random ones in its second.
    """
    counts = [0, 0] if cases is None else cases
    drawn = function.random_cases(random.Random(f"{seed} {function.name}"))
    parts = (function.hard_cases(), itertools.islice(drawn, count))
    for place, part in enumerate(parts):
        while chunk := list(itertools.islice(part, CHUNK)):
            results = function.expected(chunk)
            if wrong := function.differing(chunk, results):
                raise AssertionError(
                    f"{function.name}: definition and compiled kernel differ at "
                    f"{' '.join(f'{x:x}' for x in chunk[wrong[0]])}"
                )
            counts[place] += len(chunk)
            yield from ((x, *result) for x, result in zip(chunk, results, strict=True))


def write_index(
    folder: Path, layout: str, functions: Sequence[Function], written: Sequence[Written]
) -> None:
    """Write index.txt, which says what each file holds, and the checker beside the files."""
    texts = [
        "\n".join(
            [f"file: {w.path}", *header(f), f"cases: {w.cases}, {w.hard} hard, {w.size} bytes"]
        )
        for f, w in zip(functions, written, strict=True)
    ]
    _new(folder / "index.txt", "\n\n".join(texts) + "\n")
    if layout != "testfloat":
        _new(folder / CHECKER.name, CHECKER.read_text(encoding="ascii"))
    if layout == "c":
        names = ", ".join(f"&{identifier(f.name)}" for f in functions)
        parts = [f'#include "{w.path}"' for w in written]
        table = f"static const struct vectors *const all_vectors[] = {{{names}, 0}};"
        _new(folder / "all.h", "\n".join([*parts, table, ""]))


def _new(path: Path, text: str) -> None:
    with path.open("x", encoding="ascii", newline="\n") as file:
        file.write(text)


def _check_folder(folder: Path, partial: Path) -> None:
    if folder.exists() or folder.is_symlink():
        raise ValueError(f"--out is {folder}, which exists; allowed is a new folder")
    if partial.exists() or partial.is_symlink():
        raise ValueError(
            f"--out is {folder}, but {partial} exists: another run is writing it, or was ended"
        )
    if not folder.parent.is_dir():
        raise ValueError(f"--out is {folder}, but there is no folder {folder.parent}")


def _parser() -> CommandLine:
    parser = CommandLine("conformance", __doc__, epilog=EPILOG)
    parser.add_argument("--emit", choices=tuple(ENDINGS), required=True, help="the layout")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")
    for name, text in (
        ("operation", f"only these: {', '.join(OPERATIONS)} (default: all that fit)"),
        ("format", "formats of results (default: all registered floats of at most 8 bits, and MX)"),
        ("source", f"what is converted from (default: {' '.join(SOURCES)})"),
        ("mode", f"roundings (default: {' '.join(CAST_MODES)} of conversions, rne of operations)"),
        (
            "rule",
            "overflow rules (default: all of the format's document, for operations the first)",
        ),
        ("machine", "products, for example h100:e4m3 (default: all of ps.list_machines())"),
    ):
        parser.add_argument(f"--{name}", nargs="+", action="extend", metavar="NAME", help=text)
    parser.add_argument(
        "--random", type=int, default=1000, help="random cases after the hard ones (default: 1000)"
    )
    parser.add_argument("--seed", type=int, default=754, help="of the random cases (default: 754)")
    parser.add_argument(
        "--k", type=int, metavar="K", help="products of a dot product (default: two steps)"
    )
    return parser


def _functions(options: argparse.Namespace) -> list[Function]:
    """Return what is asked for; refuse what is unknown, and what gives nothing."""
    if options.k is not None and not 1 <= options.k <= MOST_PRODUCTS:
        raise ValueError(f"--k is {options.k}; allowed are integers from 1 to {MOST_PRODUCTS}")
    for name in options.operation or ():
        _check("operation", name, OPERATIONS)
    for name in options.mode or ():
        _check("mode", name, MODES)
    for name in options.rule or ():
        _check("rule", name, [rule for rule in RULES if rule not in ("any", "wrap")])
    wanted = options.operation or OPERATIONS
    found: list[Function] = []
    if options.format or not options.machine:
        found += [f for op in wanted if op != "dot" for f in _roundings(op, options)]
    if "dot" in wanted and (options.machine or not options.format):
        found += _dots(options)
    if not found:
        raise ValueError("no function is both among the operations and formats that are named")
    return list({function.name: function for function in found}.values())


def _roundings(operation: str, options: argparse.Namespace) -> Iterator[Function]:
    is_cast = operation == "convert"
    modes = options.mode or (CAST_MODES if is_cast else CAST_MODES[:1])
    sources = [_source(name) for name in options.source or SOURCES]
    for name in options.format or _narrow():
        found = ps.get_format(name)
        if isinstance(found, ps.BlockFormat):
            yield from block_functions(found, modes) if is_cast else ()
            continue
        fmt = float_format(name)
        if not is_cast and not (fmt.is_signed and fmt.has_zero):
            if options.format and options.operation:
                raise ValueError(f"{fmt} has no {operation}; allowed are signed formats with zero")
            continue
        rules = RULES_OF_FORMATS.get(str(fmt), ("infinity", "saturate"))
        kind = "round" if is_cast else operation
        tasks = [
            Task(operation=kind, format=str(fmt), rule=rule, mode=mode)
            for mode in modes
            for rule in options.rule or (rules if is_cast else rules[:1])
        ]
        yield from roundings(kind, sources, tasks)
        if is_cast and not options.source and width(fmt) <= ALL_CODES:  # every code of it, decoded
            back = Task(operation="round", format="fp32", rule="infinity", mode="rne")
            yield from roundings("round", [str(fmt)], [back])


def _dots(options: argparse.Namespace) -> list[Function]:
    if options.emit == "testfloat":
        if options.machine or options.operation:
            raise ValueError("--emit testfloat has no dot products; allowed are hex and c")
        return []
    return [dot_product(name, options.k) for name in options.machine or ps.list_machines()]


def _narrow() -> list[str]:
    floats = [ps.get_format(name) for name in ps.list_formats(kind="float")]
    blocks = [ps.get_format(name) for name in ps.list_formats(kind="block")]
    narrow = [fmt for fmt in floats if 0 < (fmt.width or 0) <= ALL_CODES]
    return [str(fmt) for fmt in (*narrow, *filter(is_mx, blocks))]


def _source(name: str) -> str:
    fmt = float_format(name)
    if width(fmt) > ALL_CODES and str(fmt.specials) != "ieee":
        raise ValueError(f"source is {fmt}; allowed are IEEE formats, and others of at most 8 bits")
    return str(fmt)


def _check(kind: str, name: str, known: Iterable[str]) -> None:
    if name not in (names := list(known)):
        raise ValueError(f"--{kind} has {name!r:.40}; allowed are {', '.join(names)}")
