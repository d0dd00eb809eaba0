"""`coverage`: what `emulate` does with each operation of a function, found without computing."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NamedTuple

import jax

from precsim.formats import notebook
from precsim.transform.emulate import run
from precsim.transform.operation import Context
from precsim.transform.policy import Policy
from precsim.transform.tracing import check_function, flattened
from precsim.transform.treatment import How, Record

_EMULATED = frozenset({How.ROUNDED, How.COMPUTED, How.PRODUCT, How.SUM, How.STEPS, How.CAST})
_COMPUTES = _EMULATED | {How.AS_IS, How.UNKNOWN}


class CoverageRow(NamedTuple):
    """Operations of one kind at one place.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> row = ps.coverage(jnp.exp, "bf16", jnp.ones(3)).rows[0]
    >>> row.primitive, row.how, row.dtype, row.format, row.times
    ('exp', 'rounded once', 'fp32', 'bf16', 1)
    """

    line: str
    """File, line, column and function that wrote it; empty where JAX does not tell."""
    scope: str
    """Named scopes and functions around, joined by "/"."""
    primitive: str
    """Name of the operation in JAX."""
    how: str
    """How `emulate` treats it, in words."""
    dtype: str
    """Formats of its floating-point operands in the program, then ``->`` and the result's."""
    format: str
    """Format or spec in which `emulate` computes it."""
    is_backward: bool
    """Whether it belongs to a backward pass."""
    times: int
    """How often it runs."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What `emulate` does with each operation of a function.

    Parameters
    ----------
    policy : str
        The policy.
    rows : tuple of CoverageRow
        In the order in which they are first computed.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, precsim as ps
    >>> update = lambda r, w: 2 * jax.lax.linalg.cholesky_update(r, w)
    >>> found = ps.coverage(update, "bf16", jnp.eye(4), jnp.ones(4))
    >>> [row.primitive for row in found.unknown], found.share
    (['cholesky_update'], 0.5)
    """

    policy: str
    rows: tuple[CoverageRow, ...]

    @property
    def share(self) -> float:
        """The share of emulated operations among those that compute floating-point numbers."""
        counts = self.counts
        computing = sum(counts[how] for how in _COMPUTES)
        return sum(counts[how] for how in _EMULATED) / computing if computing else 1.0

    @property
    def unknown(self) -> tuple[CoverageRow, ...]:
        """The operations that no rule covers."""
        return self._treated(How.UNKNOWN)

    @property
    def as_it_is(self) -> tuple[CoverageRow, ...]:
        """The operations that run as the program says, since the policy rounds nothing there."""
        return self._treated(How.AS_IS)

    @property
    def exempt(self) -> tuple[CoverageRow, ...]:
        """The operations that are not for emulation, such as integers and random sampling."""
        return self._treated(How.EXEMPT)

    @property
    def emulated(self) -> tuple[CoverageRow, ...]:
        """The operations whose results are rounded by the policy."""
        return self._treated(*_EMULATED)

    @property
    def counts(self) -> Counter[str]:
        """How many operations are treated in each way."""
        total: Counter[str] = Counter()
        for row in self.rows:
            total[row.how] += row.times
        return total

    def _treated(self, *how: str) -> tuple[CoverageRow, ...]:
        return tuple(row for row in self.rows if row.how in how)

    def __str__(self) -> str:
        """Return a text table of at most 100 columns, without what only moves numbers."""
        rows = [self._cells(row) for row in self.rows if row.how not in (How.MOVED, How.EXEMPT)]
        table = [_HEADER, *rows]
        widths = [max(len(row[n]) for row in table) for n in range(len(_HEADER))]
        aligned = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        )
        return "\n".join([self._summary(), "", *aligned])

    def _summary(self) -> str:
        counts = self.counts
        parts = [f"{counts[how]} {how}" for how in How if counts[how]]
        return f"{100 * self.share:.1f} % emulated: {', '.join(parts)}"

    def _cells(self, row: CoverageRow) -> tuple[str, ...]:
        direction = "backward" if row.is_backward else ""
        place = _cut(_short(row.line) or row.scope, 20)
        cells = str(row.times), row.primitive, row.how, row.dtype, row.format, direction
        widths = 5, 16, 12, 13, 14, 8
        return (place, *(_cut(cell, n) for cell, n in zip(cells, widths, strict=True)))

    def to_json(self) -> str:
        """Return the table as JSON: policy, share, rows."""
        rows = [row._asdict() for row in self.rows]
        return json.dumps({"policy": self.policy, "share": self.share, "rows": rows}, indent=1)

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        fields = CoverageRow._fields
        rows = ([str(cell) for cell in row] for row in self.rows)
        summary = notebook.paragraph(self._summary())
        return notebook.fragment(summary, notebook.table(fields, rows, numeric=("times",)))


