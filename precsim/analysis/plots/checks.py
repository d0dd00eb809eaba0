"""Checks of what pictures are made of: mappings of curves, points, sizes, each with one line."""

import math
from collections.abc import ItemsView, Iterable, KeysView, ValuesView
from typing import Any, TypeVar

import numpy as np

from precsim._arrays import as_array
from precsim.formats.arguments import shown
from precsim.formats.reals import real

Kind = TypeVar("Kind")
_VIEWS = (KeysView, ValuesView, ItemsView)


def instance(value: Any, kind: type[Kind], argument: str, allowed: str) -> Kind:
    """Return a value of a type; refuse others."""
    if not isinstance(value, kind):
        raise TypeError(f"{argument} is {shown(value)}; allowed are {allowed}")
    return value


def listed(given: Any) -> list[Any]:
    """Return the entries of a sequence; a string, as all else, stands for itself alone."""
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]


def positive(value: Any, argument: str) -> float:
    """Return a positive finite number as float."""
    number = real(value, argument)
    if not 0 < number < math.inf:
        raise ValueError(f"{argument} is {shown(value)}; allowed are positive numbers")
    return float(number)


def by_label(given: Any, argument: str, allowed: str) -> dict[str, Any]:
    """Return a mapping (or a table of columns) as dict; refuse keys that are no strings."""
    if not hasattr(given, "items"):
        raise TypeError(f"{argument} is {shown(given)}; allowed are mappings of str to {allowed}")
    found = dict(given.items())
    for label in found:
        instance(label, str, f"a key of {argument}", "strings")
    return found


def pairs(
    given: Any, argument: str, names: tuple[str, str] = ("x", "y")
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return for each label a pair of arrays of one shape (n,)."""
    allowed, found = f"({', '.join(names)})", {}
    for label, pair in by_label(given, argument, allowed).items():
        of = f"{argument}[{shown(label)}]"
        try:
            first, second = pair
        except (TypeError, ValueError):
            raise TypeError(f"{of} is {shown(pair)}; allowed are pairs {allowed}") from None
        found[label] = points(first, second, (f"{names[0]} of {of}", f"{names[1]} of {of}"))
    return found


def points(first: Any, second: Any, names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Return two arrays of one shape (n,)."""
    x, y = numbers(first, names[0]), numbers(second, names[1])
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(
            f"{names[0]} has shape {x.shape}, {names[1]} {y.shape}; allowed is one shape (n,)"
        )
    return x, y


def numbers(values: Any, argument: str) -> np.ndarray:
    """Return real numbers as an array of float64."""
    array = as_array(list(values) if isinstance(values, _VIEWS) else values, argument)
    try:
        if getattr(array.dtype, "kind", "V") not in "cSUMm":
            return np.asarray(array, np.float64)
    except (TypeError, ValueError, OverflowError):
        pass  # the line below says it
    raise TypeError(f"{argument} is {shown(values)}; allowed are arrays of real numbers")
