"""Arrays in files of NumPy: four .npy, or one .npz; without pickle."""

import io
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from precsim.formats.arguments import shown
from precsim.training.data.checked import as_arrays
from precsim.training.data.dataset import Data
from precsim.training.data.files import (
    MOST_BYTES,
    MOST_DEFLATED,
    files_of,
    first_line,
    folder_of,
    most_in,
    named,
    opened,
    read_all,
    read_up_to,
)

NAMES = ("x_train", "y_train", "x_test", "y_test")
_MOST_OF_HEADER = 10_000
_DAMAGES = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, NotImplementedError,
    LookupError, OverflowError, UnicodeError,
)  # fmt: skip
"""What Python's zip reader raises for damaged archives."""


def load(data_dir: str) -> Data:
    """Read ``x_train``, ``y_train``, ``x_test``, ``y_test`` from .npy files or the one .npz file.

    Floats become float32, integers int32. Integer targets are classes, of which there are one more
    than the largest; targets of floats are numbers. Images of shape (n, height, width) get an axis
    of one channel. Source of the format: NumPy, "The .npy format", versions 1.0 and 2.0.
    """
    folder = folder_of(data_dir)
    if any((folder / f"{name}.npy").is_file() for name in NAMES):
        arrays = [_of_file(folder, name) for name in NAMES]
    else:
        archives = [path for path in files_of(folder) if path.suffix == ".npz"]
        if len(archives) != 1:
            raise FileNotFoundError(
                f"--data-dir has {len(archives)} files .npz and no x_train.npy (looked in "
                f"{named(folder)}); allowed are four files .npy or one .npz"
            )
        arrays = _of_archive(archives[0])
    data = as_arrays(*arrays, names=NAMES)
    if data.train_inputs.ndim == 3 and data.train_inputs.dtype == np.float32 and data.classes:
        return data._replace(
            train_inputs=data.train_inputs[..., None], test_inputs=data.test_inputs[..., None]
        )
    return data


def _of_file(folder: Path, name: str) -> np.ndarray:
    path = folder / f"{name}.npy"
    if not path.is_file():
        raise FileNotFoundError(f"--data-dir has no {path.name} (looked for {named(path)})")
    with _named(path), opened(path) as file:
        return _array(file, most_in(path))


def _of_archive(path: Path) -> list[np.ndarray]:
    # The archive is in memory, so that Python's reader, which believes declared sizes, takes none.
    with _named(path), zipfile.ZipFile(io.BytesIO(read_all(path))) as archive:
        members = {member.filename: member for member in archive.infolist()}
        arrays = []
        for name in NAMES:
            member = members.get(f"{name}.npy")
            if member is None:
                raise ValueError(f"it has no {name}; allowed are archives with {', '.join(NAMES)}")
            most = min(MOST_BYTES, MOST_DEFLATED * member.compress_size)
            with archive.open(member) as file:
                arrays.append(_array(file, most))
    return arrays


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the name of a file before what is wrong with it."""
    try:
        yield
    except (ValueError, *_DAMAGES) as error:
        reason = first_line(error) or type(error).__name__
        text = reason if reason.startswith(named(path)) else f"{named(path)}: {reason}"
        raise ValueError(text) from None


def _array(file: IO[bytes], most: int) -> np.ndarray:
    """Read an array of numbers of at most this many bytes, as far as its header says."""
    # From a copy: NumPy's reader takes memory for a header of the length that is declared.
    head = io.BytesIO(read_up_to(file, _MOST_OF_HEADER))
    shape, is_fortran, dtype = _header(head)
    if dtype.kind not in "biuf":
        raise ValueError(f"it has dtype {dtype.name}; allowed are integers and floats")
    if any(size < 0 for size in shape):
        raise ValueError(f"it declares shape {shown(shape)}; allowed are sizes from 0 on")
    declared = math.prod(shape) * dtype.itemsize
    if declared > most:
        raise ValueError(f"it declares {shown(declared)} bytes of values; it can hold {most}")
    values = head.read()
    values += read_up_to(file, declared + 1 - len(values))
    if len(values) != declared:
        more = "more" if len(values) > declared else len(values)
        raise ValueError(f"it declares {declared} bytes of values; it holds {more}")
    return np.frombuffer(values, dtype).reshape(shape, order="F" if is_fortran else "C")


def _header(head: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        with warnings.catch_warnings(action="ignore"):
            version = np.lib.format.read_magic(head)
            if version == (1, 0):
                return np.lib.format.read_array_header_1_0(head)
            if version == (2, 0):
                return np.lib.format.read_array_header_2_0(head)
    except Exception as error:  # noqa: BLE001 (its text is read as Python)
        reason = first_line(error) or type(error).__name__
        raise ValueError(f"it does not begin as .npy data do: {reason}") from None
    raise ValueError(f"its version is {version}; allowed are (1, 0) and (2, 0)")
