"""The file of a sweep's results: SQLite, one transaction for each run, one writer at a time."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

APPLICATION = 0x70726373
"""What tells such a file from other SQLite files ("prcs")."""
VERSION = 1
WAIT_SECONDS = 30.0
"""For another process that is writing."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    number INTEGER PRIMARY KEY, begun TEXT NOT NULL, command TEXT NOT NULL, facts TEXT NOT NULL,
    grid TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cells (
    key TEXT PRIMARY KEY, cell TEXT NOT NULL, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
    key TEXT PRIMARY KEY, cell TEXT NOT NULL, facts TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('done', 'failed')),
    result TEXT NOT NULL, digest TEXT NOT NULL);
CREATE VIEW IF NOT EXISTS results AS SELECT
    json_extract(cell, '$.name') AS policy, json_extract(cell, '$.model') AS model,
    json_extract(cell, '$.task') AS task, json_extract(cell, '$.seed') AS seed, state,
    json_extract(result, '$.metrics.test_score') AS test_score,
    json_extract(result, '$.metrics.final_loss') AS final_loss,
    json_extract(result, '$.weights_hash') AS weights_hash,
    json_extract(result, '$.seconds') AS seconds,
    json_extract(result, '$.error') AS error, cell, result FROM runs;
"""

_NEW_SESSION = "INSERT INTO sessions (begun, command, facts, grid) VALUES (?, ?, ?, ?)"
_NEW_CELL = "INSERT OR IGNORE INTO cells VALUES (?, ?, ?)"
_DONE, _FAILED = "done", "failed"
_NEW_RUN = (
    "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
    " cell = excluded.cell, facts = excluded.facts, state = excluded.state,"
    f" result = excluded.result, digest = excluded.digest WHERE runs.state = '{_FAILED}'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What became of a cell.

    Parameters
    ----------
    key : str
        `Cell.key`.
    cell, facts : str
        The cell's text, and the versions as JSON.
    result : dict
        Of a finished run "metrics", "weights_hash", "seconds" and "provenance"; of a failed one
        "error", "tries" and, where there is one, "traceback".
    """

    key: str
    cell: str
    facts: str
    result: dict[str, Any] = field(hash=False)

    @property
    def is_done(self) -> bool:
        """Whether it was trained to its end."""
        return "error" not in self.result

    def row(self) -> tuple[str, ...]:
        """Return the columns of its row, the last one a checksum of the others."""
        state = _DONE if self.is_done else _FAILED
        columns = (self.key, self.cell, self.facts, state, json.dumps(self.result))
        return (*columns, digest_of(columns))


def digest_of(columns: Iterable[Any]) -> str:
    """Return the SHA-256 of a row's columns, in which a changed byte shows."""
    return hashlib.sha256(json.dumps([*columns]).encode()).hexdigest()


def run_of(row: tuple[Any, ...]) -> Run | None:
    """Return the run of a row; None if the row is not what was written."""
    *columns, digest = row
    if digest_of(columns) != digest:
        return None
    key, cell, facts, _, result = columns
    return Run(key=key, cell=cell, facts=facts, result=json.loads(result))


def address_of(path: Path, mode: str = "rw") -> str:
    """Return the URI of a file. Where nothing can be written beside it, SQLite only reads it."""
    path = path.absolute()
    if not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists():
        mode = "ro&immutable=1"
    return f"{path.as_uri()}?mode={mode}"


