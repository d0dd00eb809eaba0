"""`precsim claims`: what articles say about low precision, settled by numbers."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from precsim.cli.cache import add_argument, with_cache
from precsim.cli.experiments_package import load_experiments
from precsim.cli.processes import side_by_side
from precsim.formats.arguments import integer


def _command() -> ModuleType:
    return import_module(f"{load_experiments().__name__}.claims.command")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    _command().add_arguments(parser)
    parser.add_argument(
        "--jobs", type=int, metavar="N", default=1, help="claims side by side (default: 1)"
    )
    add_argument(parser)


@with_cache
def run(args: argparse.Namespace) -> int:
    """Settle the claims that are named, or all."""
    command, jobs = _command(), integer(args.jobs, "--jobs", 1)
    if jobs == 1 or len(args.words) == 1:
        return int(command.run(args))
    return int(command.run(args, partial(_in_processes, command.settle_number, jobs)))


def _in_processes(
    settle: Callable[..., Any], jobs: int, claims: Sequence[Any], *, full: bool
) -> Iterator[Any]:
    """Yield what becomes of each claim, in their order, from processes."""
    from precsim.sweeps.crew import cache_settings

    numbers, found = [claim.number for claim in claims], {}
    work = partial(_settle, settle, cache_settings(), full=full)
    with closing(side_by_side(work, numbers, jobs, _lost)) as outcomes:
        for outcome in outcomes:
            found[outcome.claim.number] = outcome
            while numbers and numbers[0] in found:
                yield found.pop(numbers.pop(0))


def _settle(settle: Callable[..., Any], cache: dict[str, Any], number: int, *, full: bool) -> Any:
    """Settle a claim in a process that keeps and uses compiled programs as its command does."""
    import jax

    for name, value in cache.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]
    return settle(number, full=full)


def _lost(number: int, code: int | None) -> Any:
    raise ValueError(f"row {number}: its process ended with exit code {code}")
