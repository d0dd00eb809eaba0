"""The rows of a report: one for each operation, or one for operations with something in common."""

import linecache
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import PurePath
from typing import NamedTuple

from precsim.analysis.account.account import Account

EVENTS = ("underflowed", "subnormal", "overflowed", "saturated", "nan")


class OperationRow(NamedTuple):
    """One operation of the program; in a loop, all its turns together.

    Errors are root mean squares over the elements, relative to the exact result of the operands
    (`local_error`) or to the exact run (`inherited_error`, `total_error`).

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> row = ps.analyze(jnp.sin, jnp.float32(0.5), policy="bf16").rows[0]
    >>> row.primitive, row.format, row.elements, row.local_error < 2**-8
    ('sin', 'bf16', 1, True)
    """

    primitive: str
    """Name of the operation in JAX."""
    line: str
    """File, line and function that wrote it; empty where JAX does not tell."""
    source: str
    """The text of that line, where the file can be read."""
    scope: str
    """Named scopes and functions around, joined by "/"."""
    is_backward: bool
    """Whether it belongs to a backward pass."""
    how: str
    """How it is emulated, in words."""
    format: str
    """Format or spec in which it is emulated."""
    times: int
    """How often it runs."""
    elements: int
    """Numbers in one result."""
    share: float
    """Its part of the change: what its own roundings make, those of its operands included."""
    through: float
    """The part of the change that its operands bring and its result passes on."""
    local_error: float
    """Error that it commits itself."""
    max_relative: float
    """Largest such error of an element."""
    max_ulps: float
    """The same in ulps of the exact result."""
    inherited_error: float
    """Error that its result has from the errors of its operands."""
    total_error: float
    """Error of its result against the exact run."""
    incoming_error: float
    """Largest error among its operands."""
    condition: float
    """Inherited error over incoming error: how much it amplifies; nan where nothing comes in."""
    sqnr: float
    """Of its own roundings, in decibel; inf where they change nothing."""
    underflowed: int
    """Results below the smallest normal number that became 0."""
    subnormal: int
    """Results below the smallest normal number."""
    overflowed: int
    """Finite results that became infinite."""
    saturated: int
    """Results beyond the largest number that became finite."""
    nan: int
    """Results that became NaN."""
    not_finite: int
    """Results that are infinite or NaN, and finite in the exact run."""
    differing: int
    """Elements of a comparison or choice that fell differently from the exact run."""
    turns: tuple[float, ...]
    """Share of each turn of the loops around, if these are told apart."""
    error2: float
    """Sum of the squares of its own errors."""
    size2: float
    """Sum of the squares of its exact results."""

    @property
    def where(self) -> str:
        """File and line in short, or else the scope."""
        return short(self.line) or self.scope


class GroupRow(NamedTuple):
    """Operations that have a scope, a primitive or a line in common.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> report = ps.analyze(lambda x: jnp.sin(x) + jnp.cos(x), jnp.float32(0.5), policy="bf16")
    >>> [(row.name, row.operations) for row in report.by_primitive()]
    [('add', 1), ('cos', 1), ('sin', 1)]
    """

    name: str
    """What they have in common."""
    is_backward: bool
    """Whether they belong to a backward pass."""
    operations: int
    """How many operations of the program these are."""
    share: float
    """Sum of their shares."""
    gross: float
    """Sum of the magnitudes of their shares."""
    sqnr: float
    """Of their own roundings, in decibel."""
    max_condition: float
    """Largest amplification."""
    underflowed: int
    """As of `OperationRow`, in all of them."""
    subnormal: int
    overflowed: int
    saturated: int
    nan: int
    differing: int


def grouped(
    rows: Iterable[OperationRow], key: Callable[[OperationRow], str]
) -> tuple[GroupRow, ...]:
    """Return operations that have a key in common together, the largest share first."""
    groups: dict[tuple[str, bool], list[OperationRow]] = defaultdict(list)
    for row in rows:
        groups[key(row), row.is_backward].append(row)
    found = [_group(name, back, rows) for (name, back), rows in groups.items()]
    return tuple(sorted(found, key=largest_first))


