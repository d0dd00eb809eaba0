"""Members of .npz files, which are zip archives: streamed, and no declared size is believed.

A member is read as far as its own header says, and no further. Members that overlap, of which zip
bombs are made, are refused. The two compressions that NumPy writes are read: none, and deflate,
which makes at most a thousand bytes of one.
"""

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from precsim.analysis.files.npy import read_header
from precsim.analysis.files.stored import Skipped, StoredTensor
from precsim.formats.arguments import shown

MAX_DIRECTORY = 1 << 24
"""Bytes of the largest table of contents that is read, enough for 100,000 tensors."""

_DAMAGES = (
    zipfile.BadZipFile, zlib.error, EOFError, struct.error, RuntimeError,
    NotImplementedError, ValueError, OverflowError, LookupError,
)  # fmt: skip
"""What Python's zip reader raises for damaged archives."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LOCAL_HEADER = 30


class _BoundedReads:
    """A file that refuses to read too much at a time: `zipfile` believes the size of its table."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def seekable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        # What is declared may be more than there is, and memory is taken before the file is read.
        left = os.fstat(self._file.fileno()).st_size - self._file.tell()
        data = self._file.read(min(left if count < 0 else count, left, MAX_DIRECTORY + 1))
        if len(data) > MAX_DIRECTORY:
            raise ValueError(f"its table of contents has more than {MAX_DIRECTORY} bytes")
        return data


@contextmanager
def open_npz(path: Path) -> Iterator[Iterator[StoredTensor | Skipped]]:
    """Open an archive; yield its tensors, and what is no tensor."""
    with path.open("rb") as file:
        with _one_kind_of_error():
            archive = zipfile.ZipFile(cast("Any", _BoundedReads(file)))
            members = archive.infolist()
            _refuse_overlaps(members)
        yield (_member(archive, member) for member in members if not member.filename.endswith("/"))


def _refuse_overlaps(members: list[zipfile.ZipInfo]) -> None:
    end = 0
    for member in sorted(members, key=lambda m: m.header_offset):
        if member.header_offset < end:
            raise ValueError(f"its member {shown(member.filename)} overlaps another one")
        end = member.header_offset + _LOCAL_HEADER + member.compress_size


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> StoredTensor | Skipped:
    name = member.filename.removesuffix(".npy")
    if name == member.filename:
        return Skipped(name=name, reason="no .npy data")
    if member.compress_type not in _METHODS:
        reason = f"its compression is number {member.compress_type}; allowed are 0 and 8 (deflate)"
        return Skipped(name=name, reason=reason, is_fault=True)
    opened = partial(_opened, archive, member)
    try:
        with opened() as file:
            header = read_header(file)
    except ValueError as error:
        return Skipped(name=name, reason=str(error), is_fault=True)
    if header.dtype is None:
        return Skipped(name=name, reason=header.reason, dtype=header.label, shape=header.shape)
    return StoredTensor(
        name=name,
        label=header.label,
        shape=header.shape,
        dtype=header.dtype,
        open=cast("Callable[[], Any]", opened),
        start=header.start,
        is_fortran=header.is_fortran,
        is_last=True,
    )


@contextmanager
def _opened(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[BinaryIO]:
    with _one_kind_of_error(), archive.open(member) as stream:
        yield cast("BinaryIO", stream)


@contextmanager
def _one_kind_of_error() -> Iterator[None]:
    """Turn the errors of a damaged archive into one."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error).partition("\n")[0]) from None
    except _DAMAGES as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"it is a damaged archive: {reason}") from None
