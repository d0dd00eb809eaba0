"""`precsim analyze`: what formats would do to the tensors of files."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from precsim.analysis.files.measure import parse_formats
from precsim.analysis.files.page import page
from precsim.analysis.files.report import LEGEND, as_csv, as_json, shown, tables
from precsim.analysis.files.walk import FileReport, analyse_files, files_of
from precsim.cli.console import PlainConsole
from precsim.cli.output import naming_options, print_error, print_words
from precsim.training.replay.files import unwritten

FORMATS = ("fp16", "bf16", "e4m3", "e5m2")
"""Those that are tried unless others are named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH",
        help="a .safetensors, .npz or .npy file, or a folder of such files",
    )  # fmt: skip
    parser.add_argument(
        "--format", nargs="+", default=list(FORMATS), metavar="FORMAT",
        help=f"formats and roundings, block and affine ones too (default: {' '.join(FORMATS)})",
    )  # fmt: skip
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print one JSON object")
    output.add_argument("--csv", action="store_true", help="print a line per tensor and format")
    parser.add_argument("--html", type=Path, metavar="PAGE", help="write a page to this new file")


def run(args: argparse.Namespace) -> int:
    """Print what each format would do.

    Return 1 if a part of the files could not be read, 2 if nothing could.
    """
    with naming_options({"format": "--format"}):
        specs = parse_formats(args.format)
    if args.html is not None:
        _check_new(args.html)
    files = files_of(args.paths)
    with _progress(files) as on_bytes:
        report = analyse_files(args.paths, specs, on_bytes)
    if not report.tensors and not report.skipped and len(report.failures) == 1:
        ((place, reason),) = report.failures.items()
        raise ValueError(f"{place}: {reason}")
    if args.html is not None:
        _write_new(args.html, _printable(page(report)))
    if args.json:
        print(json.dumps(as_json(report), indent=2, allow_nan=False))
    elif args.csv:
        print(_printable(as_csv(report)), end="")
    else:
        _print_tables(report)
    for place, reason in report.failures.items():
        print_error(f"{place}: {reason}")
    if not report.failures:
        return 0
    return 1 if report.tensors or report.skipped else 2


def _print_tables(report: FileReport) -> None:
    console = PlainConsole(highlight=False)
    for table in tables(report):
        console.print(table)
    for file, item in report.skipped:
        place = f"{file}:{item.name}" if item.name else file
        print_words(f"not analysed: {shown(place)} {item.dtype} ({item.reason})")
    if report.tensors:
        for text in LEGEND:
            print_words(text)


def _printable(text: str) -> str:
    """Return a text that has an encoding: names of files may have none."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _check_new(path: Path) -> None:
    """Refuse a page that exists, or cannot be made, before the work."""
    if path.exists():
        raise FileExistsError(f"--html is {path}, which exists; name a new file")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"--html is {path}; {path.parent} is no folder")


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise FileExistsError(f"--html is {path}, which exists by now; name a new file") from None
    except OSError as error:
        raise unwritten(path, error) from None


@contextmanager
def _progress(files: list[Path]) -> Iterator[Callable[[float], None]]:
    """Show on a terminal how much is read; yield what is called with the bytes of each read."""
    from rich import progress

    console = PlainConsole(stderr=True)
    if not console.is_terminal or sys.stderr is None:
        yield lambda count: None
        return
    columns = (
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    size = sum(file.stat().st_size for file in files if file.exists())
    with progress.Progress(*columns, console=console, transient=True) as shown_progress:
        task = shown_progress.add_task("", total=size)
        yield lambda count: shown_progress.advance(task, count)
