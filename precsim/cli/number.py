"""Numbers as people write them, read and written exactly."""

import math
import re
from decimal import Context, Decimal
from fractions import Fraction

MAX_EXPONENT = 10_000
"""Larger decimal or binary exponents are refused: their exact value would fill the memory."""
MAX_LENGTH = 1_000

_HEX = re.compile(
    r"(?P<whole>[0-9a-f]*)(?:\.(?P<part>[0-9a-f]*))?(?:p(?P<exponent>[+-]?\d+))?", re.ASCII
)
_DECIMAL = re.compile(r"(?P<whole>\d*)(?:\.(?P<part>\d*))?(?:e(?P<exponent>[+-]?\d+))?", re.ASCII)
_SPECIAL = {"inf": math.inf, "infinity": math.inf, "nan": math.nan}


def parse_number(text: str) -> Fraction | float:
    """Read a number without rounding it.

    Parameters
    ----------
    text : str
        Decimal (``-3.14``, ``1e-3``), hexadecimal (``0x1.8p-3``), a fraction of two of these
        (``1/3``), ``inf``, ``nan``.

    Returns
    -------
    Fraction or float
        The exact number; a float for -0, the infinities and NaN.

    Raises
    ------
    ValueError
        If the text is not a number, or its exponent is beyond plus or minus `MAX_EXPONENT`.

    Examples
    --------
    >>> parse_number("0.1"), parse_number("-0x1.8p-3"), parse_number("1/3"), parse_number("-0")
    (Fraction(1, 10), Fraction(-3, 16), Fraction(1, 3), -0.0)
    """
    word = text.strip().lower()
    negative = word.startswith("-")
    magnitude = word[1:] if word[:1] in ("+", "-") else word
    if magnitude in _SPECIAL:
        return math.copysign(_SPECIAL[magnitude], -1 if negative else 1)
    above, slash, below = magnitude.partition("/")
    value = _parse_magnitude(above, text)
    if slash:
        divisor = _parse_magnitude(below, text)
        if divisor == 0:
            raise ValueError(f"number {text.strip()!r} divides by zero")
        value /= divisor
    if negative:
        return -value if value else -0.0
    return value


def _parse_magnitude(word: str, text: str) -> Fraction:
    is_hex = word.startswith("0x")
    match = (_HEX if is_hex else _DECIMAL).fullmatch(word[2:] if is_hex else word)
    if len(word) > MAX_LENGTH:
        raise ValueError(f"{word[:40]}... is not a number of at most {MAX_LENGTH} characters")
    if match is None or not (match["whole"] or match["part"]):
        raise ValueError(
            f"{text.strip()[:40]!r} is not a number; allowed are decimals (-3.14, 1e-3), "
            "hexadecimal floats (0x1.8p-3), fractions (1/3), inf and nan"
        )
    digits, part = match["whole"] + (match["part"] or ""), match["part"] or ""
    exponent = int(match["exponent"] or 0)
    if abs(exponent) > MAX_EXPONENT:
        raise ValueError(
            f"the exponent of {text.strip()!r} is {exponent}; allowed are {-MAX_EXPONENT} to {MAX_EXPONENT}"
        )
    if is_hex:
        return int(digits, 16) * Fraction(2) ** (exponent - 4 * len(part))
    return int(digits) * Fraction(10) ** (exponent - len(part))


def exact_decimal(value: float) -> str:
    """Write a float's exact value in decimal.

    Parameters
    ----------
    value : float
        Any float.

    Returns
    -------
    str
        All digits, none rounded; with an exponent outside 1e-6 to 1e21.

    Examples
    --------
    >>> exact_decimal(0.1), exact_decimal(2.0**-17), exact_decimal(-0.0)
    ('0.1000000000000000055511151231257827021181583404541015625', '7.62939453125e-6', '-0')
    """
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    number = Decimal(value)
    if 1e-6 <= abs(value) < 1e21:
        text = f"{number:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{number.normalize(Context(prec=800)):e}"


def hex_float(value: float) -> str:
    """Write a float in hexadecimal without trailing zeros.

    Parameters
    ----------
    value : float
        Any float.

    Returns
    -------
    str
        What C prints for ``%a``; exact.

    Examples
    --------
    >>> hex_float(0.15625), hex_float(-0.0), hex_float(float("inf"))
    ('0x1.4p-3', '-0x0p+0', 'inf')
    """
    return re.sub(r"\.?0*p", "p", value.hex(), count=1)


def approximate(value: Fraction) -> str:
    """Write a fraction in decimal with four significant digits.

    Parameters
    ----------
    value : Fraction
        Any fraction, also far outside the range of a float.

    Returns
    -------
    str
        The number, rounded to nearest.

    Examples
    --------
    >>> approximate(Fraction(1, 3)), approximate(Fraction(1, 10**400))
    ('0.3333', '1e-400')
    """
    context = Context(prec=4)
    quotient = context.divide(Decimal(value.numerator), Decimal(value.denominator))
    quotient = quotient.normalize(context)
    if Decimal("1e-4") <= abs(quotient) < Decimal("1e6") or not quotient:
        return f"{quotient:f}"
    return f"{quotient:e}"
