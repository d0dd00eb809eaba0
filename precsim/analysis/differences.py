"""How two results differ: equal bits, and distances with names. Results are arrays or pytrees."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from precsim._arrays import as_array, is_array
from precsim.rounding.round_to import round_to

NARROW = ("bf16", "fp16")
"""Formats that products of wider operands are rounded to."""


class Flat(NamedTuple):
    """The numbers of a result, one after the other."""

    values: np.ndarray
    """float64, or float32 and narrower numbers in it, shape (n,)."""
    shapes: tuple[tuple[int, ...], ...]
    """Of its arrays."""

    @property
    def shown(self) -> str:
        """The shapes, for a message."""
        return ", ".join(map(str, self.shapes))


def flat(result: Any, argument: str) -> Flat:
    """Return the numbers of an array, or of all arrays of a pytree."""
    arrays = [np.asarray(as_array(leaf, argument)) for leaf in _leaves(result)]
    for x in arrays:
        if x.dtype.kind not in "fiubV" or x.dtype.itemsize > 8 or x.dtype.names:
            raise TypeError(
                f"{argument} has dtype {x.dtype}; allowed are real numbers of up to 64 bits"
            )
    if not arrays:
        raise TypeError(f"{argument} has no arrays; allowed are arrays and pytrees of arrays")
    values = np.concatenate([x.astype(np.float64).ravel() for x in arrays])
    return Flat(values, tuple(x.shape for x in arrays))


def _leaves(result: Any) -> Iterator[Any]:
    """Yield arrays and numbers in JAX's order of leaves: dicts by their sorted keys."""
    if is_array(result) or not isinstance(result, (Mapping, list, tuple)):
        yield result
    elif isinstance(result, Mapping):
        for key in sorted(result):
            yield from _leaves(result[key])
    elif _is_numeric(result):
        yield np.asarray(result)
    else:
        for part in result:
            yield from _leaves(part)


def _is_numeric(result: Any) -> bool:
    """Return whether nested lists hold numbers of Python alone, and so stand for one array."""
    return all(
        _is_numeric(part) if isinstance(part, (list, tuple)) else isinstance(part, (int, float))
        for part in result
    )


def are_equal(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return where float64 numbers have the same bits; all NaN count as one."""
    same: np.ndarray = x.view(np.uint64) == y.view(np.uint64)
    both: np.ndarray = same | (np.isnan(x) & np.isnan(y))
    return both


def equal_share(x: np.ndarray, y: np.ndarray) -> float:
    """Return the share of numbers with the same bits; 1 for no numbers."""
    return float(np.mean(are_equal(x, y))) if x.size else 1.0


def differences(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return ``|x - y|``: 0 for equal bits, infinite where only one is finite."""
    with np.errstate(invalid="ignore"):
        distance = np.where(are_equal(x, y), 0.0, np.abs(x - y))
    return np.where(np.isnan(distance), np.inf, distance)


def relative_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return ``||x - y|| / ||y||`` over the finite part of y; 0 / 0 is 0."""
    size = float(np.linalg.norm(y[np.isfinite(y)]))
    distance = float(np.linalg.norm(differences(x, y)))
    return distance / size if size else float("inf") if distance else 0.0


def is_of(values: np.ndarray, name: str) -> bool:
    """Return whether a format has all numbers."""
    if name == "fp32":
        with np.errstate(over="ignore"):
            return bool(are_equal(values, values.astype(np.float32).astype(np.float64)).all())
    return bool(are_equal(values, np.asarray(round_to(values, name))).all())


def format_of(values: np.ndarray) -> str:
    """Return the narrowest format that has all numbers."""
    return next((name for name in (*NARROW, "fp32") if is_of(values, name)), "fp64")