class Store:
    """The results of a sweep. A run is in the file, whole, as soon as `add` has returned.

    Parameters
    ----------
    path : Path
        The file. It belongs on a disk of the machine that writes it.
    create : bool
        Whether a file that is not there is made.

    Raises
    ------
    FileNotFoundError
        If there is no such file, and none is to be made.
    OSError
        If the file cannot be opened or written.
    ValueError
        If it is no such file, or is damaged.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        if not create and not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; precsim sweep GRID.toml makes one")
        with told(path):
            self._connection = sqlite3.connect(
                path if create else address_of(path),
                timeout=WAIT_SECONDS,
                isolation_level=None,
                uri=not create,
            )
            try:
                self._prepare(create)
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self, create: bool) -> None:
        run = self._connection.execute
        (application,) = run("PRAGMA application_id").fetchone()
        (version,) = run("PRAGMA user_version").fetchone()
        (tables,) = run("SELECT count(*) FROM sqlite_schema").fetchone()
        if not tables and create:
            run("PRAGMA journal_mode = WAL")
            self._connection.executescript(
                f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA application_id = {APPLICATION};"
                f"PRAGMA user_version = {VERSION};COMMIT;"
            )
        elif application != APPLICATION:
            raise ValueError(f"{self.path} is no file of precsim sweep; name another one")
        elif version != VERSION:
            raise ValueError(
                f"{self.path} has version {version} of the file; allowed is version {VERSION}"
            )
        run("PRAGMA synchronous = FULL")
        found = run("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise damaged(self.path, found)

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def begin(
        self, cells: Mapping[str, str], facts: Mapping[str, Any], command: str, grid: str
    ) -> None:
        """Note what is to be run: texts of cells by key. What was planned only is forgotten."""
        versions = json.dumps(facts, sort_keys=True)
        with self._transaction() as run:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            run(_NEW_SESSION, (now, command, versions, grid))
            run("DELETE FROM cells WHERE key NOT IN (SELECT key FROM runs)")
            rows = ((key, cell, versions) for key, cell in cells.items())
            self._connection.executemany(_NEW_CELL, rows)

    def copy(self, sessions: Iterable[tuple[str, ...]], runs: Iterable[Run]) -> None:
        """Take over sessions, as `sessions` returns them, and runs of another file, all at once."""
        with self._transaction() as execute:
            for session in sessions:
                execute(_NEW_SESSION, session)
            for run in runs:
                execute(_NEW_RUN, run.row())
                execute(_NEW_CELL, (run.key, run.cell, run.facts))

    def add(self, run: Run) -> bool:
        """Store a run; return whether it is new. A finished one is never written over."""
        with self._transaction() as execute:
            return bool(execute(_NEW_RUN, run.row()).rowcount)

    def states(self) -> dict[str, bool]:
        """Return for the key of each run whether it is done; the others failed."""
        rows = self._rows("SELECT key, state FROM runs")
        return {key: state == _DONE for key, state in rows}

    def planned(self) -> dict[str, str]:
        """Return the texts of the cells, by key, that the latest session's versions have."""
        facts = self.facts()
        return dict(self._rows("SELECT key, cell FROM cells WHERE facts = ?", facts))

    def facts(self) -> str:
        """Return the versions of the latest session."""
        found = self._rows("SELECT facts FROM sessions ORDER BY number DESC LIMIT 1")
        return str(next((row[0] for row in found), "{}"))

    def sessions(self) -> list[tuple[str, str, str, str]]:
        """Return when each session began, its command, its versions and its grid."""
        rows = self._rows("SELECT begun, command, facts, grid FROM sessions ORDER BY number")
        return [(*row,) for row in rows]

    def runs(self) -> Iterator[Run]:
        """Yield the runs with the latest session's versions, in the order of their cells.

        Raises
        ------
        ValueError
            If a row is not what was written.
        """
        rows = self._rows(
            "SELECT runs.* FROM runs JOIN cells USING (key) WHERE runs.facts = ?"
            " ORDER BY cells.rowid",
            self.facts(),
        )
        for row in rows:
            run = run_of(row)
            if run is None:
                raise damaged(self.path, f"the row of run {row[0]} is not what was written")
            yield run

    def others(self) -> int:
        """Return how many runs have other versions than those of the latest session."""
        (row,) = self._rows("SELECT count(*) FROM runs WHERE facts != ?", self.facts())
        return int(row[0])

    def _rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        with told(self.path):
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        with told(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.execute
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise


@contextmanager
def open_alone(path: Path) -> Iterator[Store]:
    """Open or make a file that no other sweep works on."""
    with alone(path), Store(path, create=True) as store:
        yield store


def open_plan(path: Path) -> Store:
    """Open a file to look at it; where there is none yet, open one that is in memory only."""
    is_there = path.is_file() and path.stat().st_size > 0
    return Store(path if is_there else Path(":memory:"), create=not is_there)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Refuse a file that another sweep works on. A process that is killed leaves it free.

    Raises
    ------
    ValueError
        If another one does.
    OSError
        If the file cannot be opened, or made.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror}") from None
    try:
        _lock(handle, path)
        yield
    finally:
        os.close(handle)  # after SQLite has closed the file: closing drops this process's locks


def _lock(handle: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    with suppress(OSError):  # a file system without locks
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path} is in use by another precsim sweep") from None


def damaged(path: Path, found: str) -> ValueError:
    """Return the error of a damaged file, with the command that mends it."""
    first = " ".join(str(found).split())[:200]
    return ValueError(
        f"{path} is damaged ({first}); precsim sweep rescue {path} --out NEW.sqlite copies all "
        "runs that can be read"
    )


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Let an error of SQLite name the file, and say what can be done."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OSError(f"{path} cannot be used: {error}; finished runs stay in it") from None
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise ValueError(
                f"{path} is no file of precsim sweep, or its first page is damaged: no run can be "
                "read from it"
            ) from None
        raise damaged(path, str(error)) from None
