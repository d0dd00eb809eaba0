"""Headers of .safetensors files, checked before a number is read.

The library of that name loads whole tensors, and the files may be larger than memory; so the header
is read here. What the format forbids is refused, as that library does: holes, overlaps, sizes that
contradict shapes, bytes at the end.

Source: safetensors, README, "Format", and safetensors/src/tensor.rs for the dtypes.
"""

import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from precsim.analysis.files.stored import Skipped, StoredTensor, checked_shape
from precsim.formats.arguments import shown

MAX_HEADER = 1 << 25
"""Bytes of the largest header that is read, enough for 200,000 tensors."""

_MAX_VALUES = 1 << 21
"""JSON values in a header; each may take a hundred bytes of memory."""

_FLOATS: dict[str, Any] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}
_OTHERS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Dtype -> bits, of the dtypes that are listed and not analysed."""

_FIELDS = {"dtype", "shape", "data_offsets"}


@contextmanager
def open_safetensors(path: Path) -> Iterator[Iterator[StoredTensor | Skipped]]:
    """Open a file; yield its tensors, and what is no tensor of floats, in the order of the file."""
    with path.open("rb") as file:
        entries, start = read_entries(file)
        yield (_tensor(file, start, name, entry) for name, entry in entries)


def read_entries(file: BinaryIO) -> tuple[list[tuple[str, dict[str, Any]]], int]:
    """Return names and checked entries, in the order of the file, and where the numbers begin."""
    length_of_file = os.fstat(file.fileno()).st_size
    head = file.read(8)
    if len(head) < 8:
        raise ValueError("it ends inside its header")
    (length,) = struct.unpack("<Q", head)
    if length > length_of_file - 8:
        raise ValueError(f"its header declares {length} bytes, and the file has fewer")
    if length > MAX_HEADER:
        raise ValueError(f"its header has {length} bytes; allowed are {MAX_HEADER}")
    header = _json(file.read(length))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("__metadata__ is no object of strings")
    entries = list(header.items())
    for name, entry in entries:
        if any("\ud800" <= c <= "\udfff" for c in name):
            raise ValueError(f"tensor {shown(name)} has a name that is no Unicode text")
        _check_entry(name, entry)
    entries.sort(key=lambda item: item[1]["data_offsets"])
    end = 0
    for name, entry in entries:
        first, last = entry["data_offsets"]
        if first != end:
            what = "overlaps another tensor" if first < end else "leaves a hole before it"
            raise ValueError(f"tensor {shown(name)} {what}")
        end = last
    if end != length_of_file - 8 - length:
        what = "fewer" if end > length_of_file - 8 - length else "more"
        raise ValueError(f"its tensors have {end} bytes, and the file has {what}")
    return entries, 8 + length


def _json(data: bytes) -> dict[str, Any]:
    if sum(map(data.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise ValueError(f"its header has more than {_MAX_VALUES} values")
    try:
        header = json.loads(data.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("its header is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"its header is no JSON: {error}") from None
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")  # noqa: TRY004 (a file, not an argument)
    return header


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = sorted(name for name, _ in pairs)
        twice = next(name for name, after in pairwise(names) if name == after)
        raise ValueError(f"its header has {shown(twice)} twice")
    return found


def _check_entry(name: str, entry: Any) -> None:
    """Refuse an entry whose fields contradict each other."""
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise ValueError(
            f"tensor {shown(name)} has not the fields dtype, shape, data_offsets alone"
        )
    if not isinstance(entry["dtype"], str):
        raise ValueError(f"dtype of tensor {shown(name)} is no string")  # noqa: TRY004
    shape = checked_shape(entry["shape"], f"shape of tensor {shown(name)}")
    offsets = entry["data_offsets"]
    is_pair = isinstance(offsets, list) and len(offsets) == 2
    if not is_pair or not all(type(n) is int for n in offsets) or not 0 <= offsets[0] <= offsets[1]:
        raise ValueError(f"data_offsets of tensor {shown(name)} are not two ascending numbers")
    bits = _bits(entry["dtype"])
    if bits is not None:
        wanted = -(-int(np.prod(shape, dtype=object)) * bits // 8)
        if offsets[1] - offsets[0] != wanted:
            raise ValueError(
                f"tensor {shown(name)} has {offsets[1] - offsets[0]} bytes; its dtype and shape take "
                f"{wanted}"
            )


def _bits(dtype: str) -> int | None:
    return 8 * int(np.dtype(_FLOATS[dtype]).itemsize) if dtype in _FLOATS else _OTHERS.get(dtype)


def _tensor(file: BinaryIO, start: int, name: str, entry: dict[str, Any]) -> StoredTensor | Skipped:
    label, shape = entry["dtype"], tuple(entry["shape"])
    if label not in _FLOATS:
        known = label in _OTHERS
        reason = "no floats of 8 bits or more" if known else "a dtype that precsim does not know"
        return Skipped(name=name, reason=reason, dtype=label, shape=shape)
    return StoredTensor(
        name=name,
        label=label,
        shape=shape,
        dtype=np.dtype(_FLOATS[label]),
        open=partial(_same, file),
        start=start + entry["data_offsets"][0],
    )


@contextmanager
def _same(file: BinaryIO) -> Iterator[BinaryIO]:
    yield file
