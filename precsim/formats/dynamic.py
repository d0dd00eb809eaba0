"""The 8-bit dynamic maps of bitsandbytes: a table of 256 values, and a float32 scale per block."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from struct import pack, unpack
from typing import ClassVar

from precsim.formats.arguments import integer
from precsim.formats.catalogue import FORMATS
from precsim.formats.floating import FloatFormat
from precsim.formats.layout import BINARY32, Layout
from precsim.formats.notebook import InNotebooks

_BITS, _LEVELS = 8, 7
"""Bits of a code; decades that a table has."""

_NAME = re.compile(r"(u?)dynamic8_block([1-9]\d{,17})")
_SOURCE = (
    "Dettmers et al., 8-bit Optimizers via Block-wise Quantization (arXiv 2110.02861), 2; "
    "bitsandbytes 0.50.2, functional.py (create_dynamic_map)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicFormat(InNotebooks):
    """Codes that stand for ``table[code] * scale``, where the scale is a block's largest magnitude.

    Parameters
    ----------
    is_signed : bool
        Whether the table has both signs, from -0.993 to 1, or runs from 0 to 1.
    block_size : int
        Number of consecutive elements that share a scale, along an axis.
    name : str, optional
        Label, by default the string of the format, for example "dynamic8_block256". Not compared.
    source : str
        The document that defines the format. Not compared.

    Raises
    ------
    ValueError
        If `block_size` is not positive.

    Notes
    -----
    The table has one zero, the 1, and 7 decades of values, each the middle of equal parts of
    (0.1, 1): 1 part of the lowest decade, 2 of the next, up to 64 of the highest; with both signs,
    or twice as many parts without a sign. It is the table of 256 float32 numbers that the library
    makes with the CPU build of torch 2.13, whose `linspace` fuses multiplications and additions.

    Examples
    --------
    >>> import precsim as ps
    >>> fmt = ps.get_format("dynamic8_block256")
    >>> fmt.bits_per_element, [fmt.table[code] for code in (0, 126, 127, 128, 255)]
    (8.125, [-0.992968738079071, -5.500000384017767e-07, 0.0, 5.500000384017767e-07, 1.0])
    """

    is_signed: bool
    block_size: int
    name: str = field(default="", compare=False)
    source: str = field(default=_SOURCE, compare=False)
    _further: ClassVar = ("bits_per_element", "source")

    def __post_init__(self) -> None:
        """Check the fields and fill in the name."""
        fill = object.__setattr__
        fill(self, "block_size", integer(self.block_size, "block_size", 1))
        if not self.name:
            sign = "" if self.is_signed else "u"
            fill(self, "name", f"{sign}dynamic8_block{self.block_size}")

    @property
    def element(self) -> FloatFormat:
        """The format of the numbers in the table, float32."""
        return next(fmt for fmt in FORMATS if fmt.name == "fp32")

    @property
    def table(self) -> tuple[float, ...]:
        """The 256 values of float32, from the smallest to the largest."""
        return _table(self.is_signed)

    @property
    def bits_per_element(self) -> float:
        """Storage: a code, and its part of the block's float32 scale."""
        return _BITS + 32 / self.block_size

    def fits(self, carrier: Layout) -> bool:
        """Return whether the carrier is that of the scales, float32."""
        return carrier.precision == BINARY32.precision

    def __str__(self) -> str:
        """Return the name."""
        return self.name


def dynamic_format(name: str) -> DynamicFormat | None:
    """Return the format ``[u]dynamic8_blockSIZE``, None if `name` is not of that form."""
    match = _NAME.fullmatch(name)
    return match and DynamicFormat(is_signed=not match[1], block_size=int(match[2]))


@lru_cache(maxsize=2)
def _table(is_signed: bool) -> tuple[float, ...]:
    values, low = [0.0, 1.0], _float32(0.1)
    for level in range(_LEVELS):
        parts = 2 ** (level + (not is_signed))
        step = _float32(1 - low) / parts
        # A fused multiplication and addition, from the nearer end: float64 holds the product.
        ends = [
            _float32(low + step * k if k < (parts + 1) // 2 else 1 - step * (parts - k))
            for k in range(parts + 1)
        ]
        decade = _float32(10.0 ** (level + 1 - _LEVELS))
        for below, above in pairwise(ends):
            value = _float32(decade * (_float32(below + above) / 2))
            values += [value, -value] if is_signed else [value]
    return tuple(sorted(values))


def _float32(x: float) -> float:
    """Round to the nearest float32, ties to even."""
    rounded: float = unpack("f", pack("f", x))[0]
    return rounded
