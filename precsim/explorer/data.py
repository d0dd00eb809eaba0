"""The numbers of a tensor that the page asks about: typed, an example, or of a file.

Files are read here by the standard library, so that they can be read in a browser too.
"""

import ast
import base64
import binascii
import json
import math
import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any

from precsim.explorer import asked as read
from precsim.explorer.asked import Asked
from precsim.explorer.said import Number, is_finite, magnitude
from precsim.formats.arguments import not_allowed, shown
from precsim.formats.oracle import decode_exact
from precsim.formats.reals import floor_log2

MOST_TYPED = 5_000
LARGEST_FILE = 4_000_000
"""Bytes of a file."""
_MOST_TENSORS = 2_000


@dataclass(frozen=True, slots=True)
class Side:
    """The numbers of one sign beside zero, without it."""

    sizes: Sequence[Fraction | float]
    """Each finite magnitude once, ascending."""
    before: Sequence[int]
    """How many numbers are before each magnitude; at last, how many there are."""
    infinities: int

    def up_to(self, cut: Fraction, *, with_it: bool) -> int:
        """Return how many finite magnitudes are below a number, or up to it."""
        return self.before[(bisect_right if with_it else bisect_left)(self.sizes, cut)]

    @property
    def finite(self) -> int:
        """How many numbers are finite."""
        return self.before[-1]


@dataclass(frozen=True, slots=True)
class Tensor:
    """Numbers, counted and in order."""

    positive: Side
    negative: Side
    zeros: int
    nans: int
    said: str
    """Where the numbers are from."""

    @property
    def sides(self) -> tuple[Side, Side]:
        """The positive and the negative numbers."""
        return self.positive, self.negative

    @property
    def infinities(self) -> int:
        """How many numbers are infinite."""
        return sum(side.infinities for side in self.sides)

    @property
    def nonzero(self) -> int:
        """How many numbers there are beside zeros and NaNs."""
        return sum(side.finite + side.infinities for side in self.sides)

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return self.nonzero + self.zeros + self.nans

    @property
    def ends(self) -> list[Fraction | float]:
        """The smallest and the largest finite magnitude; nothing if there is none."""
        sides = [side.sizes for side in self.sides if side.sizes]
        return [min(s[0] for s in sides), max(s[-1] for s in sides)] if sides else []

    def exponents(self) -> Counter[int]:
        """Count the binary exponents: e of a magnitude from 2**e to below 2**(e + 1)."""
        found: Counter[int] = Counter()
        for side in self.sides:
            first = 0
            while first < len(side.sizes):
                e = _exponent(side.sizes[first])
                last = bisect_left(side.sizes, Fraction(2) ** (e + 1), first)
                found[e] += side.before[last] - side.before[first]
                first = last
        return found


def _exponent(size: Fraction | float) -> int:
    return floor_log2(size) if isinstance(size, Fraction) else math.frexp(size)[1] - 1


def _tensor(counts: Mapping[Number, int], said: str) -> Tensor:
    numbers: tuple[dict[Number, int], ...] = {}, {}
    zeros = nans = 0
    infinities = [0, 0]
    for value, count in counts.items():
        if not value:
            zeros += count
        elif value != value:  # noqa: PLR0124 NaN; math.isnan refuses large fractions
            nans += count
        elif is_finite(value):
            numbers[value < 0][magnitude(value)] = count
        else:
            infinities[value < 0] += count
    positive, negative = (_side(*each) for each in zip(numbers, infinities, strict=True))
    return Tensor(positive, negative, zeros, nans, said)


def _side(counts: Mapping[Number, int], infinities: int) -> Side:
    sizes = sorted(counts)
    return Side(sizes, [0, *accumulate(map(counts.__getitem__, sizes))], infinities)


def tensor(asked: Asked) -> Tensor:
    """Return the numbers of a request: of `file`, of `example`, or typed as `values`."""
    if asked.get("file"):
        name = read.text(asked, "name", most=1_000)
        content = _content(asked)
        if name.lower().endswith(".npy"):
            return _tensor(npy_counts(content), name)
        return _of_safetensors(content, name, asked.get("tensor"))
    if asked.get("example"):
        made = EXAMPLES[read.choice(asked, "example", EXAMPLES)]
        return _tensor(Counter(made.values()), made.said)
    return _tensor(Counter(read.numbers(asked, "values", MOST_TYPED)), "your numbers")


