"""The command `precsim claims`, which is ``python -m experiments.claims`` too."""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from experiments.claims import report
from experiments.claims.listing import chosen
from experiments.claims.row import Claim, Outcome, settle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="ROW",
        help="numbers of claims, separated by spaces (default: all)",
    )
    parser.add_argument(
        "--full", action="store_true", help="all seeds and the long runs, not the short ones"
    )
    parser.add_argument("--list", action="store_true", help="list the claims, measure nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def as_json(value: dict[str, Any]) -> str:
    """Return the text of what `--json` prints."""
    return json.dumps(value, indent=1, ensure_ascii=False)


def one_by_one(claims: Sequence[Claim], *, full: bool) -> Iterator[Outcome]:
    """Yield what becomes of each claim, in their order."""
    yield from (settle(claim, full=full) for claim in claims)


def settle_number(number: int, *, full: bool) -> Outcome:
    """Settle the claim of a number, as a process of its own is asked to."""
    (claim,) = chosen([str(number)])
    return settle(claim, full=full)


def run(args: argparse.Namespace, settled: Callable[..., Iterator[Outcome]] = one_by_one) -> int:
    """Settle claims, by another way than one by one if it is given; 1 if one is not reproduced.

    Raises
    ------
    ValueError
        If a row is unknown.
    """
    claims = chosen(args.words)
    if args.list:
        print(as_json(report.described(claims)) if args.json else report.listed(claims))
        return 0
    outcomes = []
    for outcome in settled(claims, full=args.full):
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
