"""``python -m lessons``: run every lesson without a browser, or write it as pages and pictures."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lessons.export import KINDS, export
from lessons.frame import discover, faults_of, find, load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or export the lessons; return 1 if one fails, 2 if that cannot be done."""
    options = _parser().parse_args(arguments)
    if options.to and options.export is None:
        return _refused("--to names kinds of file: --export DIR is missing, which writes them")
    if options.list and (options.names or options.export):
        return _refused("--list lists all lessons: it takes no names and no --export")
    if options.list:
        print(table())
        return 0
    try:
        names = [find(word) for word in options.names] or discover()
    except LookupError as problem:
        return _refused(str(problem.args[0]))
    failed = False
    for name in names:
        start = time.perf_counter()
        if options.export is None:
            faults = faults_of(load(name))
            result = "; ".join(faults) or "every cell ran, every right answer passes"
            failed |= bool(faults)
        else:
            try:
                files = export(name, options.export, options.to or KINDS)
            except OSError as problem:
                return _refused(
                    f"--export {options.export} cannot be written: {problem.strerror or problem}"
                )
            result = ", ".join(path.name for path in files)
        print(f"{name} ({time.perf_counter() - start:.1f} s): {result}", flush=True)
    return int(failed)


def _refused(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def table() -> str:
    """Return the list of the lessons as a table in Markdown, as docs/lessons/index.md has it."""
    rows = [
        f"| {int(name[:2])} | {lesson.title} | {lesson.goal} | {lesson.minutes} |"
        for name in discover()
        for lesson in [load(name).LESSON]
    ]
    return "\n".join(["| | lesson | goal | minutes |", "|---|---|---|---|", *rows])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lessons", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="01, 01_what_a_float_is, ... (all)"
    )
    parser.add_argument("--list", action="store_true", help="print a table of the lessons")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write files there")
    parser.add_argument(
        "--to", nargs="+", choices=KINDS, help=f"kinds of file for --export ({' '.join(KINDS)})"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
