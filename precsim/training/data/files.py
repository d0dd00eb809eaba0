"""Files of data sets: found by name, read as far as they really reach, refused in one line."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

MOST_BYTES = 2**30
"""Bytes that a file of a data set, or what it holds in compressed form, may have."""
MOST_DEFLATED = 1032
"""Bytes that deflate, the compression of .gz, .npz and .png, makes of one byte at most."""
_PIECE = 2**20


def folder_of(data_dir: str, *inside: str) -> Path:
    """Return the folder of the files: that of a run, or the first folder in it of a given name."""
    if not data_dir:
        raise ValueError(
            "--data-dir is not given; allowed is the folder with the files of the task"
        )
    folder = Path(data_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"--data-dir is {named(folder)}; there is no such folder")
    return next((folder / name for name in inside if (folder / name).is_dir()), folder)


def find(folder: Path, *names: str) -> Path:
    """Return the first file of these names that a folder has."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"--data-dir has no {' or '.join(names)} (looked for {named(folder / names[0])})"
    )


def listed(folder: Path) -> list[Path]:
    """Return what a folder holds, in the order of the names, without hidden files."""
    with one_line(folder):
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def files_of(folder: Path) -> list[Path]:
    """Return the files that a folder holds, in the order of their names."""
    return [path for path in listed(folder) if path.is_file()]


def named(path: Path) -> str:
    """Return a path as messages show it, on one line."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


@contextmanager
def one_line(path: Path) -> Iterator[None]:
    """Turn what reading a damaged or forbidden file raises into one line that names the file."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ValueError(f"{named(path)} cannot be read: {first_line(reason)}") from None


def first_line(reason: object) -> str:
    """Return the first line of a text, and no more of it than a message can show."""
    return str(reason).strip().partition("\n")[0][:200]


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, or what a .gz file holds."""
    with one_line(path):
        is_compressed = path.suffix == ".gz"
        with cast("IO[bytes]", gzip.open(path)) if is_compressed else path.open("rb") as file:
            yield file


def most_in(path: Path) -> int:
    """Return how many bytes a file can hold at most, whatever its header declares."""
    with one_line(path):
        size = path.stat().st_size
    return min(MOST_BYTES, size * (MOST_DEFLATED if path.suffix == ".gz" else 1))


def read_up_to(file: Any, most: int) -> bytearray:
    """Read `most` bytes, or what there is; memory is taken for what there is only."""
    content = bytearray()
    while len(content) < most:
        piece = file.read(min(_PIECE, most - len(content)))
        if not piece:
            break
        content += piece
    return content


def read_all(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read a whole file, which may have `most` bytes."""
    with opened(path) as file:
        content = read_up_to(file, most + 1)
    if len(content) > most:
        raise ValueError(f"{named(path)} has more than {most} bytes, which are allowed")
    return bytes(content)


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Read a text file in UTF-8; each kind of end of line counts as one character."""
    try:
        text = read_all(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{named(path)} is not UTF-8: {error.reason}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def packaged_table(name: str) -> np.ndarray | None:
    """Return a table of numbers that scikit-learn brings, None if it is not found.

    The package takes two seconds to import, so its files are read without it.
    """
    package = find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder) / "datasets" / "data" / name
        if file.is_file():
            with gzip.open(file, "rt", encoding="ascii") as lines:
                return np.loadtxt((line.replace(",", " ") for line in lines), dtype=np.float64)
    return None
