"""Floating-point elements with float32 scales: per tensor, per row, or per tile."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from precsim.formats.arguments import integer, shown
from precsim.formats.floating import FloatFormat
from precsim.formats.layout import BINARY32, Layout
from precsim.formats.notebook import InNotebooks
from precsim.formats.numbers import number_format

POWER_OF_TWO = "pow2"
_SCALE = "scale="
_TILE = re.compile(r"([1-9]\d{,8})x([1-9]\d{,8})")
_SOURCE = (
    "NVIDIA/TransformerEngine, common/recipe/recipe_common.cuh; DeepSeek-V3 (arXiv 2412.19437)"
)
_LEAST_LARGEST = 4.0
"""With a smaller largest element, the factor of a large group would be subnormal in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileFormat(InNotebooks):
    """Elements that stand for ``element * scale``, with one float32 scale for each tile.

    A tile is `across` vectors by `along` elements of each. Vectors run along one axis, the
    contracted one of a matrix product: rows of the left operand, columns of the right one.

    Parameters
    ----------
    element : str or FloatFormat
        The format of the elements: signed, largest value 4 or above, all values in float32.
    across : int, optional
        Number of neighbouring vectors that share a scale; None for all, batch dimensions included.
    along : int, optional
        Number of neighbouring elements of a vector that share a scale; None for all.
    is_power_of_two : bool
        Whether scales are powers of two.
    name : str, optional
        Label, by default the string of the format. Not compared.
    source : str
        The document that defines the format. Not compared.

    Raises
    ------
    ValueError
        If the fields contradict each other; the message names the field.

    Notes
    -----
    As a string: ``ELEMENT:scale=TILE[:pow2]`` with the tile "tensor", "row" (each vector by itself)
    or "AxB" (`across` x `along`), for example "e4m3:scale=1x128".

    Examples
    --------
    >>> import precsim as ps
    >>> fmt = ps.RoundingSpec.parse("e4m3:scale=1x128").format
    >>> fmt.across, fmt.along, fmt.element.name
    (1, 128, 'e4m3')
    >>> fmt == ps.TileFormat(element="e4m3", across=1, along=128)
    True
    """

    element: FloatFormat | Any
    across: int | None = None
    along: int | None = None
    is_power_of_two: bool = False
    name: str = field(default="", compare=False)
    source: str = field(default=_SOURCE, compare=False)
    _further: ClassVar = ("bits_per_element", "source")

    def __post_init__(self) -> None:
        """Check the fields and fill in the name."""
        fill = object.__setattr__
        fill(self, "element", number_format(self.element, "element"))
        element = self.element
        if (
            not isinstance(element, FloatFormat)
            or element.exponent_bits is None
            or not element.is_signed
            or not element.fits(BINARY32)
            or element.max_finite < _LEAST_LARGEST
        ):
            raise ValueError(
                f"element is {element}; allowed with a scale are signed floats that float32 holds, "
                f"with a largest value of {_LEAST_LARGEST:g} or above"
            )
        for name in ("across", "along"):
            if getattr(self, name) is not None:
                fill(self, name, integer(getattr(self, name), name, 1))
        if (self.across is None and self.along is not None) or (
            self.along is None and self.across not in (None, 1)
        ):
            raise ValueError(
                f"across is {self.across}, along {self.along}; allowed are None and None, 1 and None, "
                "or two integers"
            )
        if not self.name:
            fill(self, "name", f"{element.name}:{self.options}")

    @property
    def options(self) -> str:
        """The part of the string after the element."""
        if self.along is not None:
            tile = f"{self.across}x{self.along}"
        else:
            tile = "tensor" if self.across is None else "row"
        return f"{_SCALE}{tile}" + (f":{POWER_OF_TWO}" if self.is_power_of_two else "")

    @property
    def bits_per_element(self) -> float:
        """Storage: width of an element, and 32 bits a tile; larger scopes do not count."""
        tile = 0 if self.along is None or self.across is None else self.along * self.across
        return (self.element.width or 0) + (32 / tile if tile else 0.0)

    def fits(self, carrier: Layout) -> bool:
        """Return whether the carrier is that of the scales, float32."""
        return carrier.precision == BINARY32.precision

    def __str__(self) -> str:
        """Return the name."""
        return self.name


def is_tile_option(part: str) -> bool:
    """Return whether a part of a rounding's string is about scales."""
    return part.startswith(_SCALE) or part == POWER_OF_TWO


def tile_format(name: str, find: Callable[[str], Any]) -> TileFormat | None:
    """Return the format ``ELEMENT:scale=TILE[:pow2]``, None if `name` is not of that form."""
    element, *options = name.split(":")
    if not options or not all(map(is_tile_option, options)):
        return None
    powers = [part for part in options if part == POWER_OF_TWO]
    tiles = [part.removeprefix(_SCALE) for part in options if part != POWER_OF_TWO]
    if len(tiles) != 1 or len(powers) > 1:
        raise ValueError(
            f"scales of {shown(name)} are not understood; allowed is scale= once, and {POWER_OF_TWO} "
            "once beside it"
        )
    (tile,) = tiles
    match = _TILE.fullmatch(tile)
    if match is None and tile not in ("tensor", "row"):
        raise ValueError(
            f"scale is {shown(tile)}; allowed are 'tensor', 'row', and tiles such as '1x128'"
        )
    found = find(element)
    if found is None:
        return None
    across, along = (int(match[1]), int(match[2])) if match else (None, None)
    if tile == "row":
        across = 1
    return TileFormat(element=found, across=across, along=along, is_power_of_two=bool(powers))
