"""`precsim sweep`: many trainings from one grid, into one file; its state, table and picture."""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from precsim.cli import cache
from precsim.cli.console import PlainConsole
from precsim.cli.output import print_error, print_note, print_rows
from precsim.cli.policies import read_policy, read_schedule
from precsim.cli.progress import duration
from precsim.formats.arguments import integer
from precsim.sweeps.cell import Cell, versions
from precsim.sweeps.coordinate import (
    Standing,
    Tell,
    check_names,
    check_programs,
    counted,
    run_cells,
)
from precsim.sweeps.crew import cluster, ended_by_sigterm, require_dask
from precsim.sweeps.grid import read_grid
from precsim.sweeps.rescue import rescue
from precsim.sweeps.store import Store, open_alone, open_plan
from precsim.sweeps.summary import LEVEL, Block, blocks, plus_minus
from precsim.sweeps.waiting import Times

TRIES = 3
"""How many workers a cell may cost, by default."""
_EVERY = 30.0
"""Seconds between two lines about the progress, where there is no terminal."""
_SUFFIX = ".sqlite"
_VERBS = {
    "status": "how many runs are done, failed and left",
    "table": "mean and confidence interval over seeds, and the difference to fp32",
    "plot": "a picture of these differences",
    "rescue": "copy what can be read in a damaged file into a new one",
}

_EPILOG = """\
exit status:
  0    every run is in the file
  2    the input was refused, or a run failed (one line says why)
  130  interrupted; finished runs are in the file, and the same command goes on
  143  ended by SIGTERM; the same holds

docs/how-to/sweep.md has a grid and explains the table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "what",
        metavar="GRID.toml",
        help="policies, models, seeds and settings (docs/how-to/sweep.md); or one of the words "
        f"{', '.join(_VERBS)}, before a FILE of results",
    )
    parser.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="results (default: none)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE",
        help="the file of results, which may hold earlier ones (default: GRID.sqlite); of plot: the "
        "picture (default: FILE.png); of rescue: the new file (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="a scheduler of dask in a network that you trust, instead of processes here, such as "
        "tcp://10.0.0.1:8786 (default: none)",
    )  # fmt: skip
    cores = os.cpu_count() or 1
    for name, metavar, usual, about in (
        ("workers", "N", cores, "processes on this machine, each with its share of the cores"),
        ("tries", "N", TRIES, "how many workers a run may cost before it counts as failed"),
        ("level", "X", LEVEL, "of table and plot: level of the confidence intervals"),
    ):
        said = f"{about} (default: %(default)s)"
        parser.add_argument(
            f"--{name}", type=type(usual), metavar=metavar, default=usual, help=said
        )
    for name, about in (
        ("retry-failed", "run what has failed again"),
        ("plan", "only check the grid, and tell how many runs are left and how long they take"),
        ("json", "print JSON instead of tables"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=f"{about} (default: off)")
    cache.add_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run a grid, or tell about a file of results."""
    if args.what in _VERBS:
        if args.file is None:
            raise ValueError(f"precsim sweep {args.what} needs a FILE of results")
        if args.out is not None and args.what in ("status", "table"):
            raise ValueError(f"--out is given with {args.what}, which writes no file")
        of_verb: dict[str, Callable[[argparse.Namespace], int]] = {
            "status": _status,
            "table": _table,
            "plot": _plot,
            "rescue": _rescue,
        }
        return of_verb[args.what](args)
    if args.file is not None or not args.what.endswith(".toml"):
        raise ValueError(
            f"GRID is {args.what!r}; allowed are a file of the name GRID.toml, and "
            f"{', '.join(_VERBS)} with one file of results"
        )
    return _run_grid(args)