def summed(parts: Iterable[float]) -> float:
    """Return a sum, correctly rounded where it is finite."""
    parts = list(parts)
    try:
        return math.fsum(parts)
    except (OverflowError, ValueError):  # beyond the largest float, or infinity less infinity
        return float(sum(parts))


def largest_first(row: OperationRow | GroupRow) -> float:
    """Return the key of an order by the magnitude of the share, NaN first."""
    return -math.inf if math.isnan(row.share) else -abs(row.share)


def _group(name: str, is_backward: bool, rows: list[OperationRow]) -> GroupRow:
    conditions = [row.condition for row in rows if not math.isnan(row.condition)]
    return GroupRow(
        name,
        is_backward,
        len(rows),
        summed(row.share for row in rows),
        summed(abs(row.share) for row in rows),
        _decibel(summed(r.size2 for r in rows), summed(r.error2 for r in rows)),
        max(conditions, default=math.nan),
        *(sum(getattr(row, kind) for row in rows) for kind in (*EVENTS, "differing")),
    )


def _decibel(size2: float, error2: float) -> float:
    if not error2:
        return math.inf
    return 10 * math.log10(size2 / error2) if size2 else -math.inf


def short(line: str) -> str:
    """Return "file.py:line" of a source line."""
    path = line.partition(" ")[0]
    return ":".join(PurePath(path).name.split(":")[:2])


def rows_of(account: Account) -> Iterator[OperationRow]:
    """Yield the rows of an account, in the order of the program."""
    sizes = {key: _relative(m, "total2", "exact2") for key, m in account.measures.items()}
    for key in sorted(account.measures, key=_order):
        yield _row(account, key, sizes)


def _order(key: str) -> list[int]:
    """Return the place of an operation in the program; results come last."""
    if key.startswith("/output"):
        return [1 << 30]
    digits = "".join(c if c.isdigit() else " " for c in key)
    return [int(part) for part in digits.split()]


def _row(account: Account, key: str, sizes: dict[str, float]) -> OperationRow:
    measures, record = account.measures[key], account.records[key]
    incoming = max((sizes.get(k, 0.0) for k in _sources(account.operands, key)), default=0.0)
    inherited = _relative(measures, "inherited2", "exact2")
    share = account.shares[key]
    return OperationRow(
        primitive=record.primitive,
        line=record.line,
        source=_source(record.line),
        scope=record.scope,
        is_backward=record.is_backward,
        how=str(record.how),
        format=record.format,
        times=record.times,
        elements=account.elements[key],
        share=float(share.sum()),
        through=float(account.through[key].sum()),
        local_error=_relative(measures, "error2", "size2"),
        max_relative=measures["max_relative"],
        max_ulps=measures["max_ulps"],
        inherited_error=inherited,
        total_error=sizes[key],
        incoming_error=incoming,
        condition=inherited / incoming if incoming else math.nan,
        sqnr=_decibel(measures["size2"], measures["error2"]),
        turns=tuple(share.ravel().tolist()) if share.ndim else (),
        error2=measures["error2"],
        size2=measures["size2"],
        **{name: int(measures[name]) for name in (*EVENTS, "not_finite", "differing")},
    )


def _relative(measures: dict[str, float], error: str, size: str) -> float:
    errors, sizes = measures[error], measures[size]
    if not sizes:
        return math.inf if errors else 0.0
    return math.sqrt(errors / sizes)


def _sources(operands: dict[str, frozenset[str]], key: str) -> Iterable[str]:
    """Return the operations that computed the operands, also those of turns before."""
    seen: set[str] = set()
    rest = list(operands.get(key, ()))
    while rest:
        each = rest.pop()
        if each not in seen:
            seen.add(each)
            rest.extend(operands[each] if "^" in each else ())
    return seen


@lru_cache(maxsize=1 << 12)
def _source(line: str) -> str:
    """Return the text of a line of a file, where that can be read."""
    path = line.partition(" ")[0]
    parts = path.rsplit(":", 2)
    found = next((n for n, part in enumerate(parts) if part.isdigit()), 0)
    text = linecache.getline(parts[0], int(parts[found])).strip() if found else ""
    return text if len(text) <= 60 else text[:59] + "…"
