"""The map of the shares of a training: scopes by steps."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from precsim.analysis.account.report import Report
from precsim.analysis.account.words import group_name
from precsim.analysis.tables import html_table, text_table
from precsim.formats.arguments import each_of, integer, shown

_ROWS, _COLUMNS = 20, 6
"""What the text shows at most."""


@dataclass(frozen=True, slots=True)
class ShareMap:
    """Shares of scopes along a training, as `share_map` returns them.

    Parameters
    ----------
    steps : ndarray of int, shape (steps,)
        Numbers of the steps.
    scopes : tuple of str
        Scopes in the order in which the program first computes them, backward ones marked so.
    shares, sqnr : ndarray, shape (scopes, steps)
        Sum of the shares of each scope; signal-to-noise ratio of its own roundings, in decibel. NaN
        where a step has no such scope.
    events : ndarray of int, shape (scopes, steps)
        Results that left the range: underflowed, overflowed, saturated or NaN.
    change, remainder, gross : ndarray, shape (steps,)
        As of `Report`.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> find = ps.analyzer(jnp.sin, policy="bf16")
    >>> found = ps.share_map((n, find(jnp.float32(n))) for n in (1, 2))
    >>> found.shares.shape, bool((found.shares[0] == found.change).all())
    ((1, 2), True)
    >>> print(found)
    shares of 1 scope in 2 steps, in % of the gross of each step; they leave up to 0 %
    <BLANKLINE>
    scope       step 1  step 2  worst SQNR dB  events
    (no scope)    -100     100           54.3       0
    """

    steps: np.ndarray
    scopes: tuple[str, ...]
    shares: np.ndarray
    sqnr: np.ndarray
    events: np.ndarray
    change: np.ndarray
    remainder: np.ndarray
    gross: np.ndarray

    def __str__(self) -> str:
        """Return the largest shares of up to six steps, in percent of the gross of their step."""
        parts = [self._sentence(), text_table(*self._table())]
        return "\n\n".join(parts) if len(self.steps) and self.scopes else parts[0]

    def _repr_html_(self) -> str:
        """Return the same for a notebook."""
        return html_table(self._sentence(), *self._table())

    def _sentence(self) -> str:
        count, steps = len(self.scopes), len(self.steps)
        if not count or not steps:
            return f"shares of {count} scopes in {steps} steps"
        left = max(map(_share, np.abs(self.remainder), self.gross))
        which = "1 step" if steps == 1 else f"{steps} steps"
        scopes = "1 scope" if count == 1 else f"{count} scopes"
        return (
            f"shares of {scopes} in {which}, in % of the gross of each step; they leave up to "
            f"{left:.2g} %"
        )

    def _table(self) -> tuple[list[str], list[list[object]]]:
        last = max(len(self.steps) - 1, 0)
        columns = np.unique(np.linspace(0, last, min(len(self.steps), _COLUMNS)).astype(int))
        sizes = np.nan_to_num(np.abs(self.shares) / np.where(self.gross, self.gross, 1))
        largest = np.sort(np.argsort(-sizes.max(axis=1, initial=0), kind="stable")[:_ROWS])
        head = ["scope", *(f"step {self.steps[k]}" for k in columns), "worst SQNR dB", "events"]
        rows: list[list[object]] = []
        for n in largest:
            shares = [_share(self.shares[n, k], self.gross[k]) for k in columns]
            worst = float(np.fmin.reduce(self.sqnr[n], initial=math.inf))
            rows.append([self.scopes[n], *shares, worst, int(self.events[n].sum())])
        more = len(self.scopes) - len(rows)
        if more:
            rows.append([f"and {more} more", *[None] * (len(head) - 1)])
        return head, rows


def _share(part: float, whole: float) -> float:
    """Return a part in percent; 0 of nothing."""
    return float(100 * part / whole) if whole else 0.0


_LEFT = ("underflowed", "overflowed", "saturated", "nan")


def share_map(
    reports: Mapping[int, Report] | Iterable[tuple[int, Report]], *, depth: int | None = None
) -> ShareMap:
    """Return the shares of each scope in reports of several steps, as arrays.

    Parameters
    ----------
    reports : mapping of int to Report, or iterable of pairs
        Reports by the number of their step, such as `analyze_steps` yields or ``enumerate`` makes
        of a list. Only the numbers of each are kept, so the reports may be made one by one.
    depth : int, optional
        How many parts of a scope count; all by default.

    Returns
    -------
    ShareMap
        Arrays of shape (scopes, steps); `plots.plot_share_map` draws them.

    Raises
    ------
    TypeError
        If `reports` are no pairs of a number and a report.

    Examples
    --------
    Which layer loses how much, at each step of a training:

    >>> import jax, jax.numpy as jnp, precsim as ps
    >>> def step(w, x):
    ...     with jax.named_scope("layer"):
    ...         y = w * x
    ...     with jax.named_scope("update"):
    ...         return w - 0.1 * y
    >>> batches = jnp.float32([[0.7], [0.3], [0.9]])
    >>> found = ps.share_map(ps.analyze_steps(step, jnp.ones(1), batches, policy="bf16"))
    >>> found.scopes, found.steps.tolist()
    (('layer', 'update'), [1, 2, 3])
    """
    pairs = reports.items() if isinstance(reports, Mapping) else reports
    pairs = each_of(pairs, "reports", "a dict and pairs of a step and its Report")
    steps: list[int] = []
    names: dict[str, None] = {}
    columns: list[dict[str, tuple[float, float, int]]] = []
    totals: list[tuple[float, float, float]] = []
    for pair in pairs:
        number, report = _pair(pair)
        steps.append(number)
        column = {}
        for group in report.by_scope(depth):
            count = sum(getattr(group, kind) for kind in _LEFT)
            column[group_name(group, "scope")] = group.share, group.sqnr, count
        columns.append(column)
        totals.append((report.change, report.remainder, report.gross))
        names |= dict.fromkeys(_in_order(report, depth))
    empty = (math.nan, math.nan, 0)
    cells = [[column.get(name, empty) for column in columns] for name in names]
    table = np.array(cells, np.float64).reshape(len(names), len(steps), 3)
    change, remainder, gross = np.array(totals, np.float64).reshape(-1, 3).T
    return ShareMap(
        np.array(steps, np.int64),
        tuple(names),
        table[..., 0],
        table[..., 1],
        table[..., 2].astype(np.int64),
        change,
        remainder,
        gross,
    )


def _pair(pair: Any) -> tuple[int, Report]:
    try:
        number, report = pair
    except (TypeError, ValueError):
        number, report = None, pair
    if not isinstance(report, Report) or number is None:
        raise TypeError(f"reports has {shown(pair)}; allowed are pairs of a step and its Report")
    return integer(number, "a step of reports"), report


def _in_order(report: Report, depth: int | None) -> list[str]:
    """Return the names of the scopes of a report, in the order of the program."""
    rank: dict[tuple[str, bool], int] = {}
    for n, row in enumerate(report.rows):
        rank.setdefault(("/".join(row.scope.split("/")[:depth]), row.is_backward), n)
    groups = sorted(report.by_scope(depth), key=lambda g: rank[g.name, g.is_backward])
    return [group_name(group, "scope") for group in groups]
