"""What is printed of claims: a paragraph for each, a table of many, JSON."""

import datetime as dt
import math
import platform
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.check import Check
from experiments.claims.row import KINDS, Claim, Outcome


def written(value: float) -> str:
    """Return a number in the fewest digits that tell it apart at seven."""
    return f"{value:.7g}" if abs(value) < 1e7 or value % 1 or math.isinf(value) else f"{value:.12g}"


def value(check: Check) -> str:
    """Return the number that was computed, in as many digits as are compared."""
    if check.kind == "digits":
        return f"{check.computed:.{int(check.tolerance) + 1}g}"
    return f"{check.computed:.4g}" if check.grade == "B" else written(check.computed)


def expected(check: Check) -> str:
    """Return what a number has to be, in words."""
    if isinstance(check.published, tuple):
        return f"from {written(check.published[0])} to {written(check.published[1])}"
    spread = f" ± {check.tolerance:g}" if check.kind == "absolute" else ""
    return f"{written(check.published)}{spread}"


def number(check: Check) -> str:
    """Return one number beside what is expected."""
    text = f"{check.name}: {value(check)}"
    if not check.matched:
        return f"{text}, which is NOT as expected: {expected(check)} ({check.rule})"
    return text if check.kind in ("exact", "digits") else f"{text} (expected {expected(check)})"


def paragraph(outcome: Outcome) -> str:
    """Return all of one claim, within the width of the terminal."""
    claim = outcome.claim
    lines = [
        f"{claim.number}. {claim.says}",
        f"{outcome.verdict.upper()}. {claim.truth}",
        *map(number, outcome.checks),
        f"{claim.kind}: {KINDS[claim.kind]}",
    ]
    width = max(shutil.get_terminal_size().columns, 40)
    first, *rest = lines
    indents = ["   ", *["     "] * len(outcome.checks), "   "]
    text = [textwrap.fill(first, width, subsequent_indent="   ")]
    for line, indent in zip(rest, indents, strict=True):
        text.append(
            textwrap.fill(line, width, initial_indent=indent, subsequent_indent=indent + "  ")
        )
    return "\n".join(text)


def line(outcome: Outcome) -> str:
    """Return one line of the table of many claims."""
    total = len(outcome.checks)
    matched = f"{total - len(outcome.mismatches)}/{total}"
    claim = outcome.claim
    row = f"{claim.number:>3}  {outcome.verdict:<16}{matched:>6}{outcome.seconds:>7.1f} s  "
    room = max(shutil.get_terminal_size().columns - len(row), 20)
    return row + textwrap.shorten(claim.says, room, placeholder="...")


def listed(claims: Sequence[Claim]) -> str:
    """Return one line for each claim, as long as it is, without measuring it."""
    return "\n".join(f"{claim.number:>3}  {claim.kind:<10}{claim.says}" for claim in claims)


def identity(claim: Claim) -> dict[str, Any]:
    """Return what names a claim in JSON."""
    return {"row": claim.number, "section": claim.section, "says": claim.says}


def described(claims: Sequence[Claim]) -> dict[str, Any]:
    """Return claims for JSON without measuring them, and so without verdicts."""
    rows = [identity(claim) | {"kind": claim.kind, "command": claim.command} for claim in claims]
    return {"claims": rows}


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """Return one claim for JSON; an infinite number or a NaN is a string."""
    claim = outcome.claim
    return identity(claim) | {
        "verdict": outcome.verdict,
        "truth": claim.truth,
        "kind": claim.kind,
        "numbers": [
            {
                "name": check.name,
                "computed": plain(check.computed),
                "written": value(check),
                "expected": [plain(x) for x in check.published]
                if isinstance(check.published, tuple)
                else plain(check.published),
                "rule": check.rule,
                "matched": check.matched,
            }
            for check in outcome.checks
        ],
        "command": claim.command,
        "seconds": round(outcome.seconds, 3),
    }


def record(outcomes: Sequence[Outcome], *, full: bool) -> dict[str, Any]:
    """Return all claims for JSON, with where and when they were settled."""
    import jax

    return {
        "full": full,
        "where": {
            "device": jax.devices()[0].device_kind,
            "processor": platform.machine(),
            "jax": jax.__version__,
            "numpy": np.__version__,
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
        },
        "claims": [as_dict(outcome) for outcome in outcomes],
    }


def plain(value: float) -> float | str:
    """Return a number as JSON can hold it."""
    return value if math.isfinite(value) else str(value)