def _content(asked: Asked) -> bytes:
    text = read.text(asked, "file", most=LARGEST_FILE * 4 // 3 + 4)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("file is not in base64") from None


@dataclass(frozen=True, slots=True)
class Example:
    """Numbers whose binary logarithm is nearly normal, made of integers alone.

    Each number takes four words of `stream(seed)`. The twelve parts of 16 bits of three of them are
    summed, which gives a deviate z in units of 2**-16; t = centre + spread * z; the magnitude is
    (1 + fraction of t) * 2**(whole part of t). The last bit of the fourth word is the sign. So
    every machine makes the same bits.
    """

    said: str
    centre: int
    spread: int
    """In eighths."""
    seed: int
    count: int = 2_000
    outliers: int = 0
    """One number in so many is 2**8 times as large; 0: none."""

    def values(self) -> Iterator[float]:
        """Make the numbers."""
        words = stream(self.seed)
        for k in range(self.count):
            three = next(words), next(words), next(words)
            parts = [word >> shift & 0xFFFF for word in three for shift in (0, 16, 32, 48)]
            sign = -1 if next(words) & 1 else 1
            deviate = sum(parts) - 6 * 0xFFFF
            t = (self.centre << 16) + (self.spread * deviate >> 3)
            if self.outliers and k % self.outliers == 0:
                t += 8 << 16
            yield sign * math.ldexp((1 << 16) + (t & 0xFFFF), (t >> 16) - 16)


def stream(seed: int) -> Iterator[int]:
    """Yield integers of 64 bits: SplitMix64 of Steele, Lea and Flood, OOPSLA 2014.

    Examples
    --------
    >>> hex(next(stream(0)))
    '0xe220a8397b1dcdaf'
    """
    state = seed
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        mixed = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
        yield mixed ^ mixed >> 31


EXAMPLES = {
    "gradients": Example("2,000 gradients, log-normal around 2^-21", -21, 30, 1),
    "weights": Example("2,000 weights, log-normal around 2^-6", -6, 12, 2),
    "activations": Example("2,000 activations, one in 100 an outlier", -1, 12, 3, outliers=100),
}
"""Name -> the numbers; see `Example` for how they are made."""


def examples(asked: Asked) -> dict[str, Any]:
    """List the examples, and what a file may be."""
    return {
        "examples": [{"name": name, "label": made.said} for name, made in EXAMPLES.items()],
        "largest_file": LARGEST_FILE,
    }


_Reader = Callable[[bytes, bool], Counter[Number]]


def _words(data: bytes, kind: str, is_little: bool) -> "array[Any]":
    words: array[Any] = array(kind)
    words.frombytes(data)
    if is_little != (sys.byteorder == "little"):
        words.byteswap()
    return words


def _narrow(name: str, kind: str) -> _Reader:
    """Return a reader of codes of one or two bytes, each of which is decoded once."""

    def counts(data: bytes, is_little: bool) -> Counter[Number]:
        found: Counter[Number] = Counter()
        for code, count in Counter(_words(data, kind, is_little)).items():
            found[decode_exact(code, name)] += count
        return found

    return counts


def _wide(kind: str) -> _Reader:
    return lambda data, is_little: Counter(_words(data, kind, is_little))


_NPY: dict[str, tuple[int, _Reader]] = {
    "f8": (8, _wide("d")),
    "f4": (4, _wide("f")),
    "f2": (2, _narrow("fp16", "H")),
}
_SAFETENSORS: dict[str, tuple[int, _Reader]] = {
    "F64": (8, _wide("d")),
    "F32": (4, _wide("f")),
    "F16": (2, _narrow("fp16", "H")),
    "BF16": (2, _narrow("bf16", "H")),
    "F8_E4M3": (1, _narrow("e4m3", "B")),
    "F8_E5M2": (1, _narrow("e5m2", "B")),
}


def npy_counts(content: bytes) -> Counter[Number]:
    """Return how often each number is in the bytes of a .npy file.

    Source: NumPy, "The .npy format", versions 1.0 to 3.0 (NEP 1).
    """
    if len(content) < 12 or content[:6] != b"\x93NUMPY" or content[6] not in (1, 2, 3):
        raise ValueError("file does not begin as .npy data of version 1 to 3 do")
    width = 2 if content[6] == 1 else 4
    length = int.from_bytes(content[8 : 8 + width], "little")
    head = content[8 + width : 8 + width + length]
    if len(head) < length or length > 10_000:
        raise ValueError("file ends inside its header, or has a header that is too long")
    try:
        known = ast.literal_eval(head.decode("latin1").strip())
        kind, shape = str(known["descr"]), tuple(map(int, known["shape"]))
    except (
        ValueError,
        ArithmeticError,
        SyntaxError,
        TypeError,
        LookupError,
        RecursionError,
        MemoryError,
    ):
        raise ValueError("file has a header that is no dictionary of an array") from None
    order, name = kind[:1], kind[1:]
    if order not in "<>=" or name not in _NPY:
        raise ValueError(f"file has dtype {shown(kind)}; allowed are float64, float32, float16")
    size, counts = _NPY[name]
    data = content[8 + width + length :]
    if any(n < 0 for n in shape) or len(data) != size * math.prod(shape):
        raise ValueError(f"file has {len(data)} bytes of numbers, but its shape is {shown(shape)}")
    return counts(data, order != ">")


def _of_safetensors(content: bytes, name: str, chosen: Any) -> Tensor:
    """Return a tensor of the bytes of a .safetensors file: the one chosen, or the first."""
    entries, start = safetensors_entries(content)
    key = next(iter(entries)) if chosen is None else chosen
    if not isinstance(key, str) or key not in entries:
        raise not_allowed("tensor", key, list(entries)[:12])
    kind, first, last = entries[key]
    counts = _SAFETENSORS[kind][1](content[start + first : start + last], True)
    return _tensor(counts, f"{name}: {key}, {kind}")


def safetensors_entries(content: bytes) -> tuple[dict[str, tuple[str, int, int]], int]:
    """Return the tensors of floats of a .safetensors file: dtype and place; where numbers begin.

    Source: safetensors, README, "Format".
    """
    if len(content) < 8:
        raise ValueError("file is neither .npy nor .safetensors")
    (length,) = struct.unpack("<Q", content[:8])
    if length > len(content) - 8:
        raise ValueError("file is neither .npy nor .safetensors: its header is longer than it")
    try:
        header = json.loads(content[8 : 8 + length].decode("utf-8"))
        entries = {
            str(name): _entry(entry) for name, entry in header.items() if name != "__metadata__"
        }
    except (ValueError, ArithmeticError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("file has a header that is no list of tensors") from None
    room = len(content) - 8 - length
    found: dict[str, tuple[str, int, int]] = {}
    for name, (kind, first, last, shape) in entries.items():
        if kind not in _SAFETENSORS or len(found) == _MOST_TENSORS:
            continue
        if not 0 <= first <= last <= room or last - first != _SAFETENSORS[kind][0] * _count(shape):
            raise ValueError(
                f"file has tensor {shown(name)} with bytes that are not those of its shape"
            )
        found[name] = kind, first, last
    if not found:
        raise ValueError(f"file has no tensor of {', '.join(_SAFETENSORS)}")
    return found, 8 + length


def _entry(entry: Any) -> tuple[str, int, int, Any]:
    first, last = map(int, entry["data_offsets"])
    return str(entry["dtype"]), first, last, entry["shape"]


def _count(shape: Any) -> int:
    is_shape = isinstance(shape, list) and all(isinstance(n, int) and n >= 0 for n in shape)
    return math.prod(shape) if is_shape else -1


def tensors(asked: Asked) -> dict[str, Any]:
    """List the tensors of a file."""
    if read.text(asked, "name", most=1_000).lower().endswith(".npy"):
        return {"tensors": []}
    return {"tensors": list(safetensors_entries(_content(asked))[0])}
