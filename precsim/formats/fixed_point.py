"""Fixed-point formats (Q formats)."""

from dataclasses import dataclass, field
from typing import ClassVar

from precsim.formats.arguments import integer
from precsim.formats.layout import Layout, as_float
from precsim.formats.notebook import InNotebooks


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPointFormat(InNotebooks):
    """Integers n of a fixed number of bits, each standing for ``n * 2**-fraction_bits``.

    Signed codes are two's complement, so the range is ``[-2**integer_bits, 2**integer_bits -
    resolution]``.

    Parameters
    ----------
    name : str
        Label, for example "q3.12". Not compared.
    integer_bits : int
        Bits before the binary point; the sign bit is not counted. May be negative.
    fraction_bits : int
        Bits after the binary point. May be negative.
    is_signed : bool
        Whether there is a sign bit.
    source : str
        The document that defines the format. Not compared.

    Raises
    ------
    ValueError
        If the format has no bits or more than 53 (the largest carrier's precision).

    Examples
    --------
    >>> import precsim as ps
    >>> q = ps.get_format("q3.4")
    >>> q.width, q.resolution, q.min_value, q.max_value
    (8, 0.0625, -8.0, 7.9375)
    """

    name: str = field(compare=False)
    integer_bits: int
    fraction_bits: int
    is_signed: bool = True
    source: str = field(default="", compare=False)
    _further: ClassVar = ("width", "min_value", "max_value", "resolution", "source")

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("integer_bits", "fraction_bits"):
            object.__setattr__(self, name, integer(getattr(self, name), name))
        if not self.integer_bits + self.fraction_bits >= 1 or self.width > 53:
            raise ValueError(
                f"the width is {self.width} bits, sign included; allowed are at least one bit beside the "
                "sign, and at most 53, the precision of float64"
            )

    @property
    def width(self) -> int:
        """Number of bits of a code, sign bit included."""
        return self.is_signed + self.integer_bits + self.fraction_bits

    @property
    def resolution(self) -> float:
        """Distance between neighbours, 2**-fraction_bits."""
        return as_float(1, -self.fraction_bits, self.name)

    @property
    def max_value(self) -> float:
        """Largest value."""
        steps = (1 << (self.integer_bits + self.fraction_bits)) - 1
        return as_float(steps, -self.fraction_bits, self.name)

    @property
    def min_value(self) -> float:
        """Smallest value: -2**integer_bits, or 0 if unsigned."""
        return -as_float(1, self.integer_bits, self.name) if self.is_signed else 0.0

    @property
    def has_nan(self) -> bool:
        """Whether the format has a NaN: never."""
        return False

    @property
    def has_negative_zero(self) -> bool:
        """Whether -0 is a value besides 0: never."""
        return False

    def fits(self, carrier: Layout) -> bool:
        """Return whether the carrier has every value of this format."""
        return (
            self.width <= carrier.precision
            and self.integer_bits <= carrier.bias
            and -self.fraction_bits >= carrier.lsb_min
        )

    def __str__(self) -> str:
        """Return the name."""
        return self.name
