"""`Report`: the account of a function, row by row, and grouped by scope, primitive or line."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rich.table import Table

from precsim.analysis.account.account import Account
from precsim.analysis.account.files import add_scalars, csv_of, fields_of, json_of, written
from precsim.analysis.account.operations import named, short
from precsim.analysis.account.page import cell, page
from precsim.analysis.account.rows import GroupRow, OperationRow, grouped, names_of, rows_of, summed
from precsim.analysis.account.tables import table, text
from precsim.analysis.account.words import losses, percent
from precsim.formats.arguments import integer


@dataclass(frozen=True, slots=True)
class Report:
    """What a function loses under a policy, where, and why.

    Parameters
    ----------
    policy, reference : str
        The emulated arithmetic, and that of the exact run.
    of : str
        Name of the function whose scalar is asked about; empty without one.
    nodes : int
        Nodes on the path.
    value, reference_value : float
        The scalar in the emulated and in the exact run.
    aligned_value : float
        The scalar of the exact run on the branches of the emulated one.
    rows : tuple of OperationRow
        In the order in which they are first computed.
    result, reference_result : pytree
        The results of the emulated and of the exact run, as NumPy arrays.
    cuts : tuple of str
        Operations that JAX cannot differentiate, in words. Errors of their operands have no share,
        only their own roundings have one.
    unending : tuple of str
        Loops that do not end in the emulated run, in words: they take more than 10,000 turns, and
        more than ten times those of the exact run. `result` and `value` are of as many turns as
        there.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> report = ps.analyze(lambda x: jnp.exp(x) - 1, jnp.float32(0.01), policy="fp16")
    >>> [(row.primitive, row.share == report.change) for row in report.rows]
    [('exp', True), ('sub', False)]
    >>> report.closes
    True
    """

    policy: str
    reference: str
    of: str
    nodes: int
    value: float
    reference_value: float
    aligned_value: float
    rows: tuple[OperationRow, ...]
    result: Any
    reference_result: Any
    cuts: tuple[str, ...]
    unending: tuple[str, ...]

    @property
    def change(self) -> float:
        """The measured change of the scalar: emulated less exact."""
        return self.value - self.reference_value

    @property
    def remainder(self) -> float:
        """What the shares do not explain: the change less their sum."""
        return self.change - summed(row.share for row in self.rows)

    @property
    def gross(self) -> float:
        """The sum of the magnitudes of all shares; far above the change where they cancel."""
        return summed(abs(row.share) for row in self.rows)

    @property
    def closes(self) -> bool:
        """Whether the remainder is at most 1 % of the gross, and nothing stands against that."""
        return not self.obstacles

    @property
    def first_not_finite(self) -> OperationRow | None:
        """The first operation with a result that is infinite or NaN, but not in the exact run."""
        return next((row for row in self.rows if row.not_finite), None)

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Why there is no account, a sentence each; empty if there is one."""
        found, names = [], _named(self.rows)
        bad_at = next((n for n, row in enumerate(self.rows) if row.not_finite), None)
        if bad_at is not None:
            bad = self.rows[bad_at]
            count = "1 result" if bad.not_finite == 1 else f"{bad.not_finite} results"
            kind = "overflowed" if bad.overflowed else "became infinite or NaN"
            found.append(f"{count} of {names[bad_at]} {kind}: shares do not account for that")
        elif not math.isfinite(self.reference_value):
            found.append(f"the exact run gives {self.reference_value}")
        for loop in self.unending:
            text = f"{loop} does not end in {self.policy}: result and shares are of as many turns"
            found.append(text)
        if (
            not self.unending
            and self.aligned_value != self.reference_value
            and not _same(self.aligned_value, self.reference_value)
        ):
            pairs = zip(self.rows, names, strict=True)
            parted = [x for row, x in pairs if row.differing and row.primitive in _BRANCHING]
            which = ", ".join(parted) or "a loop or a branch"
            found.append(
                f"{which} went another way than in the exact run: the shares are of the way taken"
            )
        if self.rows and not found and not abs(self.remainder) <= _CLOSED * self.gross:
            found.append(self._cut() if self.cuts else self._bent(names))
        return tuple(found)

    def _cut(self) -> str:
        return (
            f"JAX has no derivative of {', '.join(self.cuts)}: errors of its operands have no share, "
            "only its own roundings have one"
        )

    def _bent(self, names: Sequence[str]) -> str:
        """Return why shares do not sum to the change although nothing broke on the way."""
        pairs = zip(self.rows, names, strict=True)
        worst, name = max(pairs, key=lambda pair: pair[0].total_error)
        causes = [f"the result of {name} is off by {worst.total_error:.2g} of its size"]
        parted = sum(row.differing for row in self.rows)
        if parted:
            fell = "1 comparison or choice" if parted == 1 else f"{parted} comparisons or choices"
            causes.append(f"{fell} fell differently")
        left = f"{percent(abs(self.remainder), self.gross)} of the gross" if self.gross else "all"
        text = f"the shares leave {left}: {', and '.join(causes)}"
        return text + ("; try nodes=3" if self.nodes == 1 and not parted else "")

    def top(self, k: int = 3) -> tuple[str, ...]:
        """Return what loses most, in one sentence each.

        Parameters
        ----------
        k : int
            How many sentences there are at most.

        Returns
        -------
        tuple of str
            An operation counts for the larger of two parts of the change: what its own roundings
            make, and what it amplifies of the errors that its operands bring.
        """
        k = integer(k, "k", 1)
        found = [
            (size, text)
            for row, name in zip(self.rows, _named(self.rows), strict=True)
            for size, text in losses(row, name, self.change, self.gross)
            if size > 0  # which NaN is not
        ]
        found.sort(key=lambda pair: -pair[0])
        return tuple(text for _, text in found[:k])

    def by_scope(self, depth: int | None = None) -> tuple[GroupRow, ...]:
        """Return the operations of each scope together, forward and backward pass apart.

        Parameters
        ----------
        depth : int, optional
            How many parts of a scope count; all by default.

        Returns
        -------
        tuple of GroupRow
            The largest magnitude of the share first.
        """
        depth = None if depth is None else integer(depth, "depth", 0)
        return grouped(self.rows, lambda row: "/".join(row.scope.split("/")[:depth]))

    def by_primitive(self) -> tuple[GroupRow, ...]:
        """Return the operations of each primitive together, the largest share first."""
        return grouped(self.rows, lambda row: row.primitive)

    def by_line(self) -> tuple[GroupRow, ...]:
        """Return the operations of each source line together, the largest share first."""
        return grouped(self.rows, lambda row: short(row.line))

    def table(self, by: str = "operation", k: int = 20) -> Table:
        """Return the rows with the largest shares as a table for terminals.

        Parameters
        ----------
        by : {"operation", "scope", "primitive", "line"}
            What a row stands for.
        k : int
            How many rows there are at most. The last line says how many there are in all.

        Returns
        -------
        rich.table.Table
            For ``rich.print`` or the `print` of a console. Long names are broken into lines where
            there is no room; numbers are not. Columns that say nothing are left out.
        """
        return table(self, by, k)

    def __str__(self) -> str:
        """Return a text of at most 100 columns: headline, what loses most, the largest shares."""
        return text(self)

    def to_json(self, path: str | Path | None = None, *, overwrite: bool = False) -> str:
        """Return the report as JSON, and write it to a file if one is named.

        Parameters
        ----------
        path : str or Path, optional
            Where to write.
        overwrite : bool
            Whether a file that is there is replaced.

        Returns
        -------
        str
            All but `result` and `reference_result`; `from_json` reads it. Numbers that JSON lacks
            are the strings "nan", "inf" and "-inf".

        Raises
        ------
        OSError
            If the file exists (without `overwrite`) or cannot be written.
        """
        return written(json_of(self), path, overwrite)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the report that `to_json` has written; its `result` is None.

        Parameters
        ----------
        text : str
            JSON.

        Returns
        -------
        Report
            Equal numbers, equal rows.

        Raises
        ------
        ValueError
            If the text is no JSON, or something of a report is missing or of another type.
        """
        return cls(**fields_of(text), result=None, reference_result=None)

    def to_csv(self, path: str | Path | None = None, *, overwrite: bool = False) -> str:
        """Return the operations as CSV, one in a line, and write it to a file if one is named.

        Parameters
        ----------
        path, overwrite
            As of `to_json`.

        Returns
        -------
        str
            The columns are the fields of `OperationRow`. ``pandas.read_csv`` reads all as
            numbers but the strings; `turns` are numbers with spaces between them.

        Raises
        ------
        OSError
            If the file exists (without `overwrite`) or cannot be written.
        """
        return written(csv_of(self), path, overwrite)

    def to_html(
        self,
        path: str | Path | None = None,
        *,
        pictures: Iterable[Any] = (),
        overwrite: bool = False,
    ) -> str:
        """Return the report as one page of HTML, and write it to a file if one is named.

        Parameters
        ----------
        path, overwrite
            As of `to_json`.
        pictures : iterable of Figure
            Figures of matplotlib to show as well, such as those of `plots.figure`.

        Returns
        -------
        str
            The page needs no other file, no network and no scripts: headline, sentences, bars by
            scope, line and primitive, shares along the program, what left the range, pictures,
            and all operations.

        Raises
        ------
        TypeError
            If a picture is no figure.
        OSError
            If the file exists (without `overwrite`) or cannot be written.
        """
        return written(page(self, pictures), path, overwrite)

    def write_scalars(self, writer: Any, step: int) -> None:
        """Give the report's numbers to a writer of TensorBoard.

        Parameters
        ----------
        writer : object
            It has ``add_scalar(tag, value, step)``, as the writers of tensorboardX and PyTorch, or
            ``scalar(tag, value, step)``, as that of Flax.
        step : int
            Number of the step.

        Returns
        -------
        None
            The writer has got value, change, remainder and gross, and by scope the share, the
            SQNR where it is finite, and the range events that there are. All tags begin with
            "precsim/".

        Raises
        ------
        TypeError
            If the writer has neither of these methods.
        """
        add_scalars(self, writer, step)

    def _repr_html_(self) -> str:
        """Return headline, sentences, bars and the largest shares for a notebook."""
        return cell(self)


_CLOSED = 0.01
"""Largest remainder of an account that closes, as a part of the gross."""
_BRANCHING = ("while", "cond")


def _same(x: float, y: float) -> bool:
    return math.isclose(x, y, rel_tol=1e-9) or (math.isnan(x) and math.isnan(y))


def _named(rows: Sequence[OperationRow]) -> list[str]:
    pairs = zip(rows, names_of(rows), strict=True)
    return [named(name, row.line, row.source, row.scope) for row, name in pairs]


def report_of(account: Account, *, policy: str, reference: str, of: str) -> Report:
    """Return an account as a report."""
    return Report(
        policy,
        reference,
        of,
        account.nodes,
        account.value,
        account.reference,
        account.aligned,
        rows_of(account),
        account.emulated,
        account.exact,
        account.operations.cuts,
        account.operations.unending,
    )
