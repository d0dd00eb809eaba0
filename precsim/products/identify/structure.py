"""The steps and parts of a sum, seen from products that cancel (FPRev, arXiv 2411.00442)."""

from typing import NamedTuple

import numpy as np

from precsim.formats.floating import FloatFormat
from precsim.products.identify import probes
from precsim.products.identify.black_box import BlackBox
from precsim.products.identify.probes import Formats
from precsim.products.native.search import Shape, Sizes, part_ends

PLACES = 512
"""Places of K at which a step or a block is looked for, at most."""
_APART = 4
"""Places of one query are this far apart, so that most others hold units."""
_STRIDES = (1, 4, 16, 64, 256)
"""Units are so far apart, where few can be counted."""
_READABLE = 4
"""Products of the shortest step whose inside can be seen."""


def read_structure(
    box: BlackBox, formats: Formats, results: list[FloatFormat], unit: int, top: int
) -> tuple[int | None, int, str, np.ndarray, range]:
    """Return `step`, `start`, `within`, `ends` and `visible` of the facts.

    Results of few bits count few units: steps are first looked for among as many products.
    """
    (tiny_a, tiny_b), (large_a, large_b) = formats.split(unit), formats.split(top - 1)
    sign = _lost_sign(box, ((tiny_a, large_a), (tiny_b, large_b)))
    if sign is None:
        return None, 0, "", np.zeros(box.k - 1, np.int64), range(0)
    sizes = (tiny_a, large_a), (tiny_b * (sign or 1), large_b)
    precision = min(fmt.precision for fmt in results)
    coarsest = 1 << max(0, (box.k - 1).bit_length() - precision)
    ends = _ends(box, sizes, coarsest, box.k)
    for stride in _STRIDES:
        is_fine = stride < coarsest
        seen = _ends(box, sizes, stride, stride << precision) if is_fine else ends
        step, start = _steps(seen.steps)
        is_beyond = step is not None and step > len(seen.steps)
        if not is_fine or not (is_beyond or _double(seen.steps)):
            break
    if coarsest > 1 and _double(seen.steps):
        step, start = None, 0  # all products in pairs: no longer step is behind them
    is_other = seen.parts != seen.steps
    if is_other.any() and not is_other[np.argmax(is_other) :].all():
        sign = 0  # last places within steps: no parts of K
        if is_other[0]:  # products 0 and 1 are in two chains of a step
            step, start = None, 0
    parts = ends.parts if sign else ends.steps
    parts[: len(seen.parts)] = seen.parts if sign else seen.steps
    within = _within(seen, start or step or 0, min(stride, coarsest))
    hidden = 2 * (coarsest + 1)
    visible = range(hidden, min(len(parts) + 1, box.k - hidden))
    return step, start, within, parts, visible


def _lost_sign(box: BlackBox, sizes: Sizes) -> int | None:
    """Return the sign of units that are lost beside a positive large product.

    0 if all are kept; None if they become last places, whatever their sign.
    """
    a, b = probes.units(sizes, box.m, box.n, box.k)
    results = box.ask(a, b).results[(a != 0).any(axis=1), :2]
    is_lost = results == 0
    is_decisive = is_lost.any(axis=1) & ~is_lost.all(axis=1)
    if is_decisive.any():
        return -1 if is_lost[np.argmax(is_decisive), -1] else 1
    if is_lost.any():
        return 1
    return 0 if (np.abs(results) == np.float32(sizes[0][0] * sizes[1][0])).all() else None


class Ends(NamedTuple):
    """For each place from 1 on, the end of the smallest part of the sum with 0 and it."""

    steps: np.ndarray
    """0 where units become last places."""
    parts: np.ndarray
    """The last place there: the second large product is in another part, if units were lost."""