@cache.with_cache
def _run_grid(args: argparse.Namespace) -> int:
    integer(args.workers, "--workers", 1)
    integer(args.tries, "--tries", 1)
    path = Path(args.what)
    grid = read_grid(path, read_policy, read_schedule)
    if not args.plan:
        require_dask()
    file = args.out or path.with_suffix(_SUFFIX)
    facts = versions()
    cells = {cell.key(facts): cell for cell in grid.cells}
    with (open_plan if args.plan else open_alone)(file) as store:
        states = store.states()
        left = {
            key: cell
            for key, cell in cells.items()
            if key not in states or (args.retry_failed and not states[key])
        }
        standing = _standing(cells, left, states, store)
        standing.workers = args.workers
        console = PlainConsole(stderr=True, highlight=False, wraps=False)
        console.print(_plan(file, standing, len(left)))
        if args.plan:
            return _refused(check_names(list(left.values())))
        store.begin({key: cell.text for key, cell in cells.items()}, facts, _command(), grid.text)
        if left:
            with (
                ended_by_sigterm(),
                cluster(args.scheduler, args.workers) as client,
                _told(console, standing) as tell,
            ):
                new = _unproved(left, cells, states)
                faults = check_programs(client, new, args.tries, lambda line: tell(standing, line))
                if faults:
                    return _refused(faults)
                run_cells(
                    client, left, store, facts, standing=standing, tries=args.tries, tell=tell
                )
        return _told_end(args, file, store, standing)


def _refused(faults: list[str]) -> int:
    """Print what is wrong with a grid; return the exit status."""
    for fault in faults:
        print_error(fault)
    return 2 if faults else 0


def _standing(
    cells: dict[str, Cell], left: dict[str, Cell], states: dict[str, bool], store: Store
) -> Standing:
    """Return where a sweep stands before it goes on; earlier runs tell how long others take."""
    times = Times(left.values())
    for each in store.runs():
        if each.is_done and each.key in cells:
            times.learn(cells[each.key], each.result["seconds"])
    done = sum(states.get(key, False) for key in cells)
    failed = sum(key in states and not states[key] and key not in left for key in cells)
    return Standing(total=len(cells), done=done, failed=failed, times=times)


def _plan(file: Path, standing: Standing, left: int) -> str:
    known = standing.seconds_left()
    time_left = (
        ""
        if not left
        else ", time known after the first runs"
        if known is None
        else f", about {duration(known)} on {counted(standing.workers, 'worker')}"
    )
    return (
        f"{file}: {counted(standing.total, 'run')}, {standing.done} done, {standing.failed} failed, "
        f"{left} to run{time_left}"
    )


def _unproved(left: dict[str, Cell], cells: dict[str, Cell], states: dict[str, bool]) -> list[Cell]:
    """Return the cells of programs of which no run has ended yet."""
    proved = {cell.program for key, cell in cells.items() if states.get(key)}
    return [cell for cell in left.values() if cell.program not in proved]


def _command() -> str:
    return shlex.join(["precsim", *sys.argv[1:]])


@contextmanager
def _told(console: PlainConsole, standing: Standing) -> Iterator[Tell]:
    """Show the progress: a bar on a terminal, elsewhere a line now and then."""
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Bar(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=standing.total)

            def show(now: Standing, line: str) -> None:
                if line:
                    bar.console.print(line)
                bar.update(task, completed=now.done + now.failed, description=_progress(now))

            show(standing, "")
            yield show
        return
    last = time.monotonic()

    def write(now: Standing, line: str) -> None:
        nonlocal last
        if line:
            console.print(line)
        elif time.monotonic() - last > _EVERY:
            last = time.monotonic()
            console.print(f"{now.done + now.failed} of {now.total}, {_progress(now)}")

    yield write


def _progress(now: Standing) -> str:
    left = now.seconds_left()
    parts = [f"{now.running} running"]
    parts += [f"{now.failed} failed"] if now.failed else []
    parts += [] if left is None else [f"about {duration(left)} left"]
    return ", ".join(parts)


def _told_end(args: argparse.Namespace, file: Path, store: Store, standing: Standing) -> int:
    """Print the table, and what failed."""
    _show(args, store, file)
    if standing.failed:
        print_error(
            f"{standing.failed} of {counted(standing.total, 'run')} failed; precsim sweep status {file} tells "
            "why, --retry-failed runs them again"
        )
    return 2 if standing.failed else 0


