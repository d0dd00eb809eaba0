"""`Extent`: how far the numbers of a tensor reach, and how often each code occurs; one pass."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from precsim.formats.carrier import FLOAT32, FLOAT64, Carrier

_FEW = 1 << 12
"""Numbers up to which sorting their codes is faster than a table of all codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What one pass over a tensor finds.

    `lowest`, `highest` are of the finite elements and 0; `smallest` is the smallest magnitude other
    than 0, which is 0 if there is none. `signal` is the sum of squares of the finite elements,
    divided by ``2**(2 * exponent)``, where `exponent` is that of the largest magnitude.
    """

    elements: int = 0
    zeros: int = 0
    nan: int = 0
    infinite: tuple[int, int] = (0, 0)
    """Elements that are -inf, and +inf."""
    lowest: float = 0.0
    highest: float = 0.0
    smallest: float = 0.0
    signal: float = 0.0
    exponent: int = 0

    @property
    def amax(self) -> float:
        """Largest finite magnitude."""
        return max(-self.lowest, self.highest)

    @property
    def has_specials(self) -> bool:
        """Whether an element is infinite or NaN."""
        return bool(self.nan or any(self.infinite))

    def merge(self, other: "Extent") -> "Extent":
        """Return the extent of both."""
        exponent = max(self.exponent, other.exponent) if self.amax and other.amax else 0
        exponent = exponent or (self.exponent if self.amax else other.exponent)
        smallest = min(self.smallest, other.smallest) or max(self.smallest, other.smallest)
        return Extent(
            elements=self.elements + other.elements,
            zeros=self.zeros + other.zeros,
            nan=self.nan + other.nan,
            infinite=(
                self.infinite[0] + other.infinite[0],
                self.infinite[1] + other.infinite[1],
            ),
            lowest=min(self.lowest, other.lowest),
            highest=max(self.highest, other.highest),
            smallest=smallest,
            signal=math.fsum(
                math.ldexp(part.signal, 2 * (part.exponent - exponent)) for part in (self, other)
            ),
            exponent=exponent,
        )


def extent_of(values: np.ndarray, weights: np.ndarray | None = None) -> Extent:
    """Return the extent of float32 or float64 numbers, each counted once or `weights` times."""
    counts = np.ones((), np.int64) if weights is None else weights
    flat = values.reshape(-1)
    if not flat.size:
        return Extent()
    lowest, highest = float(flat.min()), float(flat.max())
    elements = flat.size if weights is None else int(weights.sum())
    nan, infinite = 0, (0, 0)
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        is_finite = np.isfinite(flat)
        nan = _counted(np.isnan(flat), weights)
        infinite = (_counted(flat == -np.inf, weights), _counted(flat == np.inf, weights))
        flat = flat[is_finite]
        counts = counts if weights is None else weights[is_finite]
        lowest, highest = float(flat.min(initial=0)), float(flat.max(initial=0))
    carrier = carrier_of(flat.dtype)
    magnitude = flat.view(carrier.uint_dtype) & carrier.uint(carrier.sign_bit - 1)
    # Less than 0 is more than all, so that zeros do not count.
    least = int((magnitude - carrier.uint(1)).min(initial=carrier.uint_dtype(carrier.infinity))) + 1
    smallest = carrier.uint_dtype(least if least < carrier.infinity else 0)
    nonzero = int(np.count_nonzero(flat) if weights is None else counts[flat != 0].sum())
    exponent = math.frexp(max(-lowest, highest))[1]
    wide = flat.astype(np.float64)
    if carrier is FLOAT64:
        wide = np.ldexp(wide, -exponent)
    np.square(wide, out=wide)
    # Not `np.dot`: its threads would compete with those that analyse other pieces.
    signal = float(wide.sum() if weights is None else (wide * counts).sum())
    return Extent(
        elements=elements,
        zeros=elements - nonzero - nan - sum(infinite),
        nan=nan,
        infinite=infinite,
        lowest=min(lowest, 0.0),
        highest=max(highest, 0.0),
        smallest=float(smallest.view(carrier.float_dtype)),
        signal=signal if carrier is FLOAT64 else math.ldexp(signal, -2 * exponent),
        exponent=exponent,
    )


def _counted(mask: np.ndarray, weights: np.ndarray | None) -> int:
    return int(np.count_nonzero(mask) if weights is None else weights[mask].sum())


def carrier_of(dtype: Any) -> Carrier:
    """Return the carrier of numbers of a dtype: float64 for itself, float32 for all others."""
    return FLOAT64 if dtype == np.float64 else FLOAT32


def is_counted_by_code(dtype: Any) -> bool:
    """Return whether a dtype has few enough codes to count how often each occurs."""
    return bool(dtype.itemsize <= 2)


def as_numbers(piece: np.ndarray) -> np.ndarray:
    """Return what a file holds as numbers of a carrier, in this machine's byte order."""
    return np.ascontiguousarray(piece, carrier_of(piece.dtype.newbyteorder("=")).float_dtype)


@lru_cache(maxsize=16)
def numbers_of_codes(dtype: Any) -> np.ndarray:
    """Return the number of every code of a dtype, float32."""
    codes = np.arange(1 << (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    with np.errstate(invalid="ignore"):  # signalling NaN
        numbers: np.ndarray = codes.view(dtype).astype(np.float32)
    return numbers


def count_codes(pieces: Iterable[np.ndarray], dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of a dtype that occur in pieces of a tensor, and how often each does."""
    codes = (np.ascontiguousarray(p, dtype).view(f"u{dtype.itemsize}").reshape(-1) for p in pieces)
    first = next(codes, None)
    if first is None or first.size < _FEW:  # few numbers are all in one piece
        empty = np.zeros(0, f"u{dtype.itemsize}")
        return np.unique(
            empty if first is None else np.concatenate([first, *codes]), return_counts=True
        )
    counts = np.bincount(first, minlength=1 << (8 * dtype.itemsize))
    for piece in codes:
        counts += np.bincount(piece, minlength=counts.size)
    used = np.flatnonzero(counts)
    return used, counts[used]
