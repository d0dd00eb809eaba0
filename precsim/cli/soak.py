"""`precsim soak`: sweeps whose processes are killed, compared with one that was left alone."""

import argparse
import os
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from precsim.cli.numbers import real, whole
from precsim.cli.run_directory import check_place, reuse
from precsim.formats.arguments import integer, number_within
from precsim.sweeps.crew import require_dask
from precsim.sweeps.soak import Round, disturbed, undisturbed, write_grid

RUNS, WORKER_KILLS, COORDINATOR_KILLS = 200, 10, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = "Exit status: 0 if all tables are the same, 1 if not."
    parser.add_argument(
        "--runs",
        type=whole,
        metavar="N",
        default=RUNS,
        help="runs of a sweep, rounded up (default: %(default)s)",
    )
    parser.add_argument(
        "--minutes",
        type=real,
        metavar="M",
        default=0.0,
        help="begin further rounds, with other kills, for so long (default: one round)",
    )
    parser.add_argument(
        "--seed",
        type=whole,
        metavar="S",
        default=0,
        help="decides what is killed, and after how many runs (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=whole,
        metavar="N",
        default=os.cpu_count() or 1,
        help="processes that train (default: %(default)s)",
    )
    parser.add_argument(
        "--worker-kills",
        type=whole,
        metavar="N",
        default=WORKER_KILLS,
        help="workers that are killed in a round (default: %(default)s)",
    )
    parser.add_argument(
        "--coordinator-kills",
        type=whole,
        metavar="N",
        default=COORDINATOR_KILLS,
        help="coordinators that are killed in a round (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder for the files of all sweeps (default: one that is deleted)",
    )


def run(args: argparse.Namespace) -> int:
    """Sweep once undisturbed, then disturbed, round by round; compare."""
    integer(args.runs, "--runs", 1)
    integer(args.seed, "--seed", 0)
    integer(args.workers, "--workers", 1)
    integer(args.worker_kills, "--worker-kills", 0)
    integer(args.coordinator_kills, "--coordinator-kills", 0)
    number_within(args.minutes, "--minutes", 0, 1e6)
    require_dask()
    place: Any = tempfile.TemporaryDirectory(prefix="precsim-soak-")
    if args.out is not None:
        check_place(args.out)
        place = nullcontext(str(reuse(args.out)))
    begun = time.monotonic()
    with place as folder:
        grid = write_grid(Path(folder), args.runs)
        _say("undisturbed sweep")
        calm = undisturbed(grid, args.workers)
        _say(f"undisturbed sweep: done in {time.monotonic() - begun:.0f} s")
        kills = ["worker"] * args.worker_kills + ["coordinator"] * args.coordinator_kills
        seed, is_same = args.seed, True
        while seed == args.seed or time.monotonic() - begun < 60 * args.minutes:
            found = disturbed(grid, calm, workers=args.workers, kills=kills, seed=seed, tell=_say)
            _say(_told(seed, found))
            is_same = is_same and not found.differing
            seed += 1
    return 0 if is_same else 1


def _say(line: str) -> None:
    print(line, flush=True)


def _told(seed: int, found: Round) -> str:
    workers = sum(kill.what == "worker" for kill in found.kills)
    missed = found.planned - len(found.kills)
    late = f" (it ended before {missed} more of them)" if missed else ""
    told = (
        f"seed {seed}: {workers} workers and {len(found.kills) - workers} coordinators "
        f"killed{late}; "
        f"{found.equal} of {found.runs} runs have the weights of the undisturbed sweep, "
        f"{found.seconds:.0f} s"
    )
    return "\n".join([told, *(f"differs: {key}" for key in found.differing)])
