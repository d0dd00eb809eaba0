"""`run` by a request, as it was before `ps.figures.run`."""

import pkgutil
import re
from dataclasses import dataclass, fields
from pathlib import Path

import experiments
import precsim as ps


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which experiment to run, and how."""

    name: str
    out: Path
    fast: bool = True
    force: bool = False
    data_dir: Path | None = None


class Outcome(ps.figures.Outcome):
    """What a run gave."""

    error = ""


def discover() -> list[str]:
    """Return the names of all experiments, by file name."""
    found = (module.name for module in pkgutil.iter_modules(experiments.__path__))
    return sorted(name for name in found if re.match(r"g\d\d_", name))


def run(request: Request) -> Outcome:
    """Run one experiment."""
    outcome = ps.figures.run(
        f"experiments.{request.name}",
        out=request.out,
        fast=request.fast,
        force=request.force,
        data_dir=request.data_dir,
    )
    return Outcome(**{field.name: getattr(outcome, field.name) for field in fields(outcome)})
