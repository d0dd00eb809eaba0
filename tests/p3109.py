"""The formats of IEEE P3109 by their parameters, in the letters of the Interim Report v4.0."""

import math
from typing import NamedTuple


class Parameters(NamedTuple):
    """K, P, signedness and domain of a format, in the report's letters."""

    K: int
    P: int
    signed: bool
    extended: bool

    @property
    def name(self) -> str:
        return f"binary{self.K}p{self.P}{'us'[self.signed]}{'fe'[self.extended]}"

    @property
    def bias(self) -> int:
        return int(2 ** (self.K - self.P - self.signed))

    @property
    def largest(self) -> float:
        """M_hi: the value of the last code before infinity (if extended) and NaN (if unsigned)."""
        code = 2 ** (self.K - self.signed) - 1 - self.extended - (not self.signed)
        exponent, trailing = divmod(code, 2 ** (self.P - 1))
        significand = trailing / 2 ** (self.P - 1) + (exponent > 0)
        return math.ldexp(significand, max(exponent, 1) - self.bias)

    @property
    def smallest(self) -> float:
        """M_lo."""
        return -self.largest if self.signed else 0.0


def formats_of(*widths: int) -> list[Parameters]:
    return [
        Parameters(width, precision, signed, extended)
        for width in widths
        for signed in (True, False)
        for precision in range(1, width + (not signed))
        for extended in (True, False)
    ]
