"""Numbers as the definitions take them: exactly, of whatever type they are."""

import math
import operator
from fractions import Fraction
from numbers import Complex, Rational
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias

from precsim.formats.arguments import shown

Real: TypeAlias = float | Fraction
"""A nonzero `Fraction`, or one of the floats 0.0, -0.0, inf, -inf, nan."""

RealLike: TypeAlias = SupportsFloat | SupportsIndex
"""What the definitions take: Python's real numbers, and scalars of any library."""


def real(x: RealLike, argument: str) -> Real:
    """Return a number as it is, without a rounding.

    It is a Python number (int, float, Fraction, Decimal), or a scalar of any library: Python's own
    protocols of numbers read it, so that none is imported here.
    """
    if isinstance(x, float):
        return Fraction(x) if math.isfinite(x) and x else float(x)
    if isinstance(x, (Fraction, int)):
        return Fraction(x) or 0.0
    try:
        if not isinstance(x, (str, bytes)) and getattr(x, "shape", ()) == ():
            return _scalar(x)
    except (TypeError, ValueError):
        pass
    raise TypeError(
        f"{argument} is {shown(x)}; allowed are real numbers: int, float, Fraction, Decimal, and "
        "scalars of NumPy and JAX"
    )


def _scalar(x: Any) -> Real:
    if hasattr(x, "as_integer_ratio"):
        try:
            numerator, denominator = x.as_integer_ratio()
        except (OverflowError, ValueError):  # an infinity or a NaN
            return float(x)
        return Fraction(int(numerator), int(denominator)) or float(x)
    if isinstance(x, Rational):
        return Fraction(int(x.numerator), int(x.denominator)) or 0.0
    try:
        return Fraction(operator.index(x)) or 0.0
    except TypeError:
        # A float of fewer bits, of a library without the protocol of ratios. Numbers of NumPy with
        # an imaginary part would lose it here.
        if isinstance(x, Complex):
            raise
        return real(float(x), "x")


def exponent_of_power(x: RealLike, argument: str) -> int:
    """Return the exponent of a power of two; refuse other numbers, and what is none."""
    number = real(x, argument)
    if isinstance(number, Fraction) and number > 0:
        ends = number.numerator, number.denominator
        if all(end & (end - 1) == 0 for end in ends):
            return ends[0].bit_length() - ends[1].bit_length()
    raise ValueError(f"{argument} is {shown(x)}; allowed are powers of two, such as 2.0**10")


def floor_log2(x: Fraction) -> int:
    """Return the largest e with 2**e <= x, for a positive number."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def is_nan(x: Real) -> bool:
    """Return whether a number is NaN."""
    return isinstance(x, float) and math.isnan(x)


def is_infinite(x: Real) -> bool:
    """Return whether a number is an infinity."""
    return isinstance(x, float) and math.isinf(x)


def is_negative(x: Real) -> bool:
    """Return whether a number has a minus sign; -0 and NaN can have one."""
    return math.copysign(1, x) < 0 if isinstance(x, float) else x < 0
