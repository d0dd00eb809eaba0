"""Which tensors of two dumps belong together, by what their names say and by their shapes.

Names are split into words and numbers, and words that frameworks use for the same thing are made
one. Numbers that count from 1 are made to count from 0. Equal names are paired first. The others
are paired so that the sum of their likeness is the largest (the assignment problem, which SciPy
solves); between equally likely partners their values decide.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from precsim.analysis.dumps.read import Moments, Tensor

Shape = tuple[int, ...]

_SAME: dict[str, Sequence[str]] = {
    "weight": ("kernel", "w", "scale", "gamma", "weights"),
    "bias": ("b", "beta", "offset"),
    "layer": ("layers", "block", "blocks", "h", "encoderlayer", "decoderlayer"),
    "attention": ("attn", "selfattention", "selfattn", "mha", "multiheadattention", "sa"),
    "mlp": ("ffn", "feedforward", "ff"),
    "norm": ("ln", "layernorm", "rmsnorm", "batchnorm", "bn", "groupnorm"),
    "linear": ("dense", "fc", "proj", "projection", "lin", "conv1d"),
    "embedding": ("embed", "embeddings", "emb", "wte", "wpe"),
    "query": ("q",),
    "key": ("k",),
    "value": ("v",),
    "out": ("o", "output"),
    "convolution": ("conv", "conv2d"),
    "head": ("lmhead", "classifier"),
    "gradient": ("grad", "grads", "gradients"),
    "mean": ("mu",),
    "variance": ("var", "nu"),
}
"""A word, and those that count as the same."""

_WORDS = {other: word for word, others in _SAME.items() for other in others}
_IGNORED = {"model", "module", "params", "param", "transformer", "c", "state", "dict", "default"}
_LEAST = 0.3
"""Likeness, 0 to 1, from which two tensors are taken for the same."""
_MORE_NUMBERS, _OTHER_NUMBERS = 0.8, 0.4
"""What names are worth of which one has further numbers, and those with other numbers."""
_VALUES = 0.1
"""What other values take from the likeness: they decide between names that are as likely."""
_RESHAPED = 0.8
"""What tensors of as many elements in another shape are worth."""


class Pair(NamedTuple):
    """Two names that belong together."""

    ours: str
    theirs: str
    likeness: float
    """1 for names of the same words and numbers."""
    is_unique: bool
    """Whether no other partner is as likely."""


def words(name: str) -> tuple[str, ...]:
    """Return the words and numbers of a name, those of several spellings in one of them."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    parts = re.findall(r"[a-z]+|\d+", spaced.lower())
    joined = [_WORDS.get(part, part) for part in _with_compounds(parts)]
    return tuple(part for part in joined if part not in _IGNORED)


def _with_compounds(parts: Sequence[str]) -> list[str]:
    """Join two words that are one of the known words: self_attn, layer_norm, lm_head."""
    known = {*_WORDS, *_SAME}
    found: list[str] = []
    for part in parts:
        if found and found[-1] + part in known and not part.isdecimal():
            found[-1] += part
        else:
            found.append(part)
    return found


