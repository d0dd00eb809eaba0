"""Bit layouts of IEEE 754's binary32 and binary64, in which emulated values are stored."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """Bit layout of an IEEE 754 interchange format."""

    name: str
    precision: int
    exponent_bits: int

    @property
    def trailing(self) -> int:
        """Number of stored significand bits."""
        return self.precision - 1

    @property
    def bias(self) -> int:
        """Exponent bias; also the largest exponent."""
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def width(self) -> int:
        """Number of bits."""
        return self.precision + self.exponent_bits

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal number."""
        return 1 - self.bias

    @property
    def lsb_min(self) -> int:
        """Exponent of the smallest subnormal number."""
        return self.emin - self.trailing

    @property
    def sign_bit(self) -> int:
        """Pattern with only the sign bit set."""
        return 1 << (self.width - 1)

    @property
    def infinity(self) -> int:
        """Pattern of +infinity."""
        return ((1 << self.exponent_bits) - 1) << self.trailing

    @property
    def quiet_nan(self) -> int:
        """Pattern of the canonical quiet NaN, sign bit clear."""
        return self.infinity | (1 << (self.trailing - 1))

    def pattern(self, significand: int, exponent: int) -> int:
        """Bits of the positive number significand * 2**exponent, which must be representable."""
        if significand == 0:
            return 0
        lead = significand.bit_length() - 1 + exponent
        shift = exponent - (max(lead, self.emin) - self.trailing)
        aligned = significand << shift if shift >= 0 else significand >> -shift
        if lead > self.bias or (shift < 0 and aligned << -shift != significand):
            raise ValueError(f"{significand} * 2**{exponent} is not a {self.name} number")
        # A normal number's leading bit adds one to the exponent field by itself.
        return ((max(lead, self.emin) + self.bias - 1) << self.trailing) + aligned


BINARY32 = Layout("float32", 24, 8)
BINARY64 = Layout("float64", 53, 11)


def as_float(significand: int, exponent: int, name: str) -> float:
    """Return significand * 2**exponent, a value of the named format; refuse what is no float."""
    least, most = BINARY64.lsb_min, BINARY64.bias + 1 - significand.bit_length()
    if significand and not least <= exponent <= most:
        raise ValueError(f"{name} has values beyond float64, here {significand} * 2**{exponent}")
    return math.ldexp(significand, exponent)
