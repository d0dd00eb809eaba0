"""What is whole in a damaged file of results, copied into a new one."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from precsim.sweeps.store import Store, address_of, run_of

_SHOWN = 200
"""Characters of a fault that are told at most."""
_MOST_ON_PAGE = 40
"""Rows: each run takes more than 100 bytes."""


class Rescued(NamedTuple):
    """What was copied, and from what.

    Parameters
    ----------
    copied : int
        Runs in the new file.
    lost : int, optional
        Rows that are not whole; None where SQLite finds the file damaged: it is not known then.
    fault : str
        What SQLite's ``quick_check`` and the checksums of rows find in the old file first; nothing
        if it is intact.
    """

    copied: int
    lost: int | None
    fault: str


def rescue(path: Path, new: Path) -> Rescued:
    """Copy each run whose row is what was written, and the sessions, into a new file.

    Rows are looked up one by one, so a page that cannot be read costs the rows on it and those
    that only it leads to. Of a file that is cut off, the pages that are there are read. The next
    ``precsim sweep`` on the new file runs what is missing.

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
    with closing(sqlite3.connect(address_of(path, "ro"), uri=True)) as old:
        try:
            fault = _fault(old)
            rows, sessions = (_read(old, name, not fault) for name in ("runs", "sessions"))
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path}: no run can be read; SQLite says: {error}") from None
    runs = [run for row in rows if row is not None and (run := run_of(row)) is not None]
    if not runs:
        raise ValueError(f"{path}: no run can be read{fault and f'; SQLite says: {fault}'}")
    known = [session[1:] for session in sessions if session is not None]
    if not known or known[-1][2] not in {run.facts for run in runs}:  # the latest one is lost
        known.append(("", "precsim sweep rescue", runs[-1].facts, ""))
    with Store(new, create=True) as store:
        store.copy(known, runs)
    lost = None if fault else len(rows) - len(runs)
    return Rescued(len(runs), lost, "a row is not what was written" if lost else fault)


def _fault(old: sqlite3.Connection) -> str:
    """Return what is wrong with a file; let SQLite read one that is cut off from then on."""
    try:
        found = str(old.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        found = str(error)
    old.execute("PRAGMA writable_schema = ON")
    return "" if found == "ok" else " ".join(found.split())[:_SHOWN]


def _read(old: sqlite3.Connection, table: str, is_intact: bool) -> list[tuple[Any, ...] | None]:
    """Return all rows of a table that are there; None for one that cannot be read.

    What a damaged file says about its last row may be wrong: all numbers are tried.
    """
    query = f"SELECT max(rowid) FROM {table}" if is_intact else "PRAGMA page_count"
    (found,) = old.execute(query).fetchone()
    last = (found or 0) if is_intact else found * _MOST_ON_PAGE
    rows: list[tuple[Any, ...] | None] = []
    for number in range(1, last + 1):
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