def align(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[Pair]:
    """Return the pairs of two dumps, in the order of ours; what has no partner is in none."""
    partners = {name: Pair(name, name, 1.0, True) for name in ours if name in theirs}
    rest = [name for name in ours if name not in partners]
    others = [name for name in theirs if name not in partners]
    partners |= _of_same_words(rest, others)
    taken = {pair.theirs for pair in partners.values()}
    rest = [name for name in rest if name not in partners]
    others = [name for name in others if name not in taken]
    if rest and others:
        partners |= _likely(rest, others, ours, theirs)
    return [partners[name] for name in ours if name in partners]


def _of_same_words(rest: Sequence[str], others: Sequence[str]) -> dict[str, Pair]:
    """Return the pairs whose names are made of the same words, and no third one is."""
    ours, theirs = (_by_words(names) for names in (rest, others))
    both = ours.keys() & theirs.keys()
    unique = [key for key in both if len(ours[key]) == len(theirs[key]) == 1]
    pairs = [Pair(ours[key][0], theirs[key][0], 1.0, True) for key in unique]
    return {pair.ours: pair for pair in pairs}


def _by_words(names: Sequence[str]) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for name, parts in zip(names, _counted_from_0(list(map(words, names))), strict=True):
        found.setdefault(parts, []).append(name)
    return found


def _counted_from_0(names: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Subtract 1 from numbers of which the least is 1 among several after the same words."""
    groups: dict[tuple[str, ...], set[int]] = {}
    for parts in names:
        for n, part in enumerate(parts):
            if part.isdecimal():
                groups.setdefault(_before(parts, n), set()).add(int(part))
    from_1 = {group for group, numbers in groups.items() if len(numbers) > 1 and min(numbers) == 1}

    def counted(parts: tuple[str, ...], n: int) -> str:
        is_from_1 = parts[n].isdecimal() and _before(parts, n) in from_1
        return str(int(parts[n]) - 1) if is_from_1 else parts[n]

    return [tuple(counted(parts, n) for n in range(len(parts))) for parts in names]


def _before(parts: tuple[str, ...], n: int) -> tuple[str, ...]:
    """Return what stands before a part, whatever the numbers are."""
    return tuple("#" if part.isdecimal() else part for part in parts[:n])


def _likely(
    rest: Sequence[str],
    others: Sequence[str],
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
) -> dict[str, Pair]:
    """Return the pairs with the largest sum of likeness, without those that are too unlike."""
    from scipy.optimize import linear_sum_assignment

    likeness = _name_likeness(rest, others)
    likeness *= _shape_likeness(
        [ours[name].shape for name in rest], [theirs[name].shape for name in others]
    )
    tilted = likeness - _VALUES * _unlikeness(
        [ours[name].moments() for name in rest], [theirs[name].moments() for name in others]
    )
    rows, columns = linear_sum_assignment(np.where(likeness > 0, tilted, -1), maximize=True)
    pairs = {}
    for row, column in zip(rows, columns, strict=True):
        value = float(likeness[row, column])
        if value >= _LEAST:
            is_unique = (likeness[row] >= value - _VALUES).sum() == 1
            pairs[rest[row]] = Pair(rest[row], others[column], value, bool(is_unique))
    return pairs


def _name_likeness(rest: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """Return the cosine between the words of names, rare words counting more; 0 to 1."""
    split = [parts for side in (rest, others) for parts in _counted_from_0(list(map(words, side)))]
    features = [_features(parts) for parts in split]
    counts = Counter(feature for each in features for feature in each)
    place = {feature: n for n, feature in enumerate(counts)}
    table = np.zeros((len(split), len(place)), np.float32)
    for row, each in zip(table, features, strict=True):
        for feature in each:
            row[place[feature]] = np.log1p(len(split) / counts[feature])
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-30)
    likeness = (table[: len(rest)] @ table[len(rest) :].T).astype(np.float64)
    numbers = [tuple(part for part in parts if part.isdecimal()) for parts in split]
    weighted: np.ndarray = likeness * _table(_worth, numbers[: len(rest)], numbers[len(rest) :])
    return weighted


def _table(
    function: Callable[[Any, Any], float], ours: Sequence[Any], theirs: Sequence[Any]
) -> Any:
    """Return what a function makes of all pairs, computed once for each pair of different ones."""
    kinds = [list(dict.fromkeys(side)) for side in (ours, theirs)]
    table = np.array([[function(x, y) for y in kinds[1]] for x in kinds[0]])
    places = [{kind: n for n, kind in enumerate(side)} for side in kinds]
    return table[np.ix_([places[0][x] for x in ours], [places[1][y] for y in theirs])]


def _worth(x: tuple[str, ...], y: tuple[str, ...]) -> float:
    if x == y:
        return 1.0
    common = min(len(x), len(y))
    return _MORE_NUMBERS if x[:common] == y[:common] else _OTHER_NUMBERS


def _features(parts: Sequence[str]) -> set[str]:
    """Return the words, and the numbers by their turn."""
    numbers = [part for part in parts if part.isdecimal()]
    turns = {f"{turn}:{number}" for turn, number in enumerate(numbers)}
    return {part for part in parts if not part.isdecimal()} | turns


def _unlikeness(ours: Sequence[Moments], theirs: Sequence[Moments]) -> np.ndarray:
    """Return how far the means and the sizes of values are apart, 0 to 1."""
    x, y = np.array(ours)[:, None], np.array(theirs)
    size = np.maximum(np.maximum(x[..., 1], y[..., 1]), 1e-300)
    with np.errstate(invalid="ignore"):
        apart: np.ndarray = np.nan_to_num(np.abs(x - y).sum(-1) / size, nan=1.0, posinf=1.0)
    return np.asarray(np.clip(apart, 0.0, 1.0))


def _shape_likeness(ours: Sequence[Shape], theirs: Sequence[Shape]) -> np.ndarray:
    """Return 1 for the same sizes of axes in any order, 0 for other numbers of elements."""
    return np.asarray(_table(_fit, list(map(tuple, ours)), list(map(tuple, theirs))))


def _fit(x: Shape, y: Shape) -> float:
    if sorted(x) == sorted(y):
        return 1.0
    return _RESHAPED if math.prod(x) == math.prod(y) else 0.0
