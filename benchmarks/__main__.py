"""``python -m benchmarks``: speed as ratios to limits and peers; each case in a fresh process."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import progress
from rich.console import Console

from benchmarks import catalogue, report
from benchmarks.case import Case

LIMIT_SECONDS = 900


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases; return 1 if one of them broke or precsim was wrong, 2 for an unknown name."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    try:
        cases = _chosen(options)
    except LookupError as problem:
        print(f"error: {problem.args[0]}", file=sys.stderr)
        return 2
    if options.list:
        for case in cases:
            print(case.name)
        return 0
    results: dict[str, Any] = {}
    try:
        _run_all(cases, options, results)
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept", file=sys.stderr)
    facts = report.provenance(" ".join(["python -m benchmarks", *words]))
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(report.table(results))
    for outcome in results.values():
        for name, reason in outcome["skipped"].items():
            console.print(f"skipped {name}: {reason}", highlight=False, markup=False)
    console.print(f"{facts['processor']}, {facts['cores']} cores; {facts['date']}", highlight=False)
    if options.json is not None:
        text = json.dumps({**facts, "cases": results}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    return int(any("error" in outcome or is_wrong(outcome) for outcome in results.values()))


def is_wrong(outcome: dict[str, Any]) -> bool:
    """Return whether a result of precsim itself was not the correct one."""
    return any(row["own"] and row["wrong"] for row in outcome["rows"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, a choice of the cases")
    parser.add_argument("--peers", action="store_true", help="other libraries too, if installed")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="not the clock's: for one core of a machine that others use",
    )
    parser.add_argument(
        "--synchronous",
        action="store_true",
        help="compiled programs run on the thread that calls them, not on one that has to wake up",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="a case or group (repeatable)"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write all numbers there")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    return parser


def _chosen(options: argparse.Namespace) -> list[Case]:
    words = dict.fromkeys(options.only)
    cases = [case for word in words for case in catalogue.find(word)] or catalogue.all_cases()
    if not options.quick:
        return cases
    return [case for case in cases if case.quick_size] or cases  # what is named is wanted


def _run_all(cases: list[Case], options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Fill in the outcome of every case, with a progress bar on a terminal."""
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
        task = bar.add_task("benchmarks", total=len(cases))
        for case in cases:
            bar.update(task, description=case.name)
            results[case.name] = run(
                case,
                quick=options.quick,
                peers=options.peers,
                processor_time=options.processor_time,
                synchronous=options.synchronous,
            )
            bar.advance(task)


def run(case: Case, **options: bool) -> dict[str, Any]:
    """Run one case in a fresh process; what breaks becomes a skipped row with its last line.

    The options are fields of `Setting`.
    """
    size = case.quick_size if options.get("quick") and case.quick_size else case.size
    words = [case.name, str(size), *(word for word, is_on in options.items() if is_on)]
    command = [sys.executable, "-m", "benchmarks.worker", *words]
    folder = Path(__file__).parent.parent
    environment = dict(os.environ)
    if case.platform:
        environment["JAX_PLATFORMS"] = case.platform
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        reason = f"stopped after {LIMIT_SECONDS} s"
        return {"rows": [], "skipped": {case.name: reason}, "error": reason}
    if done.returncode == 0:
        outcome: dict[str, Any] = json.loads(done.stdout)
        return outcome
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return {"rows": [], "skipped": {case.name: f"failed: {last}"}, "error": done.stderr[-2000:]}


if __name__ == "__main__":
    raise SystemExit(main())
