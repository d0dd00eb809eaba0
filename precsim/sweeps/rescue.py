"""What is whole in a damaged file of results, copied into a new one."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from precsim.sweeps.store import Store, run_of, told


class Rescued(NamedTuple):
    """How many runs were copied, and how many rows were found that are not whole."""

    copied: int
    lost: int


def rescue(path: Path, new: Path) -> Rescued:
    """Copy each run whose row is what was written, and the sessions, into a new file.

    Rows are looked up one by one, so a page that cannot be read costs the rows on it and those
    that only it leads to. The next ``precsim sweep`` on the new file runs what is missing.

    Parameters
    ----------
    path : Path
        The damaged file, which stays as it is.
    new : Path
        A file that is not there yet.

    Raises
    ------
    FileExistsError
        If the new file is there.
    ValueError
        If nothing can be read.
    """
    if new.exists():
        raise FileExistsError(f"--out is {new}, which exists; name another file")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as old:
        rows, sessions = _read(old, "runs", path), _read(old, "sessions", path)
    runs = [run for row in rows if row is not None and (run := run_of(row)) is not None]
    if not runs:
        raise ValueError(f"{path} has no run that can be read")
    known = [session[1:] for session in sessions if session is not None]
    if not known or known[-1][2] not in {run.facts for run in runs}:  # the latest one is lost
        known.append(("", "precsim sweep rescue", runs[-1].facts, ""))
    with Store(new, create=True) as store:
        store.copy(known, runs)
    return Rescued(len(runs), len(rows) - len(runs))


def _read(old: sqlite3.Connection, table: str, path: Path) -> list[tuple[Any, ...] | None]:
    """Return all rows of a table that are there; None for one that cannot be read."""
    rows: list[tuple[Any, ...] | None] = []
    with told(path):
        pages: int = old.execute("PRAGMA page_count").fetchone()[0]
    for number in range(1, _last(old, table, pages) + 1):
        try:
            found = old.execute(
                f"SELECT * FROM {table} NOT INDEXED WHERE rowid = ?", (number,)
            ).fetchone()
        except sqlite3.DatabaseError:
            rows.append(None)
            continue
        if found is not None:
            rows.append(found)
    return rows


def _last(old: sqlite3.Connection, table: str, pages: int) -> int:
    """Return the largest number of a row, or a bound: each run takes more than 100 bytes."""
    with suppress(sqlite3.DatabaseError):
        return int(old.execute(f"SELECT max(rowid) FROM {table} NOT INDEXED").fetchone()[0] or 0)
    return pages * 40
