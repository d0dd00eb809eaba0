"""The command `precsim claims`, which is ``python -m experiments.claims`` too."""

import argparse
import json
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import active_children, get_context
from typing import Any

import jax

from experiments.claims import report
from experiments.claims.listing import chosen
from experiments.claims.row import Claim, Outcome, settle

CACHE = (
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_enable_xla_caches",
)
"""What a process has to be told, so that it keeps and uses compiled programs as this one does."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "words", nargs="*", metavar="ROW", help="numbers of claims, separated by spaces (all)"
    )
    parser.add_argument(
        "--full", action="store_true", help="all seeds and the long runs, not the short ones"
    )
    parser.add_argument("--list", action="store_true", help="list the claims, measure nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--jobs", type=int, metavar="N", default=1, help="claims side by side (default: 1)"
    )


def as_json(value: dict[str, Any]) -> str:
    """Return the text of what `--json` prints."""
    return json.dumps(value, indent=1, ensure_ascii=False)


def settled(claims: Sequence[Claim], *, full: bool, jobs: int) -> Iterator[Outcome]:
    """Yield what becomes of each claim, in their order."""
    if jobs == 1 or len(claims) == 1:
        yield from (settle(claim, full=full) for claim in claims)
        return
    told = {name: getattr(jax.config, name) for name in CACHE}
    count, others = min(jobs, len(claims)), active_children()
    with ProcessPoolExecutor(count, get_context("spawn"), _configure, (told,)) as pool:
        try:
            with _uninterrupted():
                found = pool.map(partial(_settle, full=full), [each.number for each in claims])
            yield from found
        except BrokenProcessPool:
            raise ValueError("a process that settles claims was ended from outside") from None
        except BaseException:
            for process in set(active_children()).difference(others):
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back, also in all processes that start meanwhile: this one hears it later."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _configure(told: dict[str, Any]) -> None:
    for name, value in told.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]


def _settle(number: int, *, full: bool) -> Outcome:
    (claim,) = chosen([str(number)])
    return settle(claim, full=full)


def run(args: argparse.Namespace) -> int:
    """Settle claims; return 1 if one is not reproduced.

    Raises
    ------
    ValueError
        If a row is unknown, or ``--jobs`` no number from 1.
    """
    claims = chosen(args.words)
    if args.jobs < 1:
        raise ValueError(f"--jobs is {args.jobs}; allowed are integers from 1")
    if args.list:
        print(as_json(report.described(claims)) if args.json else report.listed(claims))
        return 0
    outcomes = []
    for outcome in settled(claims, full=args.full, jobs=args.jobs):
        outcomes.append(outcome)
        if args.json:
            continue
        brief = not args.words and not outcome.mismatches
        print(report.line(outcome) if brief else report.paragraph(outcome) + "\n", flush=True)
    failed = [outcome for outcome in outcomes if outcome.mismatches]
    if args.json:
        print(as_json(report.record(outcomes, full=args.full)))
    elif not args.words:
        seeds = "all seeds" if args.full else "few seeds; --full takes all, and the long runs"
        print(
            f"{len(outcomes) - len(failed)} of {len(outcomes)} settled, {seeds}."
            " precsim claims ROW shows the numbers."
        )
    return int(bool(failed))
