"""Dumps of tensors: npz, safetensors, npy, folders of them, mappings. Nothing is unpickled."""

import json
import math
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from precsim._arrays import as_array
from precsim.formats.arguments import shown
from precsim.training.data.files import MOST_DEFLATED, first_line

_DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
"""Dtypes of safetensors."""

_DAMAGES = (
    ValueError, EOFError, LookupError, RuntimeError, OverflowError, SyntaxError, TypeError,
    tokenize.TokenError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What NumPy and Python raise where an archive is damaged; headers are read as Python's tokens."""

Moments = tuple[float, float]


@dataclass(frozen=True)
class Tensor:
    """A tensor of a dump: its shape, and how its values are loaded."""

    shape: tuple[int, ...]
    load: Callable[[], np.ndarray]

    def moments(self) -> Moments:
        """Return the mean and the root mean square of the values, whatever their order."""
        x = self.load()
        if not x.size or x.dtype.kind not in "fiubV":
            return 0.0, 0.0
        values = x.astype(np.float64).ravel()
        with np.errstate(all="ignore"):
            return float(values.mean()), float(np.sqrt(np.mean(values**2)))


def read_dump(given: Any, argument: str) -> dict[str, Tensor]:
    """Return the tensors of a dump by name.

    The order is that of a mapping or an npz; of folders and safetensors, which keep none, that of
    the names, numbers in them by their value.
    """
    if isinstance(given, Mapping):
        return dict(_of_mapping(given, argument))
    if not isinstance(given, (str, PathLike)):
        raise TypeError(
            f"{argument} is {shown(given)}; allowed are paths, and mappings of names to arrays"
        )
    path = Path(given)
    if not path.exists():
        raise FileNotFoundError(f"{argument} is {shown(str(path))}, where there is nothing")
    said = f"{argument}: {path}"
    with _one_line(said):
        found = dict(_of_folder(path) if path.is_dir() else _of_file(path))
    if not found:
        raise ValueError(f"{said} has no tensors; allowed are npz, npy, safetensors")
    return {name: replace(each, load=partial(_loaded, each, said)) for name, each in found.items()}


def _loaded(tensor: Tensor, said: str) -> np.ndarray:
    with _one_line(said):
        return tensor.load()


@contextmanager
def _one_line(said: str) -> Iterator[None]:
    """Turn what reading a damaged dump raises into one line that names it."""
    try:
        yield
    except _DAMAGES as error:
        reason = first_line(error) or type(error).__name__
        raise ValueError(f"{said} is no dump of tensors: {reason}") from None


def _of_mapping(given: Mapping[Any, Any], argument: str, outer: str = "") -> Iterator[Any]:
    for key, value in given.items():
        name = f"{outer}{key}"
        if isinstance(value, Mapping):
            yield from _of_mapping(value, argument, f"{name}/")
        else:
            array = np.asarray(as_array(value, f"{argument}[{shown(name)}]"))
            yield name, Tensor(array.shape, partial(np.asarray, array))


def _of_folder(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of all files below a folder; files of several have their name in front."""
    for path in sorted(folder.rglob("*"), key=lambda path: natural(str(path))):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if path.suffix == ".npy":
            yield name, _of_npy(path)
        elif path.suffix in (".npz", ".safetensors"):
            yield from ((f"{name}/{inner}", tensor) for inner, tensor in _of_file(path))


def _of_file(path: Path) -> Iterator[tuple[str, Tensor]]:
    if path.suffix == ".npy":
        yield path.stem, _of_npy(path)
    elif path.suffix == ".safetensors":
        yield from _of_safetensors(path)
    elif path.suffix == ".npz":
        yield from _of_npz(path)
    else:
        raise ValueError("allowed are names that end in .npz, .npy, .safetensors, and folders")


def _of_npy(path: Path) -> Tensor:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return Tensor(array.shape, lambda: _named(array))


def _of_npz(path: Path) -> Iterator[tuple[str, Tensor]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    shape, dtype = _header_of_npy(file)
                most = min(member.file_size, MOST_DEFLATED * member.compress_size)
                if math.prod(shape) * dtype.itemsize > most:
                    raise ValueError(f"{name} declares {shape} of {dtype} and is shorter")
                yield name, Tensor(shape, partial(_member, path, name))


def _header_of_npy(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    v1 = np.lib.format.read_array_header_1_0
    read = v1 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _member(path: Path, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        return _named(archive[name])


def _named(array: np.ndarray) -> np.ndarray:
    """Return an array of NumPy's file format; bfloat16, which has no name there, as what it is."""
    if array.dtype.kind != "V":
        return array
    if array.dtype.itemsize != 2 or array.dtype.names:
        raise ValueError(
            f"dtype {array.dtype} does not say which format it is; allowed are numbers"
        )
    return array.view(ml_dtypes.bfloat16)


def _of_safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield mapped tensors. The library checks the file; of 8-bit floats it has no NumPy arrays."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as checked:
            names = sorted(checked.keys(), key=natural)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    for name in names:
        entry = header[name]
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"{name} has dtype {entry['dtype']}; allowed are {', '.join(_DTYPES)}")
        shape, start = tuple(entry["shape"]), 8 + size + entry["data_offsets"][0]
        yield name, Tensor(shape, partial(_mapped, path, start, shape, _DTYPES[entry["dtype"]]))


def _mapped(path: Path, start: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if 0 in shape:
        return np.zeros(shape, dtype)
    count = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    raw = np.memmap(path, np.uint8, "r", offset=start, shape=(count,))
    return np.asarray(raw.view(dtype)).reshape(shape)


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Return the key by which names are sorted with their numbers in order."""
    parts = re.findall(r"\d+|\D+", name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
