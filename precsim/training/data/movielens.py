"""Ratings of films: MovieLens, the set of 100,000 and those in CSV."""

import re
from array import array
from pathlib import Path

import numpy as np

from precsim.training.data.dataset import Data, shuffled
from precsim.training.data.files import (
    MOST_BYTES,
    find,
    first_line,
    folder_of,
    most_in,
    named,
    opened,
)

LOWEST, HIGHEST = 0.5, 5.0
_HEADER = b"userId,movieId,rating,timestamp"
_LONGEST = 100
_TABS = re.compile(rb"(\d{1,9})\t(\d{1,9})\t(\d{1,2}(?:\.\d{1,4})?)\t\d{1,12}\s*")
_COMMAS = re.compile(_TABS.pattern.replace(rb"\t", b","))
_TEST = 5
"""One rating of this number is for testing, where the files do not say which."""


def load(seed: int, data_dir: str) -> Data:
    """Read ``u.data`` of MovieLens 100K, or ``ratings.csv`` of the later sets.

    Where ``u1.base`` and ``u1.test`` are there, they are the split; else a fifth of the ratings,
    chosen at random, is for testing. Inputs are int32 pairs (user, item), numbered from 0 in the
    order of the ids in the files; targets are the ratings, 0.5 to 5 stars. The files may be in the
    folder ``ml-100k``. Source: F. M. Harper, J. A. Konstan, The MovieLens Datasets, ACM TiiS 5,
    2015.
    """
    folder = folder_of(data_dir, "ml-100k")
    if all((folder / name).is_file() for name in ("u1.base", "u1.test")):
        pairs, ratings = _read(folder / "u1.base")
        test_pairs, test_ratings = _read(folder / "u1.test")
        every, ids = _numbered(np.concatenate([pairs, test_pairs]))
        train = len(pairs)
        return Data(every[:train], ratings, every[train:], test_ratings, 0, ids)
    path = find(folder, "u.data", "ratings.csv")
    pairs, ratings = _read(path)
    if len(ratings) < _TEST:
        raise ValueError(f"{named(path)} has {len(ratings)} ratings; allowed are {_TEST} or more")
    pairs, ids = _numbered(pairs)
    return shuffled(pairs, ratings, len(ratings) - len(ratings) // _TEST, seed, 0, ids)


def _numbered(pairs: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Return pairs of numbers from 0 on, and how many of each there are."""
    users, user = np.unique(pairs[:, 0], return_inverse=True)
    items, item = np.unique(pairs[:, 1], return_inverse=True)
    return np.stack([user, item], axis=1).astype(np.int32), (len(users), len(items))


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of ids, (n, 2), and the ratings, float32."""
    size = path.stat().st_size
    if size > most_in(path):
        raise ValueError(f"{named(path)} has {size} bytes; allowed are {MOST_BYTES}")
    is_csv = path.suffix == ".csv"
    pattern, ids, ratings = _COMMAS if is_csv else _TABS, array("i"), array("f")
    with opened(path) as file:
        if is_csv and (header := file.readline(_LONGEST).strip()) != _HEADER:
            raise ValueError(
                f"{named(path)} begins with {_shown(header)}; allowed is {_shown(_HEADER)}"
            )
        number = int(is_csv)
        while line := file.readline(_LONGEST):
            number += 1
            found = pattern.fullmatch(line)
            if found is None or not LOWEST <= float(found[3]) <= HIGHEST:
                separator = "commas" if is_csv else "tabs"
                raise ValueError(
                    f"{named(path)} has {_shown(line)} in line {number}; allowed are user, item, "
                    f"rating from {LOWEST:g} to {HIGHEST:g} and time, with {separator} between"
                )
            ids.extend((int(found[1]), int(found[2])))
            ratings.append(float(found[3]))
    if not ratings:
        raise ValueError(f"{named(path)} has no ratings")
    return np.array(ids, np.int32).reshape(-1, 2), np.array(ratings, np.float32)


def _shown(line: bytes) -> str:
    return first_line(ascii(line.decode("latin-1").strip())[:60])