def _status(args: argparse.Namespace) -> int:
    with Store(args.file) as store:
        planned, runs = store.planned(), list(store.runs())
        failed = [run for run in runs if not run.is_done]
        others, sessions = store.others(), store.sessions()
    seconds = sum(run.result["seconds"] for run in runs if run.is_done)
    content: dict[str, Any] = {
        "intact": True,
        "runs": len(planned),
        "done": len(runs) - len(failed),
        "failed": len(failed),
        "left": len(planned) - len(runs),
        "seconds": seconds,
        "other_versions": others,
        "sessions": [
            {"begun": begun, "command": command, "versions": json.loads(facts)}
            for begun, command, facts, _ in sessions
        ],
        "failures": {Cell.parse(run.cell).label: run.result["error"] for run in failed},
    }
    if args.json:
        print(json.dumps(content, indent=2))
        return 0
    rows = [(name, str(content[name])) for name in ("runs", "done", "failed", "left")]
    rows.append(("file", "intact"))  # a damaged one was refused by now
    rows.append(("time", f"{duration(seconds)} of training"))
    rows.append(
        ("sessions", f"{len(sessions)}, the first on {sessions[0][0] if sessions else '-'}")
    )
    if others:
        rows.append(
            ("others", f"{counted(others, 'run')} with other versions of packages, not counted")
        )
    print_rows(rows)
    for label, error in content["failures"].items():
        print_rows([("failed", f"{label}: {error}")])
    return 0


def _table(args: argparse.Namespace) -> int:
    with Store(args.file) as store:
        _show(args, store, args.file)
    return 0


def _show(args: argparse.Namespace, store: Store, file: Path) -> None:
    found = blocks(store.runs(), args.level)
    if args.json:
        print(json.dumps([block.as_dict() for block in found], indent=2))
        return
    console = PlainConsole(highlight=False)
    for block in found:
        console.print(_text_table(block))
    if found:
        for line in (
            f"±: {args.level:g} confidence by Student's t, over seeds. Minus fp32: on the same seed.",
            f"Every number: precsim sweep table {file} --json",
        ):
            console.print(line, soft_wrap=True)


def _text_table(block: Block) -> Table:
    table = Table(title=block.title, title_justify="left", box=SIMPLE)
    table.add_column("policy", overflow="fold")
    metric = next((row.metric for row in block.rows if row.metric), "score")
    failed = ("failed",) if any(row.failed for row in block.rows) else ()
    for name in ("runs", f"test {metric}", "minus fp32", "loss minus fp32", *failed):
        table.add_column(name, justify="right", no_wrap=True)
    for row in block.rows:
        gaps = [plus_minus(row.gaps.get(name), "+.2g") for name in ("test_score", "final_loss")]
        if row is block.rows[0]:
            gaps = ["", ""]
        score = plus_minus(row.means.get("test_score"), ".4g")
        table.add_row(
            row.policy, str(row.done), score, *gaps, *([str(row.failed)] if failed else [])
        )
    return table


def _plot(args: argparse.Namespace) -> int:
    from precsim.analysis.plots.figures import figure
    from precsim.analysis.plots.intervals import plot_intervals

    if args.out is not None and args.out.suffix not in (".png", ".svg"):
        raise ValueError(
            f"--out is {str(args.out)!r}; allowed are names of files that end in .png or .svg"
        )
    with Store(args.file) as store:
        found = blocks(store.runs(), args.level)
    if not any(len(block.rows) > 1 for block in found):
        raise ValueError(f"{args.file} has no finished runs to compare with fp32")
    path = (args.out or args.file).with_suffix("")
    with figure(len(found), path=path) as axes:
        for panel, block in zip(axes, found, strict=True):
            rows = [row for row in block.rows[1:] if "test_score" in row.gaps]
            gaps = {row.policy: row.gaps["test_score"] for row in rows}
            plot_intervals(
                panel,
                {name: (x.mean, x.low, x.high) for name, x in gaps.items() if x.mean is not None},
                xlabel=f"test {block.rows[0].metric}, minus fp32",
            )
            panel.set_title(block.title)
    print(f"{path}.png, {path}.svg")
    return 0


def _rescue(args: argparse.Namespace) -> int:
    if args.out is None:
        raise ValueError("precsim sweep rescue needs --out NEW.sqlite, the new file")
    found = rescue(args.file, args.out)
    lost = "others" if found.lost is None else counted(found.lost, "row")
    print(f"{args.out}: {counted(found.copied, 'run')} copied; {lost} could not be read")
    print(f"{args.file}: {f'not intact ({found.fault})' if found.fault else 'intact'}")
    print_note(f"precsim sweep GRID.toml --out {args.out} runs what is missing")
    return 0
