"""Numbers as people write them, read and written exactly."""

import math
import re
from decimal import ROUND_DOWN, Context, Decimal, Inexact
from fractions import Fraction

MAX_EXPONENT = 10_000
"""Larger decimal or binary exponents are refused: their exact value would fill the memory."""
MAX_LENGTH = 1_000
MAX_PARENTHESES = 50
_MAX_BITS = 200_000
"""Larger results of powers and products are refused."""
_FEW_DIGITS, _FIRST_DIGITS, _SHORT_QUOTIENT = 30, 20, 16
"""Digits that `exact_text` writes of an exact number, of the beginning of others, of a quotient."""

_HEX = r"0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?\d+)?"
_DECIMAL = r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
NUMBER = rf"{_HEX}|{_DECIMAL}|pi|e"
"""Pattern of a number by itself, in small letters."""
_TOKEN = re.compile(rf"{NUMBER}|\*\*|[*/^+()-]", re.ASCII)
_SPECIAL = {"inf": math.inf, "infinity": math.inf, "nan": math.nan}

CONSTANTS = {
    "pi": Fraction(
        "3.14159265358979323846264338327950288419716939937510"
        "58209749445923078164062862089986280348253421170679"
    ),
    "e": Fraction(
        "2.71828182845904523536028747135266249775724709369995"
        "95749669676277240766303535475945713821785251664274"
    ),
}
"""Name -> the number to 100 digits, which is enough to round it correctly to 53 bits."""


def parse_number(text: str) -> Fraction | float:
    """Read a number without rounding it.

    Parameters
    ----------
    text : str
        Decimal (``-3.14``, ``1e-3``), hexadecimal (``0x1.8p-3``), ``pi`` or ``e`` (to 100 digits),
        sums, products, quotients and powers of these (``1/3``, ``2**-24``, ``(1+2^-11)*3``),
        ``inf``, ``nan``.

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
    >>> parse_number("1+2**-3")
    Fraction(9, 8)
    """
    word = text.strip().lower()
    sign = -1 if word.startswith("-") else 1
    if (magnitude := word.removeprefix("-").removeprefix("+")) in _SPECIAL:
        return math.copysign(_SPECIAL[magnitude], sign)
    tokens = _tokens(word)
    is_one_term = sum(token in ("+", "-") for token in tokens) == 1
    value = _sum(tokens, word)
    if tokens:
        raise _not_a_number(word)
    return -0.0 if value == 0 and sign < 0 and is_one_term else value


def _tokens(word: str) -> list[str]:
    """Split a number at its operators, the last token first; spaces count for nothing."""
    if len(word) > MAX_LENGTH:
        raise ValueError(f"{_echo(word)} is not a number of at most {MAX_LENGTH} characters")
    if _TOKEN.sub("", word).strip():
        raise _not_a_number(word)
    tokens = _TOKEN.findall(word)[::-1]
    if tokens.count("(") > MAX_PARENTHESES:
        raise ValueError(
            f"{_echo(word)} has {tokens.count('(')} parentheses; allowed are {MAX_PARENTHESES}"
        )
    return tokens


def _sum(tokens: list[str], word: str) -> Fraction:
    value, sign = Fraction(0), "+"
    if tokens and tokens[-1] in ("+", "-"):
        sign = tokens.pop()
    while True:
        term = _product(tokens, word)
        value = _limited(value - term if sign == "-" else value + term, word)
        if not tokens or tokens[-1] not in ("+", "-"):
            return value
        sign = tokens.pop()


def _product(tokens: list[str], word: str) -> Fraction:
    value = _power(tokens, word)
    while tokens and tokens[-1] in ("*", "/"):
        if tokens.pop() == "*":
            value = _limited(value * _power(tokens, word), word)
            continue
        divisor = _power(tokens, word)
        if divisor == 0:
            raise ValueError(f"number {_echo(word)} divides by zero")
        value = _limited(value / divisor, word)
    return value


def _power(tokens: list[str], word: str) -> Fraction:
    base = _atom(tokens, word)
    if not tokens or tokens[-1] not in ("**", "^"):
        return base
    tokens.pop()
    sign = tokens.pop() if tokens and tokens[-1] in ("+", "-") else ""
    exponent = _atom(tokens, word) * (-1 if sign == "-" else 1)
    if exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT:
        raise ValueError(
            f"an exponent of {_echo(word)} is not allowed; allowed are integers from "
            f"{-MAX_EXPONENT} to {MAX_EXPONENT}"
        )
    if base == 0 and exponent < 0:
        raise ValueError(f"number {_echo(word)} divides by zero")
    _limited(base, word, times=abs(int(exponent)))
    return base ** int(exponent)


