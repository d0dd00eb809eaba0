"""A report in words and numbers: its headline, what left the range, shares, decibels."""

import math
from collections.abc import Iterator
from typing import Any

from precsim.analysis.account.rows import EVENTS, GroupRow, OperationRow
from precsim.analysis.account.stated import Stated
from precsim.formats.arguments import not_allowed

GROUPINGS = ("scope", "primitive", "line")
"""What operations can have in common."""
_EVENT_WORDS = dict(zip(EVENTS, (*EVENTS[:-1], "NaN"), strict=True))
_NONE = {"scope": "(no scope)", "line": "(no line)", "primitive": "(no name)"}


def groups(report: Stated, by: str) -> tuple[GroupRow, ...]:
    """Return the rows of a report by what they have in common, the largest share first."""
    if by not in GROUPINGS:
        raise not_allowed("by", by, GROUPINGS)
    found: tuple[GroupRow, ...] = getattr(report, f"by_{by}")()
    return found


def group_name(group: GroupRow, by: str) -> str:
    """Return what the operations of a group have in common, and whether they are backward."""
    return (group.name or _NONE[by]) + (", backward" if group.is_backward else "")


def title(report: Stated) -> str:
    """Return which arithmetic is compared with which, and what is asked about."""
    asked = f", asked about: {report.of}" if report.of else ""
    return f"{report.policy} against {report.reference}{asked}"


def verdict(report: Stated) -> tuple[str, ...]:
    """Return whether the account closes, a sentence each."""
    if report.obstacles:
        return tuple(f"The account does not close: {reason}." for reason in report.obstacles)
    if not report.gross and not report.change:
        return ("Nothing is lost: no rounding changes the result.",)
    left = "The account closes: the shares sum to the change"
    if report.remainder:
        part = percent(abs(report.remainder), report.gross) if report.gross else "all"
        left += f" except for {number(report.remainder)}, {part} of their gross"
    return (f"{left}.",)


def figures(report: Stated) -> dict[str, str]:
    """Return the numbers of the headline by name."""
    gross = number(report.gross)
    if report.change and math.isfinite(report.change):
        gross += f" ({report.gross / abs(report.change):.3g} times the change)"
    return {
        "value": number(report.value),
        "reference": number(report.reference_value),
        "change": number(report.change),
        "remainder": number(report.remainder),
        "gross": gross,
    }


def events(row: Any) -> str:
    """Return what left the range in an operation, or in a group of them; empty if nothing did."""
    counts = ((getattr(row, name), word) for name, word in _EVENT_WORDS.items())
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def number(x: float) -> str:
    """Return a number in six digits at most."""
    return f"{x:.6g}"


def rough(x: float) -> str:
    """Return a number in two digits; up to a million without an exponent."""
    return f"{float(f'{x:.2g}'):g}"


def percent(part: float, whole: float) -> str:
    """Return a part in percent."""
    return f"{rough(100 * part / whole)} %"


def is_share(change: float) -> bool:
    """Return whether shares are told in percent of the change, and not as they are."""
    return bool(change) and math.isfinite(change)


def direction(change: float) -> int:
    """Return the sign of what counts as positive in `share`."""
    return -1 if is_share(change) and change < 0 else 1


def share(part: float, change: float) -> str:
    """Return a share, with its sign, in percent of the magnitude of the change, without the sign %.

    A share that has the sign of the change is positive. Where there is no change to compare with,
    the share is told as it is.
    """
    found = 100 * part / change if is_share(change) else part
    return f"{found:+.3g}" if found and not math.isnan(found) else f"{abs(found):g}"


def share_heading(change: float) -> str:
    """Return what the numbers of `share` are."""
    return "share\n%" if is_share(change) else "share"


def decibel(x: float) -> str:
    """Return an SQNR; "exact" where roundings change nothing."""
    return "exact" if x == math.inf else f"{x:.1f}"


def factor(x: float) -> str:
    """Return how much an operation amplifies; nothing where no error comes in."""
    return "" if math.isnan(x) else rough(x)


_LOSING = 10.0
"""Amplifications beyond it are called so."""


def losses(
    row: OperationRow, name: str, change: float, gross: float
) -> Iterator[tuple[float, str]]:
    """Yield what an operation loses: a size to compare, and a sentence.

    What an operation amplifies is a sum of errors, some of which may have cancelled: it counts as
    much of the gross as it passes on of the change.
    """
    if row.share:
        times = f", run {row.times} times," if row.times > 1 else ""
        worst = f"up to {rough(row.max_ulps)} ulp" if row.max_ulps else "no error"
        made = f"makes {_of_change(row.share, change)} by rounding its operands and result"
        yield abs(row.share), f"{name}{times} {made} to {row.format} ({worst})"
    if row.condition > _LOSING and row.inherited_error > 0:
        passed = min(abs(row.through / change), 1) * gross if change else abs(row.through)
        cause = "cancellation" if row.primitive in _ADDING else "an ill-conditioned operation"
        grown = f" into {float(f'{row.inherited_error:.1g}'):g}"
        grown = " where its exact result is 0" if math.isinf(row.inherited_error) else grown
        error = f"a relative error of {row.incoming_error:.1g}{grown}"
        text = f"{name} amplifies {error}: {cause}"
        yield passed * (1 - 1 / row.condition), text


_ADDING = ("add", "sub", "add_any", "reduce_sum", "dot_general", "conv_general_dilated", "cumsum")


def _of_change(part: float, whole: float) -> str:
    if is_share(whole):
        return f"{100 * part / whole:.3g} % of the change"
    return f"{part:.2g} (no change to compare with)"
