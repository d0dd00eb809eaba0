"""A benchmark: contenders that do the same work, and the ratios between them that are wanted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class SkipError(Exception):
    """A case or a contender cannot run here; the message says why."""


class Wrong(NamedTuple):
    """How many of the compared results are not the correct ones."""

    wrong: int
    compared: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to do the work.

    `run` is timed: a complete call, whose result is there when it returns. `check` is not. Peers
    are other libraries: each gets a row of its own, against what the case's first goal measures.
    """

    run: Callable[[], object]
    check: Callable[[], Wrong] | None = None
    is_peer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A ratio of times, and what it should at most be (None: for information)."""

    measured: str
    against: str
    at_most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the command asks a case to do."""

    size: int
    quick: bool = False
    peers: bool = False
    processor_time: bool = False
    synchronous: bool = False


Build = Callable[[Setting], Mapping[str, Contender | str]]
"""Makes the contenders by name; a string instead of one says why it is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Contenders that alternate in one fresh process.

    Parameters
    ----------
    name : str
        Group and subject, "nearest/fp16".
    build : callable
        Makes the contenders, inside that process.
    goals : tuple of Goal
        The rows of the table.
    size, quick_size : int
        Elements; 1 where a call as a whole counts. No `quick_size`: not part of a quick run.
    platform : str
        What JAX runs on in that process, "cpu" or "" (its own choice: an accelerator if there is
        one).
    """

    name: str
    build: Build
    goals: tuple[Goal, ...]
    size: int
    quick_size: int | None = None
    platform: str = "cpu"


def against_exact(
    result: Callable[[], Any], chosen: np.ndarray, exact: Callable[[int], float]
) -> Callable[[], Wrong]:
    """Return a check of chosen elements against exact single results, by bits (NaN is NaN)."""

    def check() -> Wrong:
        got = np.asarray(result()).reshape(-1)[chosen]
        right = np.array([exact(int(k)) for k in chosen]).astype(got.dtype)
        unsigned = np.dtype(f"u{got.dtype.itemsize}")
        same = (got.view(unsigned) == right.view(unsigned)) | (np.isnan(got) & np.isnan(right))
        return Wrong(int((~same).sum()), len(chosen))

    return check
