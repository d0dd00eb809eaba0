"""The operations of a program that is analysed: what is known of them before they run."""

import linecache
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import PurePath
from typing import Any

import numpy as np

from precsim.analysis.account.measures import SUMMED
from precsim.transform.treatment import Record


@dataclass(frozen=True)
class Operations:
    """The operations that are measured.

    Parameters
    ----------
    ledgers : mapping
        By name of a table of measures, the key of the operation that each of its rows is about.
    records : mapping
        What each operation is, by key.
    operands : mapping
        Keys of the operations whose results it takes.
    elements : mapping
        How many numbers its results have.
    shapes : mapping
        Shapes of the shares that lie one after the other in a vector; of others, too.
    cut : collection
        Keys of operations that JAX cannot differentiate.
    endless : mapping
        Keys of loops that do not end in the emulated run, and their turns in the exact one.
    """

    ledgers: Mapping[str, Sequence[str]]
    records: Mapping[str, Record]
    operands: Mapping[str, frozenset[str]]
    elements: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    cut: Collection[str] = ()
    endless: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys in the order of the program."""
        return tuple(sorted({key for keys in self.ledgers.values() for key in keys}, key=_order))

    @cached_property
    def stated(self) -> dict[str, list[Any]]:
        """What a report states of them whatever they compute, a list for each field."""
        records = [self.records[key] for key in self.keys]
        return {
            "primitive": [record.primitive for record in records],
            "line": [record.line for record in records],
            "source": [_source(record.line) for record in records],
            "scope": [record.scope for record in records],
            "is_backward": [record.is_backward for record in records],
            "how": [str(record.how) for record in records],
            "format": [record.format for record in records],
            "times": [record.times for record in records],
            "elements": [self.elements[key] for key in self.keys],
        }

    @cached_property
    def cuts(self) -> tuple[str, ...]:
        """What JAX cannot differentiate, in words."""
        return tuple(dict.fromkeys(map(self._named, sorted(self.cut, key=_order))))

    @cached_property
    def unending(self) -> tuple[str, ...]:
        """What does not end, in words, and how many turns it takes in the exact run."""
        every = ((self._named(key), self.endless[key]) for key in sorted(self.endless, key=_order))
        return tuple(f"{name}, which takes {n} turns in the exact run," for name, n in every)

    def _named(self, key: str) -> str:
        r = self.records[key]
        return named(name_of(r.primitive, r.is_backward), r.line, _source(r.line), r.scope)

    def together(self, tables: Mapping[str, Any]) -> np.ndarray:
        """Return the measures of each operation, of all its results and turns together."""
        order, starts = self._results
        if not starts.size:
            return np.zeros((0, next(iter(tables.values())).shape[-1]))
        every = np.concatenate([_over_turns(tables[name]) for name in self.ledgers])[order]
        count = len(SUMMED)
        sums = np.add.reduceat(every[:, :count], starts)
        return np.concatenate([sums, np.maximum.reduceat(every[:, count:], starts)], 1)

    def apart(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """Return the shares in a vector, by key."""
        return {key: vector[cut].reshape(shape) for key, cut, shape in self._cuts}

    def largest_of_operands(self, numbers: np.ndarray) -> np.ndarray:
        """Return for each operation the largest number that its operands have; 0 without any."""
        flat, starts = self._sources
        if not starts.size:
            return numbers
        return np.asarray(np.maximum.reduceat(np.append(numbers, 0.0)[flat], starts))

    @cached_property
    def _results(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of all tables sorted by operation, and where each operation begins there."""
        places = [self._places[key] for keys in self.ledgers.values() for key in keys]
        order = np.argsort(places, kind="stable")
        return order, np.searchsorted(np.array(places)[order], np.arange(len(self.keys)))

    @cached_property
    def _cuts(self) -> list[tuple[str, slice, tuple[int, ...]]]:
        ends = np.cumsum([math.prod(shape) for shape in self.shapes.values()]).tolist()
        cuts = dict(zip(self.shapes, map(slice, [0, *ends], ends), strict=True))
        return [(key, cuts[key], self.shapes[key]) for key in self.keys]

    @cached_property
    def _sources(self) -> tuple[np.ndarray, np.ndarray]:
        """The places of the operands of all operations, and where each operation begins there.

        The last place of each is one behind all operations.
        """
        sources = [
            [*(self._places[k] for k in _sources(self.operands, key) if k in self._places), -1]
            for key in self.keys
        ]
        flat = [place for places in sources for place in places]
        return np.array(flat, int), np.cumsum([0, *map(len, sources)])[:-1]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {key: n for n, key in enumerate(self.keys)}


def _over_turns(table: Any) -> np.ndarray:
    """Return the measures of a table, shape (..., results, fields), of all turns together."""
    table, count = np.asarray(table), len(SUMMED)
    if table.ndim > 2:
        turns = table.reshape(-1, *table.shape[-2:])
        most = turns[..., count:].max(0, initial=0)
        table = np.concatenate([turns[..., :count].sum(0), most], -1)
    return np.asarray(table, np.float64)


def _order(key: str) -> list[int]:
    """Return the place of an operation in the program; results come last."""
    if key.startswith("/output"):
        return [1 << 30]
    digits = "".join(c if c.isdigit() else " " for c in key)
    return [int(part) for part in digits.split()]


def _sources(operands: Mapping[str, frozenset[str]], key: str) -> Iterable[str]:
    """Return the operations that computed the operands, also those of turns before."""
    seen: set[str] = set()
    rest = list(operands.get(key, ()))
    while rest:
        each = rest.pop()
        if each not in seen:
            seen.add(each)
            rest.extend(operands[each] if "^" in each else ())
    return seen


def short(line: str) -> str:
    """Return "file.py:line" of a source line."""
    path = line.partition(" ")[0]
    return ":".join(PurePath(path).name.split(":")[:2])


def name_of(primitive: str, is_backward: bool, number: int = 0) -> str:
    """Return what an operation is called, and which it is of those that a line has of the kind."""
    return f"{primitive}{f' #{number}' if number else ''}{', backward' if is_backward else ''}"


def named(name: str, line: str, source: str, scope: str) -> str:
    """Return an operation in words: its source text, or its name, and where it stands."""
    what = f"`{source}`" if source else f"'{name}'"
    where = short(line) or scope
    return f"{what}{f' at {where}' if where else ''}{f' ({name})' if source else ''}"


@lru_cache(maxsize=1 << 12)
def _source(line: str) -> str:
    """Return the text of a line of a file, where that can be read."""
    path = line.partition(" ")[0]
    parts = path.rsplit(":", 2)
    found = next((n for n, part in enumerate(parts) if part.isdigit()), 0)
    text = linecache.getline(parts[0], int(parts[found])).strip() if found else ""
    return text if len(text) <= 60 else text[:59] + "…"