def _atom(tokens: list[str], word: str) -> Fraction:
    token = tokens.pop() if tokens else ""
    if token in CONSTANTS:
        return CONSTANTS[token]
    if token == "(":
        value = _sum(tokens, word)
        if not tokens or tokens.pop() != ")":
            raise _not_a_number(word)
        return value
    if not token[-1:].isalnum() and not token.endswith("."):
        raise _not_a_number(word)
    is_hex = token.startswith("0x")
    digits, _, power = token.removeprefix("0x").partition("p" if is_hex else "e")
    whole, _, part = digits.partition(".")
    exponent = int(power or 0)
    if abs(exponent) > MAX_EXPONENT:
        raise ValueError(
            f"the exponent of {_echo(word)} is {exponent}; allowed are {-MAX_EXPONENT} to {MAX_EXPONENT}"
        )
    if is_hex:
        return int(whole + part, 16) * Fraction(2) ** (exponent - 4 * len(part))
    return int(whole + part) * Fraction(10) ** (exponent - len(part))


def _limited(value: Fraction, word: str, *, times: int = 1) -> Fraction:
    """Return a number; refuse it if its digits, that many times, would fill the memory."""
    if (value.numerator.bit_length() + value.denominator.bit_length()) * times > _MAX_BITS:
        raise ValueError(f"number {_echo(word)} has too many digits; allowed are {_MAX_BITS} bits")
    return value


def _not_a_number(word: str) -> ValueError:
    return ValueError(
        f"{_echo(word)} is not a number; allowed are decimals (-3.14, 1e-3), hexadecimal floats "
        "(0x1.8p-3), pi, e, inf, nan, and + - * / ** ( ) with numbers (1/3, 2**-24, 1+2**-11)"
    )


def _echo(word: str) -> str:
    """Return a word as messages show it."""
    return repr(word if len(word) <= 40 else f"{word[:37]}...")


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
    if math.isnan(value):
        return "-nan" if math.copysign(1, value) < 0 else "nan"
    if math.isinf(value) or value == 0:
        return f"{value:g}"
    number = Decimal(value)
    if 1e-6 <= abs(value) < 1e21:
        text = f"{number:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{number.normalize(Context(prec=800)):e}"


def exact_text(value: Fraction | float) -> str:
    """Write a number exactly if few digits do, as a quotient if that is short, else its beginning.

    Parameters
    ----------
    value : Fraction or float
        Any number; a float may also be -0, infinity or NaN.

    Returns
    -------
    str
        Text that ends in "..." where further digits follow.

    Examples
    --------
    >>> exact_text(Fraction(3, 8)), exact_text(Fraction(1, 3)), exact_text(0.1)
    ('0.375', '1/3', '0.10000000000000000555...')
    """
    if isinstance(value, float) and (not math.isfinite(value) or value == 0):
        return exact_decimal(value)
    exact = Fraction(value)
    numerator, denominator = Decimal(exact.numerator), Decimal(exact.denominator)
    few = Context(prec=_FEW_DIGITS)
    number = few.divide(numerator, denominator)
    if not few.flags[Inexact]:
        return _with_exponent(number.normalize(few))
    if exact.numerator.bit_length() + exact.denominator.bit_length() <= 3 * _SHORT_QUOTIENT:
        return str(exact)
    first = Context(prec=_FIRST_DIGITS, rounding=ROUND_DOWN).divide(numerator, denominator)
    digits, mark, exponent = _with_exponent(first).partition("e")
    return f"{digits}...{mark}{exponent}"


def _with_exponent(number: Decimal) -> str:
    """Write a number plainly from 1e-6 to 1e21, with an exponent outside."""
    if number and not -6 <= number.adjusted() < 21:
        return f"{number:e}"
    return f"{number:f}"


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
    if not math.isfinite(value):
        return exact_decimal(value)
    return re.sub(r"\.?0*p", "p", value.hex(), count=1)


def approximate(value: Fraction, *, digits: int = 4) -> str:
    """Write a fraction in decimal with a few significant digits.

    Parameters
    ----------
    value : Fraction
        Any fraction, also far outside the range of a float.
    digits : int
        How many.

    Returns
    -------
    str
        The number, rounded to nearest.

    Examples
    --------
    >>> approximate(Fraction(1, 3)), approximate(Fraction(1, 10**400))
    ('0.3333', '1e-400')
    """
    context = Context(prec=digits)
    quotient = context.divide(Decimal(value.numerator), Decimal(value.denominator))
    quotient = quotient.normalize(context)
    if Decimal("1e-4") <= abs(quotient) < Decimal("1e6") or not quotient:
        return f"{quotient:f}"
    return f"{quotient:e}"
