"""Cases of `precsim sweep`: twice the runs on twice the workers, and what a run costs besides."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.case import Case, Contender, Goal, Setting, SkipError

ONE, TWO = "4 runs, 1 worker", "8 runs, 2 workers"
SHORT, ALLOWED = "40 short runs, 1 worker", "5 % of 40 runs of 10 s"
_STEPS = 12_000
"""Of a run that occupies a core for longer than its worker takes to start."""


def cases() -> Iterator[Case]:
    """Yield them in the order of the table; both count the start of the workers."""
    yield Case(
        name="sweep/weak scaling",
        build=weak_scaling,
        goals=(Goal(measured=TWO, against=ONE, at_most=2 / 1.8),),
        size=1,
    )
    yield Case(
        name="sweep/overhead",
        build=overhead,
        goals=(Goal(measured=SHORT, against=ALLOWED, at_most=1),),
        size=1,
    )


def weak_scaling(_setting: Setting) -> dict[str, Contender | str]:
    """Sweep over as many seeds for each worker, whose programs are in the cache."""
    _require()
    if (os.cpu_count() or 1) < 2:
        raise SkipError("one core")
    return {
        ONE: Contender(run=partial(_sweep, 4, _STEPS, 1)),
        TWO: Contender(run=partial(_sweep, 8, _STEPS, 2)),
    }


def overhead(_setting: Setting) -> dict[str, Contender | str]:
    """Sweep over runs of one step, against the time that they may cost if they took 10 s."""
    _require()
    return {
        SHORT: Contender(run=partial(_sweep, 40, 1, 1)),
        ALLOWED: Contender(run=partial(time.sleep, 0.05 * 40 * 10)),
    }


def _require() -> None:
    for name in ("distributed", "cryptography"):
        if importlib.util.find_spec(name) is None:
            raise SkipError(f"{name} is not installed")


def _sweep(runs: int, steps: int, workers: int) -> None:
    """Sweep over seeds of the float32 line, by the command, into a new file."""
    with tempfile.TemporaryDirectory() as folder:
        grid = Path(folder) / "grid.toml"
        grid.write_text(
            f'policies = ["fp32"]\nmodels = ["linear"]\nseeds = "0-{runs - 1}"\n'
            f"[settings]\nsteps = {steps}\n",
            "utf-8",
        )
        words = ["sweep", str(grid), "--workers", str(workers)]
        subprocess.run([sys.executable, "-m", "precsim", *words], check=True, capture_output=True)
