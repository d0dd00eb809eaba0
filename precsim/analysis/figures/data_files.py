"""Published data files, read in place from a clone of their repository (``--data-dir``)."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np

Tables: TypeAlias = dict[str, dict[str, np.ndarray]]
"""Columns by name, of each file by the end of its name."""


def locate(folder: Path | None, endings: Iterable[str]) -> dict[str, Path]:
    """Return the file under `folder` for each end of a file name; absent ones are left out.

    Raises
    ------
    ValueError
        If several files with that end of name differ.
    """
    found = {}
    for ending in endings:
        found_here = folder.rglob(f"*{ending}") if folder else []
        paths = sorted(path for path in found_here if path.is_file())
        if len({path.read_bytes() for path in paths}) > 1:
            names = ", ".join(map(str, paths))
            raise ValueError(f"--data-dir has different files ending in {ending!r}: {names}")
        if paths:
            found[ending] = paths[0]
    return found


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Return the columns, float64, of a text file whose first line has their names.

    Raises
    ------
    ValueError
        If the names are not all different, or a line is no list of numbers, one for each name.
    """
    names: list[str] = []
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
        names = header.split()
        rows = [dict(zip(names, map(float, line.split()), strict=True)) for line in lines]
        if not names or len(set(names)) < len(names):
            raise ValueError("the first line has no names, or one of them twice")
    except ValueError as problem:
        raise ValueError(f"{path.name} is no table with the columns {names}: {problem}") from None
    return {name: np.array([row[name] for row in rows]) for name in names}
