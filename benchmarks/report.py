"""What a run leaves: one table, and JSON with versions, processor and date."""

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

import precsim as ps

PACKAGES = (
    "numpy",
    "jax",
    "jaxlib",
    "ml_dtypes",
    "gfloat",
    "pychop",
    "apytypes",
    "torch",
    "mmasim",
    "numba",
)


def table(results: dict[str, Any]) -> Table:
    """Return the table of all ratios; times are per element, or per call where one call counts."""
    drawn = Table(title="Speed: ratios of paired times, median and quartiles")
    for heading in ("case", "measured", "against"):
        drawn.add_column(heading, no_wrap=True)
    for heading in ("size", "time", "ratio", "goal", "reached", "wrong"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for name, outcome in results.items():
        for row in outcome["rows"]:
            drawn.add_row(*cells(name, row))
        drawn.add_section()
    return drawn


def cells(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    """Return one row of the table."""
    ratio = f"{row['ratio']:.2f} ({row['low']:.2f}-{row['high']:.2f})"
    goal = "" if row["goal"] is None else f"<= {row['goal']:.2f}"
    reached = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[row["reached"]]
    wrong = "" if row["wrong"] is None else f"{row['wrong']}/{row['compared']}"
    if row["wrong"]:
        wrong = f"[red]{wrong}[/]"
    who = (escape(name), escape(row["measured"]), escape(row["against"]))
    return (*who, size(row["size"]), time(row), ratio, goal, reached, wrong)


def size(elements: int) -> str:
    """Return a number of elements in few characters."""
    return "one call" if elements == 1 else f"{elements:.0e}".replace("e+0", "e")


def time(row: dict[str, Any]) -> str:
    """Return the time per element in ns or ps, or per call in ms."""
    if row["size"] == 1:
        return f"{row['nanoseconds'] / 1e6:.1f} ms"
    if row["nanoseconds"] < 0.01:  # products on a GPU
        return f"{row['nanoseconds'] * 1e3:.3f} ps"
    return f"{row['nanoseconds']:.3f} ns"


def provenance(command: str) -> dict[str, Any]:
    """Return where, when and with what the numbers were made."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return {
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": cores(),
        "platform": platform.platform(),
        "versions": {"python": platform.python_version(), "precsim": ps.__version__, **found},
    }


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Return the processor's name, with AVX-512 if it has that."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    about = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {name.strip(): value.strip() for name, value in about.items()}
    wide = ", AVX-512" if "avx512f" in facts.get("flags", "") else ""
    return facts.get("model name", platform.machine()) + wide
