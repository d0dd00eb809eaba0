"""The rows of a report: one for each operation, or one for operations with something in common."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from precsim.analysis.account.account import Account
from precsim.analysis.account.measures import FIELDS, LARGEST
from precsim.analysis.account.operations import name_of, short

EVENTS = ("underflowed", "subnormal", "overflowed", "saturated", "nan")
_COUNTS = (*EVENTS, "not_finite", "differing")


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
    """Name of the operation in JAX. Where a line has several, a report shows "add #1", "add #2"."""
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
    """Of its own roundings, in decibel; inf where they change nothing, -inf where one overflows."""
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


def names_of(rows: Sequence[OperationRow]) -> list[str]:
    """Return what operations are called; "add #2" is the second `add` of its line."""
    keys = [(row.where, row.primitive, row.is_backward) for row in rows]
    several, seen = Counter(keys), Counter[Any]()
    found = []
    for key in keys:
        seen[key] += 1
        found.append(name_of(key[1], key[2], seen[key] if several[key] > 1 else 0))
    return found


def by_share(rows: Sequence[OperationRow]) -> list[tuple[OperationRow, str]]:
    """Return operations and what they are called, the largest share first."""
    pairs = zip(rows, names_of(rows), strict=True)
    return sorted(pairs, key=lambda pair: largest_first(pair[0]))


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
        _decibel(
            summed(r.size2 for r in rows),
            summed(r.error2 for r in rows),
            sum(r.overflowed + r.nan for r in rows),
        ),
        max(conditions, default=math.nan),
        *(sum(getattr(row, kind) for row in rows) for kind in (*EVENTS, "differing")),
    )


def _decibel(size2: float, error2: float, lost: int) -> float:
    """Return a ratio of squares; `lost` says how many numbers have become infinite or NaN."""
    if lost:
        return -math.inf
    if not error2:
        return math.inf
    return 10 * math.log10(size2 / error2) if size2 else -math.inf


def rows_of(account: Account) -> tuple[OperationRow, ...]:
    """Return the rows of an account, in the order of the program."""
    operations, measures = account.operations, dict(zip(FIELDS, account.measures.T, strict=True))
    total = _relative(measures["total2"], measures["exact2"])
    inherited = _relative(measures["inherited2"], measures["exact2"])
    incoming = operations.largest_of_operands(total)
    some = incoming != 0
    columns: dict[str, list[Any]] = {
        **operations.stated,
        "share": _totals(account.shares),
        "through": _totals(account.through),
        "local_error": _relative(measures["error2"], measures["size2"]).tolist(),
        "inherited_error": inherited.tolist(),
        "total_error": total.tolist(),
        "incoming_error": incoming.tolist(),
        "condition": np.divide(
            inherited, incoming, out=np.full_like(incoming, math.nan), where=some
        ).tolist(),
        "turns": [tuple(x.ravel().tolist()) if x.ndim else () for x in account.shares.values()],
        **{name: measures[name].astype(int).tolist() for name in _COUNTS},
        **{name: measures[name].tolist() for name in ("error2", "size2", *LARGEST)},
    }
    lost = map(int.__add__, columns["overflowed"], columns["nan"])
    columns["sqnr"] = list(map(_decibel, columns["size2"], columns["error2"], lost))
    every = zip(*(columns[name] for name in OperationRow._fields), strict=True)
    return tuple(map(OperationRow._make, every))


def _totals(shares: Mapping[str, np.ndarray]) -> list[float]:
    return [float(share.sum() if share.ndim else share) for share in shares.values()]


def _relative(errors: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return roots of quotients of squares; of errors without a size, infinity."""
    with np.errstate(all="ignore"):
        return np.where(sizes == 0, np.where(errors == 0, 0.0, math.inf), np.sqrt(errors / sizes))
