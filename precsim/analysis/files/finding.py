"""The files that a path stands for, and their tensors."""

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from precsim.analysis.files.npy import read_header
from precsim.analysis.files.npz import open_npz
from precsim.analysis.files.safetensors import open_safetensors, read_entries
from precsim.analysis.files.stored import Skipped, StoredTensor

INDEX = ".safetensors.index.json"
_MAX_INDEX = 1 << 25
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


@contextmanager
def _open_npy(path: Path) -> Iterator[Iterator[StoredTensor | Skipped]]:
    with path.open("rb") as file:
        header = read_header(file)
        if header.dtype is None:
            skipped = Skipped(name="", reason=header.reason, dtype=header.label, shape=header.shape)
            yield iter([skipped])
            return
        tensor = StoredTensor(
            name="",
            label=header.label,
            shape=header.shape,
            dtype=header.dtype,
            open=partial(_same, file),
            start=header.start,
            is_fortran=header.is_fortran,
        )
        declared, there = tensor.nbytes, os.fstat(file.fileno()).st_size - header.start
        if declared != there:
            raise ValueError(f"its shape and dtype take {declared} bytes, and it has {there}")
        yield iter([tensor])


@contextmanager
def _same(file: BinaryIO) -> Iterator[BinaryIO]:
    yield file


_READERS = {".npy": _open_npy, ".npz": open_npz, ".safetensors": open_safetensors}


def open_tensors(path: Path) -> AbstractContextManager[Iterator[StoredTensor | Skipped]]:
    """Open one file as a context, in which its tensors can be read.

    Raises
    ------
    ValueError
        If it is damaged, or of a kind that is not read.
    OSError
        If it cannot be read.
    """
    return _READERS[path.suffix.lower()](path)


def find_files(path: Path) -> list[Path]:
    """Return the files that a path stands for, in the order of their names.

    A folder stands for all files in it and below it that can be read; links to folders are not
    followed. A file ``*.safetensors.index.json`` stands for the shards that it names.

    Raises
    ------
    ValueError
        If the path is of a kind that is not read, or a folder has no file of a kind that is.
    OSError
        If it does not exist.
    """
    if path.is_dir():
        found = [
            Path(folder) / name
            for folder, _, names in os.walk(path)
            for name in names
            if Path(name).suffix.lower() in _READERS
        ]
        found = sorted(file for file in found if file.is_file())
        if not found:
            raise ValueError(f"{path} has no {_allowed()} file")
        return found
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if not path.is_file():
        raise ValueError(f"{path} is neither a file nor a folder")
    if path.name.endswith(INDEX):
        return sorted({path.parent / shard for shard in read_index(path).values()})
    if path.suffix.lower() not in _READERS:
        pickled = path.suffix.lower() in _PICKLES
        told = "; pickled files are not read, since they can run any program" if pickled else ""
        raise ValueError(f"{path} is of a kind that is not read; allowed are {_allowed()}{told}")
    return [path]


def _allowed() -> str:
    return ", ".join(_READERS)


def read_index(path: Path) -> dict[str, str]:
    """Return which shard has which tensor, as the index of a model in several files says.

    Raises
    ------
    ValueError
        If it is no index, or names a file outside its folder.
    """
    if path.stat().st_size > _MAX_INDEX:
        raise ValueError(f"{path} has more than {_MAX_INDEX} bytes")
    try:
        content = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is no JSON") from None
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"{path} has no weight_map")
    for shard in shards.values():
        is_plain = isinstance(shard, str) and Path(shard).name == shard
        if not is_plain or not shard.lower().endswith(".safetensors"):
            raise ValueError(
                f"{path} names the shard {str(shard)[:60]!r}; allowed are .safetensors files "
                "beside it"
            )
    return shards


def missing_tensors(path: Path) -> dict[str, str]:
    """Return what the indices in and below a folder name and no shard has: index or shard -> why.

    Shards that cannot be read are left to their own messages.
    """
    faults: dict[str, str] = {}
    indices = [path] if path.is_file() else sorted(path.rglob(f"*{INDEX}"))
    for index in indices:
        if not index.is_file() or not index.name.endswith(INDEX):
            continue
        try:
            shards = read_index(index)
        except (ValueError, OSError) as error:
            faults[str(index)] = str(error).removeprefix(f"{index} ")
            continue
        for shard in sorted(set(shards.values())):
            wanted = {name for name, place in shards.items() if place == shard}
            try:
                with (index.parent / shard).open("rb") as file:
                    there = {name for name, _ in read_entries(file)[0]}
            except FileNotFoundError:
                faults[str(index.parent / shard)] = f"{index.name} names it, and it does not exist"
                continue
            except (ValueError, OSError):
                continue
            if lacking := sorted(wanted - there):
                faults[str(index.parent / shard)] = (
                    f"it lacks {len(lacking)} tensors that {index.name} names, first {lacking[0]!r}"
                )
    return faults
