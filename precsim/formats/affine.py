"""Affine integer formats: ``x ~ scale * (code - zero_point)``."""

import enum
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from precsim.formats.arguments import integer, member
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.layout import Layout
from precsim.formats.notebook import InNotebooks

LARGEST_WIDTH = 16
"""Codes have 2 to this many bits."""

_NAME = re.compile(r"(u?)int([1-9]\d{,5})(_symmetric)?(?:_(tensor|channel)|_block([1-9]\d{,17}))?")
_SOURCE = "Jacob et al., CVPR 2018 (arXiv 1712.05877), 2.1; ONNX QuantizeLinear"


class Granularity(enum.StrEnum):
    """Which elements share a scale and a zero point."""

    TENSOR = "tensor"
    """All elements."""
    CHANNEL = "channel"
    """The elements of one index along an axis."""
    BLOCK = "block"
    """`block_size` consecutive elements along an axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineFormat(InNotebooks):
    """Integer codes that stand for ``scale * (code - zero_point)``; the scale fits the data.

    Parameters
    ----------
    name : str
        Label, for example "int8". Not compared.
    bits : int
        Bits of a code, 2 to 16.
    is_signed : bool
        Whether codes are two's complement. It shifts codes and zero point by 2**(bits - 1) and
        changes no value.
    is_symmetric : bool
        If true, the zero point is the middle code and the lowest code is not used, so the range is
        as large on both sides of 0. If false, the range runs from the smallest to the largest of 0
        and the elements.
    granularity : Granularity or str
        Which elements share a scale: "tensor", "channel" or "block".
    block_size : int, optional
        Number of elements of a block, for granularity "block" only.
    source : str
        The document that defines the format. Not compared.

    Raises
    ------
    ValueError
        If the fields contradict each other; the message names the field.

    Notes
    -----
    Names are ``[u]intBITS[_symmetric][_channel|_blockSIZE]``, for example "uint8",
    "int8_symmetric_channel", "int4_symmetric_block32".

    Examples
    --------
    >>> import precsim as ps
    >>> fmt = ps.get_format("int4_symmetric_block32")
    >>> fmt.bits, fmt.min_code, fmt.max_code, fmt.bits_per_element
    (4, -7, 7, 5.0)
    """

    name: str = field(compare=False)
    bits: int
    is_signed: bool = True
    is_symmetric: bool = False
    granularity: Granularity | Any = Granularity.TENSOR
    block_size: int | None = None
    source: str = field(default="", compare=False)
    _further: ClassVar = ("min_code", "max_code", "bits_per_element", "source")

    def __post_init__(self) -> None:
        """Check the fields."""
        fill = object.__setattr__
        fill(self, "granularity", member(Granularity, self.granularity, "granularity"))
        fill(self, "bits", integer(self.bits, "bits", 2, LARGEST_WIDTH))
        has_blocks = self.granularity is Granularity.BLOCK
        if has_blocks:
            fill(self, "block_size", integer(self.block_size, "block_size", 1))
        elif self.block_size is not None:
            raise ValueError(
                f"block_size is {self.block_size}, but granularity is {self.granularity.value!r}; "
                "allowed is None"
            )

    @property
    def middle(self) -> int:
        """The code that stands for 0 in symmetric formats."""
        return 0 if self.is_signed else 1 << (self.bits - 1)

    @property
    def max_code(self) -> int:
        """Largest code."""
        return self.middle + (1 << (self.bits - 1)) - 1

    @property
    def min_code(self) -> int:
        """Smallest code that is used."""
        return self.middle - (1 << (self.bits - 1)) + self.is_symmetric

    @property
    def element(self) -> FixedPointFormat:
        """The integers ``round(x / scale)`` without the zero point, with room to be clamped."""
        return FixedPointFormat(
            name=self.name, integer_bits=self.bits + 1, fraction_bits=0, source=self.source
        )

    @property
    def bits_per_element(self) -> float:
        """Storage, in bits.

        Blocks count a float32 scale and, unless symmetric, a zero point of `bits` bits.
        """
        if self.block_size is None:
            return float(self.bits)
        return self.bits + (32 + (0 if self.is_symmetric else self.bits)) / self.block_size

    def fits(self, carrier: Layout) -> bool:
        """Return whether the carrier has every ``code - zero_point``."""
        return self.element.fits(carrier)

    def __str__(self) -> str:
        """Return the name."""
        return self.name


def affine_format(name: str) -> AffineFormat | None:
    """Return the affine format that a name spells, None if it spells none."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    unsigned, bits, symmetric, granularity, block_size = match.groups()
    return AffineFormat(
        name=name.removesuffix("_tensor"),
        bits=int(bits),
        is_signed=not unsigned,
        is_symmetric=symmetric is not None,
        granularity=Granularity(granularity or ("block" if block_size else "tensor")),
        block_size=int(block_size) if block_size else None,
        source=_SOURCE,
    )