def _ends(box: BlackBox, sizes: Sizes, stride: int, width: int) -> Ends:
    """Return the ends; products from `width` on are zero."""
    most = np.abs(np.float32(sizes[0][0] * sizes[1][0])) * np.float32(width)
    shape, limit = Shape(box.m, box.n, width), min(width, PLACES)
    asked: list[np.ndarray] = []

    def run(a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        beyond = (0, box.k - width)
        asked.append(box.ask(np.pad(a, ((0, 0), beyond)), np.pad(b, (beyond, (0, 0)))).results)
        return asked[-1:]

    def run_again(a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        results = asked.pop(0)
        return [np.where(np.abs(results) <= most, results, np.float32(0))]

    ends = Ends(np.zeros(limit, np.int64), np.zeros(limit, np.int64))
    for offset in range(1, 1 + _APART):
        places = np.arange(offset, limit, _APART)
        if len(places):
            ends.steps[places] = part_ends(run, sizes, shape, stride, places)
            ends.parts[places] = part_ends(run_again, sizes, shape, stride, places)
    steps, counted, is_other = ends.steps, np.arange(limit), ends.parts != ends.steps
    # A place does not count: what ends before it ends after it, if units are lost within steps.
    if stride == 1 and (steps[2:] >= counted[2:]).all():
        steps[2:] += steps[2:] == counted[2:]
    if (steps[2:3] > 2).any():
        steps[1] = max(steps[1], 2)
    return Ends(steps[1:], np.where(is_other, ends.parts, steps)[1:])


def _steps(ends: np.ndarray) -> tuple[int | None, int]:
    """Return the length of steps and where regular ones begin; None if there are none."""
    # In a step from its last product to its first, later places have earlier ends.
    found = np.unique(np.maximum.accumulate(ends)[ends > 0])
    # The last product of a step may be a place itself, which does not count.
    edges = [int(e) for e in found if e + 1 not in found]
    between = np.diff([0, *edges])
    if len(edges) < 2:
        return (None, 0) if len(found) > 2 else (edges[0] if edges else len(ends) + 1, 0)
    if len(between) > 2 and edges[-1] > len(ends) and between[-1] != between[-2]:
        edges, between = edges[:-1], between[:-1]  # a last step that is not full, or another part
    lengths, counts = np.unique(between[1:], return_counts=True)
    length = int(lengths[np.argmax(counts)])
    if max(counts) < len(between) / 2 or length < 2:
        return None, 0
    # Chains of a few steps each: after the first one, whole chains are what is seen.
    shortest = int(between[0])
    steps = int(np.argmax(between != shortest))
    if (steps + 1) * shortest == length and between[steps] == length + shortest:
        return shortest, 0
    if steps > 2 and steps * shortest == length == between[steps]:  # two steps may be a pair
        return shortest, 0
    regular = int(np.argmax(between == length))
    return length, 0 if regular == 0 else edges[regular - 1]


def _double(ends: np.ndarray) -> bool:
    """Return whether parts double: pairs of pairs, whose step may reach beyond what is seen."""
    found = np.unique(np.maximum.accumulate(ends)[ends > 0])
    doubled = np.minimum(2 * found[:-1], len(ends) + 1)
    return len(found) > 2 and bool((found[1:] == doubled).all())


def _within(seen: Ends, length: int, stride: int) -> str:
    """Return what becomes of the units of a first step with two large products."""
    inside, parts = (ends[: length - 1] for ends in seen)
    if length < _READABLE * stride:
        return ""
    # The last unit of a step may be a place itself, which does not count.
    if (inside >= length - 1 - (stride if stride > 1 else 0)).all():
        return "cut off"
    # Units that became last places were not kept.
    return "exact" if (np.maximum(inside, parts) <= 1).all() else "nested"


def part_from(ends: np.ndarray, step: int, k: int) -> int:
    """Return the first place, after the first step, whose part reaches further than its step."""
    places = np.arange(1, len(ends) + 1)
    beyond = (ends - places > step + 1) & (places >= step)
    return int(places[np.argmax(beyond)]) if beyond.any() else k
