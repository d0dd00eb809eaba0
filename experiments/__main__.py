"""``python -m experiments``: recompute the published figures, print a table of what matched."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from rich import progress
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments import record
from experiments.check import GRADES
from experiments.frame import Outcome, Request, discover, find, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiments; return 1 if a class A number does not match, 2 for an unknown name."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    try:
        names = [find(word) for word in options.names] or discover()
    except LookupError as problem:
        print(f"error: {problem.args[0]}", file=sys.stderr)
        return 2
    if (missing := record.missing_device()) is not None:
        print(f"error: {missing}", file=sys.stderr)
        return 2
    command = " ".join(["python -m experiments", *words])
    request = Request(
        name="",
        out=options.out,
        fast=not options.full,
        force=options.force,
        command=command,
        data_dir=options.data_dir,
        width=options.width,
    )
    requests = [replace(request, name=name) for name in dict.fromkeys(names)]
    try:
        outcomes = sorted(_run_all(requests, options.jobs), key=lambda outcome: outcome.name)
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept", file=sys.stderr)
        return 130
    console = Console()
    if not console.is_terminal:
        console.width = 140
    console.print(summary(outcomes))
    if any(outcome.mismatches for outcome in outcomes):
        console.print(mismatches(outcomes))
    for outcome in outcomes:
        if outcome.absent:
            files = ", ".join(outcome.absent)
            console.print(
                f"{outcome.name} is compared with the numbers typed in its source only: no file"
                f" {files} under --data-dir ({options.data_dir or 'not given'})",
                highlight=False,
                markup=False,
            )
    console.print(f"Figures, data and provenance: {options.out}", highlight=False)
    return int(any(outcome.failed for outcome in outcomes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="g03, g03_euler, ... (all)")
    parser.add_argument("--full", action="store_true", help="published sizes, not the fast ones")
    parser.add_argument("--force", action="store_true", help="recompute finished results too")
    parser.add_argument("--jobs", type=_positive, default=1, metavar="N", help="processes (1)")
    parser.add_argument(
        "--data-dir", type=_folder, metavar="DIR", help="clones of published data (none)"
    )
    parser.add_argument(
        "--width",
        type=_centimetres,
        metavar="CM",
        help="of the pictures: 8.5 for one column of a page (8.5 with one panel, else 17)",
    )
    default = Path(__file__).parent / "out"
    parser.add_argument(
        "--out", type=Path, default=default, metavar="DIR", help="(experiments/out)"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes: 1, 2, ...")
    return int(text)


def _centimetres(text: str) -> float:
    try:
        width = float(text)
    except ValueError:
        width = 0.0
    if not 5 <= width <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a width in centimetres: 5 to 100")
    return width


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return Path(text)


def _run_all(requests: list[Request], jobs: int) -> Iterator[Outcome]:
    """Yield outcomes as they come, with a progress bar on a terminal."""
    console = Console(stderr=True)
    columns = (
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("experiments", total=len(requests))
        if jobs == 1:
            for request in requests:
                bar.update(task, description=request.name)
                yield run(request)
                bar.advance(task)
            return
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            for future in as_completed([pool.submit(run, request) for request in requests]):
                outcome = future.result()
                bar.update(task, description=outcome.name)
                yield outcome
                bar.advance(task)


def summary(outcomes: list[Outcome]) -> Table:
    """Return the table of all figures."""
    table = Table(title="Published figures, recomputed")
    for heading in ("figure", "shows", "source", "class"):
        table.add_column(heading)
    table.add_column("matched", justify="right")
    table.add_column("seconds", justify="right")
    for outcome in outcomes:
        matched = f"{len(outcome.checks) - len(outcome.mismatches)}/{len(outcome.checks)}"
        if not outcome.checks and not outcome.error:
            matched = "no numbers"
        colour = "red" if outcome.failed else "yellow" if outcome.mismatches else "green"
        grade = f"{outcome.grade} {GRADES[outcome.grade]}"
        note = " (kept)" if outcome.reused else ""
        cells = (outcome.name, outcome.title, outcome.citation, grade)
        if outcome.error:
            cells = (outcome.name, escape(outcome.error), "", grade)
        table.add_row(*cells, f"[{colour}]{matched}[/]", f"{outcome.seconds:.1f}{note}")
    return table


def mismatches(outcomes: list[Outcome]) -> Table:
    """Return the table of the numbers that do not match."""
    table = Table("figure", "number", "published", "computed", "rule", "class")
    table.title = "Numbers that do not match"
    for outcome in outcomes:
        for check in outcome.mismatches:
            values = (str(check.published), repr(float(check.computed)))
            table.add_row(outcome.name, check.name, *values, check.rule, check.grade)
    return table


if __name__ == "__main__":
    raise SystemExit(main())
