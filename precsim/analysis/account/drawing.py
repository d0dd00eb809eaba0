"""Pictures of shares in a page: SVG inside HTML, without text that a narrow screen would cut."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import accumulate, groupby

from precsim.analysis.account.rows import OperationRow, summed

_MOST = 400
"""Bars along a program at most; operations next to each other share one."""
_LEAST = 6
"""Percent of the width that a name needs; shorter strips have it as a title only."""


def bar(part: float, largest: float) -> str:
    """Return a bar from a middle line, to the right if positive, else to the left."""
    size = _ratio(part, largest) * 100
    left = 100 + min(size, 0)
    return (
        '<svg class="bar" viewBox="0 0 200 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{_sign(part)}" x="{left:.2f}" y="1" width="{abs(size):.2f}" height="8"/>'
        '<path class="axis" d="M100 0V10"/></svg>'
    )


def _sign(part: float) -> str:
    return "less" if part < 0 else "more"


def _ratio(part: float, whole: float) -> float:
    """Return a part of a whole from -1 to 1; 0 where there is none."""
    ratio = part / whole if whole else 0.0
    return max(-1.0, min(1.0, ratio)) if math.isfinite(ratio) else 0.0


def along(rows: Sequence[OperationRow], names: Sequence[str], up: int) -> str:
    """Return shares in the order of the program as bars, with their running sum as a line.

    What has the sign of `up` goes up.
    """
    shares = [up * row.share if math.isfinite(row.share) else 0.0 for row in rows]
    running = list(accumulate(shares))
    bins = list(_bins(len(rows)))
    ups = [summed(s for s in shares[a:b] if s > 0) for a, b in bins]
    downs = [summed(s for s in shares[a:b] if s < 0) for a, b in bins]
    largest = max([0.0, *map(abs, (*ups, *downs, *running))])
    width = 800 / max(len(bins), 1)
    parts = []
    for n, (a, b) in enumerate(bins):
        what = escape(names[a] if b - a == 1 else f"{names[a]} to {names[b - 1]}")
        for part in (ups[n], downs[n]):
            if part:
                size = 100 * _ratio(part, largest)
                parts.append(
                    f'<rect class="{_sign(part)}" x="{n * width + width * 0.08:.2f}" '
                    f'y="{100 - max(size, 0):.2f}" width="{width * 0.84:.2f}" '
                    f'height="{abs(size):.2f}"><title>{what}</title></rect>'
                )
    steps = ((n, running[b - 1]) for n, (_, b) in enumerate(bins))
    line = " ".join(
        f"{(n + 0.5) * width:.2f},{100 - 100 * _ratio(y, largest):.2f}" for n, y in steps
    )
    scopes = f'<div class="runs" aria-hidden="true">{"".join(_runs(rows))}</div>'
    return (
        '<svg class="along" viewBox="0 -2 800 204" preserveAspectRatio="none" role="img" '
        'aria-label="shares in the order of the program, and their running sum">'
        f'<path class="axis" d="M0 100H800"/>{"".join(parts)}<polyline points="{line}"/></svg>'
        f"{scopes if any(row.scope for row in rows) else ''}"
    )


def _bins(count: int) -> Iterator[tuple[int, int]]:
    """Yield the first operation of each bar, and the one after its last."""
    bins = min(count, _MOST)
    for n in range(bins):
        yield n * count // bins, (n + 1) * count // bins


def _runs(rows: Sequence[OperationRow]) -> Iterator[str]:
    """Yield a strip for each scope, as long as its operations follow each other."""
    for (scope, is_backward), group in groupby(rows, lambda row: (row.scope, row.is_backward)):
        part = 100 * len(list(group)) / len(rows)
        name = escape((scope or "-") + (", backward" if is_backward else ""))
        yield f'<span style="width:{part:.3f}%" title="{name}">{name if part > _LEAST else ""}</span>'
