"""What an experiment is, how it is found, and how one is run: compute, check, draw, record."""

import difflib
import importlib
import math
import pkgutil
import re
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import experiments
import precsim as ps
from experiments import data_files, record
from experiments.check import Check, Grade, Results


class Experiment(Protocol):
    """A module ``gNN_topic.py``.

    Optional: SEED, INPUTS (names of files it reads), PANELS (their number; those that stay empty
    vanish) and TABLES (ends of the names of published data files; `check` and `plot` take those
    that are found as `tables`, see `data_files`).
    """

    TITLE: str
    CITATION: str
    CLASS: Grade
    PUBLISHED: Mapping[str, Any]

    def compute(self, fast: bool) -> Results:
        """Return every array that `check` and `plot` use; `fast` keeps it within seconds."""

    def check(self, results: Results, **tables: Any) -> list[Check]:
        """Compare with `PUBLISHED`."""

    def plot(self, results: Results, axes: list[Any], **tables: Any) -> None:
        """Draw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which experiment to run, and how."""

    name: str
    out: Path
    fast: bool = True
    force: bool = False
    command: str = ""
    data_dir: Path | None = None
    width: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run gave."""

    name: str
    title: str = ""
    citation: str = ""
    grade: str = "A"
    checks: tuple[Check, ...] = ()
    seconds: float = math.nan
    reused: bool = False
    error: str = ""
    absent: tuple[str, ...] = ()

    @property
    def mismatches(self) -> list[Check]:
        """Return the checks that do not match."""
        return [check for check in self.checks if not check.matched]

    @property
    def failed(self) -> bool:
        """Return whether it broke, or missed a number of class A."""
        return bool(self.error) or any(check.grade == "A" for check in self.mismatches)


def discover() -> list[str]:
    """Return the names of all experiments, by file name."""
    found = (module.name for module in pkgutil.iter_modules(experiments.__path__))
    return sorted(name for name in found if re.match(r"g\d\d_", name))


def find(word: str) -> str:
    """Return the experiment that a word stands for: g03_euler, G03, g3 or 3."""
    names = discover()
    key = word.lower().removesuffix(".py")
    number = re.fullmatch(r"g?(\d+)", key)
    for name in names:
        if key == name or (number and int(number[1]) == int(name[1:3])):
            return name
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
    raise LookupError(f"unknown experiment {word!r}; {hint}")


def run(request: Request) -> Outcome:
    """Run one experiment, or take its result from an earlier run of the same code; never raise."""
    try:
        return _run(request)
    except Exception as problem:  # noqa: BLE001 one broken figure must not take the others along
        traceback.print_exc()
        return Outcome(name=request.name, error=f"{type(problem).__name__}: {problem}")


def _run(request: Request) -> Outcome:
    name = f"experiments.{request.name}"
    module = cast("Experiment", importlib.import_module(name))
    folder = request.out / request.name
    endings = tuple(getattr(module, "TABLES", ()))
    files = data_files.locate(request.data_dir, endings)
    given: dict[str, Any] = {}
    if endings:
        tables = {name: data_files.read_columns(path) for name, path in files.items()}
        given = {"tables": tables}
    sources = tuple(files.values())
    keys = [record.code_key(module, fast=fast, tables=sources) for fast in (request.fast, False)]
    kept = None if request.force else record.load(folder, keys)
    start = time.perf_counter()
    results = module.compute(request.fast) if kept is None else kept.results
    seconds = time.perf_counter() - start if kept is None else kept.seconds
    checks = tuple(module.check(results, **given))
    if kept is None:
        facts = record.provenance(module, request, seconds=seconds, checks=checks)
        record.save(folder, keys[0], results, facts)
    panels = getattr(module, "PANELS", 1)
    with ps.plots.figure(panels, width=request.width, path=folder / "figure") as axes:
        module.plot(results, axes, **given)
    about = {"title": module.TITLE, "citation": module.CITATION, "grade": module.CLASS}
    absent = tuple(name for name in endings if name not in files)
    return Outcome(
        name=request.name,
        checks=checks,
        seconds=seconds,
        reused=kept is not None,
        absent=absent,
        **about,
    )
