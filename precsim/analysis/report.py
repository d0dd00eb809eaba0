"""Tables of training comparisons, for the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.box import SIMPLE
from rich.table import Table

from precsim.analysis.comparison import PolicySummary

LEGEND = (
    "Loss gap, weight drift, gradient error: distance from fp32, and 0 means none.",
    "Underflow: gradients that became 0. Swallowed: updates that changed no weight.",
)
"""What the tables' words mean. `docs/tutorials/first-training.md` explains every column."""


class _Column(NamedTuple):
    heading: str
    field: str


_POLICY = _Column("policy", "policy")
_ACCURACY = _Column("test\naccuracy\n%", "test_accuracy_percent")
_COST = (
    _Column("loss\ngap", "loss_gap"),
    _Column("weight\ndrift", "weight_drift"),
    _Column("skipped\nsteps", "skipped_steps"),
    _Column("compile\ns", "compile_seconds"),
    _Column("train\ns", "run_seconds"),
)
_CAUSES = (
    _Column("gradient\nunderflow\n%", "gradient_underflow_percent"),
    _Column("overflow,\nsaturated\n%", "beyond_range_percent"),
    _Column("swallowed\nupdates\n%", "swallowed_updates_percent"),
    _Column("first\ngradient\nerror", "gradient_error"),
)
_LEAST_NAME = 11
"""Columns that a name has at least; a longer one is broken into lines if there is no room."""
_EDGES = 2


def comparison_tables(summaries: Sequence[PolicySummary], width: int) -> list[Table]:
    """Return tables with one row per policy, none wider than a terminal.

    Parameters
    ----------
    summaries : sequence of PolicySummary
        The rows; what each column means is said there.
    width : int
        Columns of the terminal.

    Returns
    -------
    list of Table
        One table, or, where it has no room, the costs first and their causes next. Numbers are
        never cut off; long names are broken into lines.
    """
    backends = sorted({summary.backend for summary in summaries})
    metrics = list(dict.fromkeys(summary.metric for summary in summaries))
    is_accuracy = metrics == ["accuracy"]
    score = _ACCURACY if is_accuracy else _Column(f"test\n{'/'.join(metrics)}", "test_score")
    cost: tuple[_Column, ...] = (score, *_COST)
    if len(backends) > 1:
        cost = (*cost, _Column("backend", "backend"))
    rows = {column: [_cell(s, column.field) for s in summaries] for column in (*cost, *_CAUSES)}
    sizes = {
        column: max(map(len, [*column.heading.split("\n"), *cells]))
        for column, cells in rows.items()
    }
    names = [summary.policy for summary in summaries]
    longest = max(map(len, [*names, _POLICY.heading]))
    room = width - _EDGES - min(longest, _LEAST_NAME)
    parts = _packed((*cost, *_CAUSES), sizes, room)
    if len(parts) > 1:
        parts = [*_packed(cost, sizes, room), *_packed(_CAUSES, sizes, room)]
    title = (
        f"What each policy lost, against fp32 on the same data (products: {', '.join(backends)})"
    )
    tables = []
    for k, part in enumerate(parts):
        table = _table(title if k == 0 else "What caused it")
        left = width - _EDGES - sum(sizes[column] + 1 for column in part)
        table.add_column(_POLICY.heading, overflow="fold", max_width=max(min(longest, left), 1))
        for column in part:
            table.add_column(column.heading, justify="right", no_wrap=True)
        for name, *cells in zip(names, *(rows[column] for column in part), strict=True):
            table.add_row(name, *cells)
        tables.append(table)
    return tables


def _packed(
    columns: Sequence[_Column], sizes: Mapping[_Column, int], room: int
) -> list[list[_Column]]:
    """Divide columns among tables, as many in each as there is room for."""
    parts: list[list[_Column]] = []
    left = 0
    for column in columns:
        if not parts or sizes[column] + 1 > left:
            parts.append([])
            left = room
        parts[-1].append(column)
        left -= sizes[column] + 1
    return parts


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE, padding=0)


def _cell(summary: PolicySummary, name: str) -> str:
    value = getattr(summary, name)
    if isinstance(value, (str, int)):
        return str(value)
    if name.endswith("_seconds"):
        return f"{value:.1f}"
    if name == "test_accuracy_percent":
        return f"{value:.2f}"
    if name == "test_score":
        return "-" if math.isnan(value) else f"{value:.4g}"
    if name == "loss_gap":
        return "0" if value == 0 else f"{value:+.3f}"
    return _percent(value) if name.endswith("_percent") else _one_digit(value)


def _percent(value: float) -> str:
    """Two decimals, or one digit of what is smaller; 0 means none at all."""
    return f"{value:.2f}" if value >= 0.01 else _one_digit(value)


def _one_digit(value: float) -> str:
    return f"{value:.1g}" if value < 1 else f"{value:.3g}"


def places_table(rates: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table | None:
    """Return where the losses happened: policy -> place -> rates, the nonzero ones.

    Parameters
    ----------
    rates : mapping
        For each policy what `event_rates` returns.

    Returns
    -------
    Table, optional
        One row for each place with a rate of at least 0.01 %; None if there is no such place.
    """
    table = _table("Where: places with at least 0.01 % of range events")
    table.add_column("policy\n  place", overflow="fold")
    for title in ("underflow\n%", "subnormal\n%", "overflow\n%", "saturated\n%"):
        table.add_column(title, justify="right", no_wrap=True)
    for policy, places in rates.items():
        shown = {place: r for place, r in places.items() if max(r.values()) >= 0.01}
        if shown:
            table.add_row(policy)
        for place, r in shown.items():
            cells = (_percent(r[k]) for k in ("underflow", "subnormal", "overflow", "saturation"))
            table.add_row(f"  {place}", *cells)
    return table if table.row_count else None
