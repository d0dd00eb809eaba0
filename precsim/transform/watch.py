"""What is counted of the roundings of an emulated program, while it is traced.

The program is one that runs forward only (the gradient of a loss is one, too). What happens inside
a loop or a branch is counted there, leaves it as one more result, and is added up outside.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.formats.tile import TileFormat
from precsim.rounding.events import Events, classify
from precsim.rounding.spec import RoundingSpec

NUM_EVENTS = len(Events._fields)
_BLOCK = 128
"""Numbers that are counted together; a rounding has a whole number of such blocks."""
_MOST = 1 << 22
"""Numbers that are kept until they are counted, at most: memory is bounded so."""


class Counts(NamedTuple):
    """What has been counted; a pytree whose leaves are arrays."""

    forward: dict[str, Array]
    """Place -> int32 events of shape (7,), in the order of `Events`."""
    backward: dict[str, Array]
    largest: dict[str, Array]
    """Path of an operand of a product -> its largest magnitude, before it was scaled; and what
    `transform.rules.own_scales` tells of a layer."""


NOTHING = Counts({}, {}, {})


class _Rounding(NamedTuple):
    place: str
    is_backward: bool
    before: Array
    after: Array


@dataclass
class Watch:
    """Counts of a program, or of one turn of a loop inside it.

    Parameters
    ----------
    formats : dict of str to TileFormat or str
        Path of an operand under delayed scaling -> the format of its elements, and name of a layer
        whose own scale adapts -> its tensor scaling; filled while the program is traced, also by
        what counts inside.
    """

    formats: dict[str, TileFormat | str] = field(default_factory=dict)
    _waiting: dict[tuple[RoundingSpec, Any], list[_Rounding]] = field(default_factory=dict)
    _counts: Counts = NOTHING

    def rounding(
        self, place: str, before: Array, after: Array, spec: RoundingSpec, *, is_backward: bool
    ) -> None:
        """Note a rounding: carrier values before and after."""
        waiting = self._waiting.setdefault((spec, before.dtype), [])
        waiting.append(_Rounding(place, is_backward, before, after))
        if sum(each.before.size for each in waiting) > _MOST:
            self._count(spec, before.dtype)

    def operand(self, path: str, fmt: TileFormat | str, amax: Array) -> None:
        """Note the largest magnitude of an operand of a product whose scale has a state."""
        self.formats[path] = fmt
        self.add(Counts({}, {}, {path: amax}))

    def closed(self) -> Counts:
        """Return what has been counted."""
        for spec, dtype in list(self._waiting):
            self._count(spec, dtype)
        return self._counts

    def add(self, counts: Counts) -> None:
        """Add what a program inside has counted."""
        self._counts = together(self._counts, counts)

    def _count(self, spec: RoundingSpec, dtype: Any) -> None:
        waiting = self._waiting.pop((spec, dtype))
        places = dict.fromkeys((each.place, each.is_backward) for each in waiting)
        numbers = {place: n for n, place in enumerate(places)}
        found = _counted(waiting, numbers, spec)
        for (place, is_backward), n in numbers.items():
            one = {place: found[n]}
            self.add(Counts({}, one, {}) if is_backward else Counts(one, {}, {}))


def _counted(
    roundings: Sequence[_Rounding], numbers: Mapping[tuple[str, bool], int], spec: RoundingSpec
) -> Array:
    """Return the events of each place, shape (places, 7), of all numbers in one array."""
    rows = [(_rows(x.before), _rows(x.after)) for x in roundings]
    before, after = (jnp.concatenate(parts) for parts in zip(*rows, strict=True))
    owners = [
        np.full(len(row), numbers[x.place, x.is_backward])
        for x, (row, _) in zip(roundings, rows, strict=True)
    ]
    events = classify(before, after, spec)
    shape = before.shape
    found = [jnp.broadcast_to(x, (before.size,)).reshape(shape) for x in events[1:]]
    sums = jnp.stack([x.sum(1, dtype=jnp.int32) for x in found], -1)
    total = jax.ops.segment_sum(sums, np.concatenate(owners), len(numbers))
    sizes = np.zeros(len(numbers), np.int32)
    for x in roundings:
        sizes[numbers[x.place, x.is_backward]] += x.before.size
    return jnp.concatenate([jnp.asarray(sizes)[:, None], total], 1)


def _rows(x: Array) -> Array:
    """Return an array as rows of blocks, filled up with zeros, to which no event happens."""
    flat = x.reshape(-1)
    return jnp.pad(flat, (0, -flat.size % _BLOCK)).reshape(-1, _BLOCK)


def together(first: Counts | None, second: Counts) -> Counts:
    """Return two counts added up."""
    if first is None:
        return second
    ways = (jnp.add, jnp.add, jnp.maximum)
    parts = []
    for ours, theirs, combine in zip(first, second, ways, strict=True):
        both = {name: combine(ours[name], theirs[name]) for name in ours if name in theirs}
        parts.append({**ours, **theirs, **both})
    return Counts(*parts)


def over_turns(counts: Counts) -> Counts:
    """Return the counts of all turns of a loop, which lie along the first axis, together."""
    added = {
        name: jax.tree.map(lambda x: x.sum(0, dtype=x.dtype), getattr(counts, name))
        for name in ("forward", "backward")
    }
    return Counts(**added, largest=jax.tree.map(lambda x: x.max(0, initial=0), counts.largest))


def zeros_like(counts: Any) -> Any:
    """Return counts of nothing in the shapes of others."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), counts)


def united(branches: Sequence[Callable[..., tuple[Any, Counts]]], *operands: Any) -> list[Any]:
    """Return branches that all count at the same places, at some of them nothing."""
    found = [jax.eval_shape(branch, *operands)[1] for branch in branches]
    everything = Counts(
        *(
            {name: x for part in parts for name, x in part.items()}
            for parts in zip(*found, strict=True)
        )
    )

    def filled(branch: Callable[..., tuple[Any, Counts]]) -> Callable[..., tuple[Any, Counts]]:
        def run(*arrays: Any) -> tuple[Any, Counts]:
            results, counts = branch(*arrays)
            parts = [
                zeros_like(whole) | part for whole, part in zip(everything, counts, strict=True)
            ]
            return results, Counts(*parts)

        return run

    return [filled(branch) for branch in branches]
