"""`StoredTensor`: a tensor in a file, read in pieces that cut no block and no tile."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from typing import Any, BinaryIO, NamedTuple

import numpy as np

PIECE = 1 << 19
"""Elements that are read at a time, as far as blocks and tiles allow."""

LARGEST_PIECE = 1 << 23
"""Elements of the largest piece: more are not held in memory at the same time."""

MAX_DIMENSIONS = 64
_MAX_ELEMENTS = 1 << 60


class Granule(NamedTuple):
    """How many neighbours have to stay together: rows that lie side by side, elements of a row."""

    rows: int = 1
    elements: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """What is in a file and is not analysed.

    `is_fault` tells a damaged tensor from one that merely has no floating-point numbers.
    """

    name: str
    reason: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    is_fault: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor of floats in a file that stays open.

    `open` gives a stream in which the numbers begin at `start`; `dtype` is what one number is in
    the file, `label` how the file calls it. `is_fortran` says that the first axis varies fastest,
    `is_last` that the stream ends with the numbers.
    """

    name: str
    label: str
    shape: tuple[int, ...]
    dtype: Any
    open: Callable[[], AbstractContextManager[BinaryIO]]
    start: int
    is_fortran: bool = False
    is_last: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return self.size * int(self.dtype.itemsize)

    def pieces(self, granule: Granule = Granule()) -> Iterator[np.ndarray]:  # noqa: B008
        """Yield the tensor piece by piece, each of shape (batch, rows, elements of a row).

        Parameters
        ----------
        granule : Granule
            What no piece cuts, counted from the beginning of a row and of a matrix.

        Yields
        ------
        ndarray
            In the dtype of the file. Every element comes once. A tensor of one axis is one row.

        Raises
        ------
        ValueError
            If the file ends early or is damaged, or so much stays together that a piece has more
            than `LARGEST_PIECE` elements.
        """
        if not self.size:
            return
        *batch, rows, elements = (1, 1, *self.shape)[-max(len(self.shape), 2) :]
        extents = [(math.prod(batch), 1), (rows, granule.rows), (elements, granule.elements)]
        if self.is_fortran and len(self.shape) > 1:
            extents.reverse()
        sizes = _box(extents)
        if math.prod(sizes) > LARGEST_PIECE:
            raise ValueError(
                f"{math.prod(sizes)} of its elements would have to be in memory together; allowed "
                f"are {LARGEST_PIECE} (blocks of another format, or a file in C order, need fewer)"
            )
        with self.open() as file:
            for box in _boxes([extent for extent, _ in extents], sizes):
                piece = self._read(file, [extent for extent, _ in extents], box)
                yield piece.T if self.is_fortran and len(self.shape) > 1 else piece
            if self.is_last and file.read(1):
                raise ValueError("it has more numbers than its shape says")

    def _read(self, file: BinaryIO, extents: list[int], box: list[slice]) -> np.ndarray:
        """Read a box of an array in C order; what lies together in the file is read at once."""
        outer, middle, inner = box
        shape = tuple(part.stop - part.start for part in box)
        data = np.empty(shape, self.dtype)
        itemsize, run = self.dtype.itemsize, shape[2]
        # Runs become longer where the box takes whole rows, and again where it takes whole planes.
        whole_rows = shape[2] == extents[2]
        whole_planes = whole_rows and shape[1] == extents[1]
        starts: Any = product(range(outer.start, outer.stop), range(middle.start, middle.stop))
        if whole_rows:
            run *= shape[1]
            starts = ((k, middle.start) for k in range(outer.start, outer.stop))
        if whole_planes:
            run *= shape[0]
            starts = ((outer.start, middle.start),)
        flat = data.reshape(-1, run)
        for k, (i, j) in enumerate(starts):
            first = (i * extents[1] + j) * extents[2] + inner.start
            file.seek(self.start + first * itemsize)
            _read_into(file, flat[k])
        return data


def _read_into(file: BinaryIO, run: np.ndarray) -> None:
    """Fill a contiguous array from a stream."""
    view = memoryview(run.view(np.uint8))  # type: ignore[arg-type]
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"its numbers end {len(view) - done} bytes early")
        done += count


def _box(extents: list[tuple[int, int]]) -> list[int]:
    """Return the sizes of a box, as large as a piece may be, that grows along the last axis first.

    Each axis has an extent and a granule.
    """
    sizes = [min(extent, granule) for extent, granule in extents]
    for k in range(len(sizes) - 1, -1, -1):
        extent, granule = extents[k]
        others = math.prod(sizes) // sizes[k]
        steps = max(PIECE // max(others * granule, 1), 1)
        sizes[k] = min(extent, steps * granule)
    return sizes


def _boxes(extents: list[int], sizes: list[int]) -> Iterator[list[slice]]:
    """Yield boxes that cover an array of three axes, in the order of the file."""
    outer, middle, inner = extents
    a, b, c = sizes
    # `itertools.product` would hold all starts in memory, and a file may declare any shape.
    for i in range(0, outer, a):
        for j in range(0, middle, b):
            for k in range(0, inner, c):
                yield [
                    slice(i, min(i + a, outer)),
                    slice(j, min(j + b, middle)),
                    slice(k, min(k + c, inner)),
                ]


def checked_shape(shape: Any, what: str) -> tuple[int, ...]:
    """Return a shape that a file declares, after a look at its type and its size."""
    is_list = isinstance(shape, (list, tuple))
    if not is_list or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"{what} is {_short(shape)}; allowed are lists of whole numbers from 0 on")
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{what} has {len(shape)} numbers; allowed are {MAX_DIMENSIONS}")
    # Whatever is 0 along one axis may be anything along another, and its product still overflow.
    if math.prod(n for n in shape if n) > _MAX_ELEMENTS:
        raise ValueError(f"{what} is {_short(shape)}, more elements than any file holds")
    return tuple(shape)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
