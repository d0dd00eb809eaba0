"""A sweep that is disturbed: workers and coordinators are killed, and the table must be the same.

Each round is a sweep by the command itself, in processes that are started and ended here.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from precsim.sweeps.store import Store

POLICIES = ("fp32", "p=fp32,update=bf16", "p=fp32,update=bf16:sr", "bf16")
"""Of the runs: rounding, stochastic rounding and emulated products, all quick to compile."""
_LAST = 0.9
"""Part of the runs after which nothing is killed any more."""
_LOOK = 0.05
"""Seconds between two looks at how many runs are done."""
_LATER = 0.2
"""Most seconds from a look to a kill, so that it meets any moment of a run."""
_GONE = 20.0
"""Seconds that workers have to end after their coordinator."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One process that was killed.

    Parameters
    ----------
    what : str
        "worker" or "coordinator".
    process : int
        Its number.
    done : int
        Finished runs at that time.
    seconds : float
        Since the round began.
    """

    what: str
    process: int
    done: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What became of a disturbed sweep.

    Parameters
    ----------
    kills : tuple of Kill
        In the order of time.
    planned : int
        How many there should have been: a sweep may end before the last ones.
    runs, equal : int
        How many runs the undisturbed sweep has, and how many of them have the same weights here.
    differing : tuple of str
        Keys of the others, and of runs that only one of the two sweeps has.
    seconds : float
        How long it took.
    """

    kills: tuple[Kill, ...]
    planned: int
    runs: int
    equal: int
    differing: tuple[str, ...]
    seconds: float


def write_grid(folder: Path, runs: int) -> Path:
    """Write a grid of at least so many small runs."""
    seeds = -(-runs // len(POLICIES))
    path = folder / "soak.toml"
    listed = ", ".join(f'"{name}"' for name in POLICIES[1:])
    path.write_text(
        f'policies = [{listed}]\nmodels = ["linear"]\nseeds = "0-{seeds - 1}"\n'
        "[settings]\nsteps = 20\n",
        "utf-8",
    )
    return path


def undisturbed(grid: Path, workers: int) -> Path:
    """Run a grid to its end; return the file of results."""
    file = grid.with_name("undisturbed.sqlite")
    with _sweep(grid, file, workers, 1) as process:
        status = process.wait()
    if status:
        raise ValueError(f"the undisturbed sweep failed: {_last_line(file)}")
    return file


def disturbed(
    grid: Path, calm: Path, *, workers: int, kills: Sequence[str], seed: int, tell: Tell
) -> Round:
    """Run a grid again in a new file and kill processes, until all runs are there.

    Parameters
    ----------
    grid : Path
        What `write_grid` wrote.
    calm : Path
        The file of `undisturbed`.
    workers : int
        Processes that train.
    kills : sequence of str
        "worker" and "coordinator", in any order.
    seed : int
        Decides their order, and after how many runs each comes.
    tell : callable
        Told of each kill, in a line.
    """
    random_ = random.Random(seed)
    wanted = hashes(calm)
    file = grid.with_name(f"disturbed-{seed}.sqlite")
    order = random_.sample(list(kills), len(kills))
    places = sorted(random_.randrange(int(len(wanted) * _LAST) or 1) for _ in kills)
    plan = list(zip(places, order, strict=True))
    made: list[Kill] = []
    begun = time.monotonic()
    status = None
    while status is None:
        with _sweep(grid, file, workers, len(kills) + 1) as process:
            while (status := process.poll()) is None:
                time.sleep(_LOOK)
                done = _done(file)
                if not plan or done < plan[0][0]:
                    continue
                what = plan[0][1]
                found = _workers(process.pid)
                target = process.pid if what == "coordinator" else random_.choice(found or [0])
                if not target or not found:
                    continue
                plan.pop(0)
                time.sleep(_LATER * random_.random())
                with suppress(ProcessLookupError):
                    os.kill(target, signal.SIGKILL)
                seconds = time.monotonic() - begun
                made.append(Kill(what=what, process=target, done=done, seconds=seconds))
                tell(f"{what} {target} killed after {done} runs, {seconds:.1f} s")
                if what == "coordinator":
                    process.wait()
                    _wait_for_end(found)
                    break  # the same command goes on
    if status:
        raise ValueError(f"the disturbed sweep failed: {_last_line(file)}")
    equal, differing = compare(wanted, hashes(file))
    return Round(
        kills=tuple(made),
        planned=len(kills),
        runs=len(wanted),
        equal=equal,
        differing=differing,
        seconds=time.monotonic() - begun,
    )


def compare(wanted: Mapping[str, str], here: Mapping[str, str]) -> tuple[int, tuple[str, ...]]:
    """Return how many hashes are equal, and the keys of those that are not, or of one side only.

    Examples
    --------
    >>> compare({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "4"})
    (1, ('b', 'c', 'd'))
    """
    equal = {key for key, value in wanted.items() if here.get(key) == value}
    return len(equal), tuple(sorted({*wanted, *here} - equal))


def hashes(file: Path) -> dict[str, str]:
    """Return the SHA-256 of the weights of each finished run, by key."""
    with Store(file) as store:
        return {run.key: run.result["weights_hash"] for run in store.runs() if run.is_done}


@contextmanager
def _sweep(grid: Path, file: Path, workers: int, tries: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the command in a process of its own, which ends with this one's interest in it.

    Programs are kept beside the results: a killed worker may leave a damaged one.
    """
    words = ["sweep", str(grid), "--out", str(file), "--workers", str(workers)]
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(grid.with_name("programs")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with _log(file).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "precsim", *words, "--tries", str(tries)],
            stdout=log,
            stderr=log,
            env={**os.environ, **settings},
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _log(file: Path) -> Path:
    return file.with_suffix(".log")


def _last_line(file: Path) -> str:
    """Return what the command has said last; its folder may be deleted before anybody reads it."""
    lines = _log(file).read_text("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _done(file: Path) -> int:
    """Return how many runs are in a file that another process writes."""
    if not file.exists():
        return 0
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as there,
    ):
        return int(there.execute("SELECT count(*) FROM runs").fetchone()[0])
    return 0


def _workers(coordinator: int) -> list[int]:
    """Return the numbers of a coordinator's workers."""
    import psutil

    found = []
    with suppress(psutil.Error):
        for child in psutil.Process(coordinator).children():
            with suppress(psutil.Error):
                if any("spawn_main" in word for word in child.cmdline()):
                    found.append(int(child.pid))
    return sorted(found)


def _wait_for_end(processes: Sequence[int]) -> None:
    """Wait until the workers of a dead coordinator have ended, which they do by themselves."""
    until = time.monotonic() + _GONE
    while time.monotonic() < until and any(map(_is_alive, processes)):
        time.sleep(_LOOK)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
