"""Headers of .npy data, read without NumPy's loader: no pickle, no size that is only declared.

Source: NumPy, "The .npy format", versions 1.0 to 3.0 (NEP 1).
"""

import ast
import re
import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from precsim.analysis.files.stored import checked_shape

MAX_HEADER = 10_000
"""Bytes of the largest header that is read, as in NumPy, which writes 118 for most arrays."""

_MAGIC = b"\x93NUMPY"
_FLOAT = re.compile(r"[<>=|]?f[248]")
_PLAIN = re.compile(r"[<>=|]?([?biufcmMSUVOagp])(\d*)(\[\w+\])?")
_KINDS = {
    "?": "booleans", "b": "whole numbers or booleans", "i": "whole numbers", "u": "whole numbers",
    "c": "complex numbers", "m": "times", "M": "times", "S": "text", "a": "text", "U": "text",
    "V": "bytes without a dtype", "f": "floats that no format here is as wide as",
}  # fmt: skip


class Header(NamedTuple):
    """What a header says, and where the numbers begin; `dtype` is None if it is none of floats."""

    label: str
    dtype: Any
    shape: tuple[int, ...]
    is_fortran: bool
    start: int
    reason: str


def read_header(file: BinaryIO) -> Header:
    """Read the header at the beginning of a stream.

    Raises
    ------
    ValueError
        If it is not that of an array, or declares Python objects.
    """
    magic = _exactly(file, 8)
    if magic[:6] != _MAGIC:
        raise ValueError("it does not begin as .npy data do")
    major, minor = magic[6], magic[7]
    if (major, minor) not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"its version is {major}.{minor}; allowed are 1.0, 2.0 and 3.0")
    width = 2 if major == 1 else 4
    (length,) = struct.unpack("<H" if major == 1 else "<I", _exactly(file, width))
    if length > MAX_HEADER:
        raise ValueError(f"its header declares {length} bytes; allowed are {MAX_HEADER}")
    content = _dictionary(_exactly(file, length).decode("utf-8" if major == 3 else "latin1"))
    shape = checked_shape(content["shape"], "shape")
    is_fortran = content["fortran_order"]
    if not isinstance(is_fortran, bool):
        raise ValueError("fortran_order is no boolean")  # noqa: TRY004 (a file, not an argument)
    label, dtype, reason = _dtype(content["descr"])
    return Header(label, dtype, shape, is_fortran, 8 + width + length, reason)


def _dictionary(text: str) -> dict[str, Any]:
    try:
        content = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        raise ValueError("its header is not a dictionary of Python") from None
    if not isinstance(content, dict) or content.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header has not the fields descr, fortran_order, shape and no others")
    return content


def _dtype(descr: Any) -> tuple[str, Any, str]:
    """Return a label, the dtype if it is one of floats, and else what the numbers are."""
    if isinstance(descr, list):
        return "fields", None, "fields of several dtypes"
    found = _PLAIN.fullmatch(descr) if isinstance(descr, str) else None
    if found is None:
        raise ValueError("descr names no dtype")
    if found[1] in ("O", "p"):
        raise ValueError(
            "it holds Python objects, which only pickle reads, and pickle can run any program; "
            "allowed are arrays of numbers"
        )
    if _FLOAT.fullmatch(descr):
        return descr.lstrip("=|"), np.dtype(descr), ""
    return descr.lstrip("=|"), None, _KINDS.get(found[1], "no numbers")


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ValueError("it ends inside its header")
    return data