_HEADER = ("line", "times", "operation", "how", "dtype", "format", "pass")


def _short(line: str) -> str:
    """Return "file.py:line" of a source line."""
    path = line.partition(" ")[0]
    name = PurePath(path).name
    return ":".join(name.split(":")[:2])


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def coverage(
    fun: Callable[..., Any], policy: str | Policy, /, *args: Any, **kwargs: Any
) -> Coverage:
    """Say what `emulate` does with each operation of a function, without computing anything.

    Parameters
    ----------
    fun : callable
        A function of pytrees of arrays, for example a training step.
    policy : str or Policy
        As of `emulate`. ``"fp32"`` rounds nothing of a float32 program: its table shows in which
        dtypes the program itself computes.
    *args, **kwargs : pytree of arrays
        Example arguments, or `jax.ShapeDtypeStruct` instead of arrays. Only shapes and dtypes
        matter.

    Returns
    -------
    Coverage
        Its `rows` are the operations, grouped by source line, scope, primitive, treatment, dtype,
        format and pass. ``print(found)`` shows them as a table. `share` is the emulated part of
        the operations on floating-point numbers, and `unknown` those that `emulate` would refuse.

    Raises
    ------
    TypeError
        If `fun` is no function.
    ValueError
        If the policy has a rule that matches no scope.

    Notes
    -----
    The body of a `scan` counts once a turn. The body and the condition of a `while_loop` count
    once, since nothing says how often they run, and so does each branch of a `cond`. The backward
    pass shows if the function has one: ``coverage(jax.grad(loss), ...)``.

    Examples
    --------
    A "bf16" model that computes in float32, since its weights are float32 and JAX promotes:

    >>> import jax.numpy as jnp, precsim as ps
    >>> def model(w, x):
    ...     return jnp.tanh(x.astype(jnp.bfloat16) @ w)
    >>> found = ps.coverage(model, "fp32", jnp.ones((4, 4)), jnp.ones((2, 4)))
    >>> [(row.primitive, row.dtype) for row in found.rows]
    [('convert_element_type', 'fp32->bf16'), ('dot_general', 'bf16 fp32->fp32'), ('tanh', 'fp32')]
    """
    policy = Policy.parse(policy)
    check_function(fun)
    records: dict[tuple[str, int], Record] = {}
    context = Context(
        policy=policy, backend="auto", strict=False, key=jax.random.key(0), records=records
    )
    evaluated = lambda *args, **kwargs: run(fun, args, kwargs, 0, context)
    flat = flattened(evaluated, args, kwargs)
    jax.eval_shape(flat.fun, *flat.arrays)
    return Coverage(str(policy), _grouped(records))


def _grouped(records: dict[tuple[str, int], Record]) -> tuple[CoverageRow, ...]:
    """Return the operations that differ in nothing but their number, each once."""
    counts: Counter[CoverageRow] = Counter()
    for r in records.values():
        kind = CoverageRow(
            r.line, r.scope, r.primitive, str(r.how), r.dtype, r.format, r.is_backward, times=0
        )
        counts[kind] += r.times
    return tuple(kind._replace(times=count) for kind, count in counts.items())
