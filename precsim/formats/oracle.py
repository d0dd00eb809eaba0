"""The definition of codes: one bit pattern to its exact value and back, in integers and fractions.

This is the text to read first: it says in a few lines what `decode` and `encode` do to arrays.
"""

import math
from fractions import Fraction

from precsim.formats.arguments import integer, shown
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.layout import as_float
from precsim.formats.numbers import Format
from precsim.formats.reals import Real, RealLike, floor_log2, is_infinite, is_nan, is_negative, real
from precsim.formats.registry import get_format
from precsim.formats.scaled import refuse_scaled


def decode_exact(code: int, fmt: str | Format) -> float:
    """Return the value of a bit pattern.

    Parameters
    ----------
    code : int
        Bit pattern of `width` bits; negative integers are their two's complement.
    fmt : str, FloatFormat or FixedPointFormat
        The format of the code.

    Returns
    -------
    float
        The exact value.

    Raises
    ------
    ValueError
        If the code is not one of the format's, the format has no codes (unlimited exponent range),
        or float64 does not have the value.

    Examples
    --------
    >>> import precsim as ps
    >>> [ps.oracle.decode_exact(code, "e4m3") for code in (0x38, 0x7E, 0x80, 0x7F)]
    [1.0, 448.0, -0.0, nan]
    """
    fmt, width = _with_codes(fmt)
    code = integer(code, "code", -(1 << (width - 1)), (1 << width) - 1) % (1 << width)
    if isinstance(fmt, FixedPointFormat):
        steps = code - (1 << width) * (fmt.is_signed and code >> (width - 1))
        size = as_float(abs(steps), -fmt.fraction_bits, fmt.name)
        return -size if steps < 0 else size
    negative, magnitude = divmod(code, 1 << fmt._magnitude_bits)
    if code == fmt._nan_code and fmt.nan_replaces_negative_zero:
        return math.nan
    if magnitude > fmt._max_code:
        is_infinity = fmt.has_infinity and magnitude == fmt._max_code + 1
        return math.copysign(math.inf if is_infinity else math.nan, -negative or 1)
    value = as_float(*fmt.magnitude(magnitude), fmt.name)
    return -value if negative and (value or fmt.has_negative_zero) else value


def encode_exact(value: RealLike, fmt: str | Format) -> int:
    """Return the bit pattern of a value of a format.

    Parameters
    ----------
    value : float, int, Fraction or Decimal
        A value of the format; -0, infinity and NaN too, where the format has them.
    fmt : str, FloatFormat or FixedPointFormat
        The format.

    Returns
    -------
    int
        The code; of NaN that of the quiet NaN (sign kept where the format has two).

    Raises
    ------
    ValueError
        If the value is not in the format, or the format has no codes (unlimited exponent range).
    TypeError
        If `value` is no number.

    Examples
    --------
    >>> import precsim as ps
    >>> [hex(ps.oracle.encode_exact(value, "e4m3")) for value in (1.0, 448, -0.0)]
    ['0x38', '0x7e', '0x80']
    >>> ps.oracle.encode_exact(0.1, "fp16")
    Traceback (most recent call last):
    ...
    ValueError: 0.1 is not in fp16; round it first, for example with round_exact(value, 'fp16')
    """
    fmt, _ = _with_codes(fmt)
    x = real(value, "value")
    code = _fixed_code(x, fmt) if isinstance(fmt, FixedPointFormat) else _float_code(x, fmt)
    if code is None:
        raise ValueError(
            f"{shown(value)} is not in {fmt.name}; round it first, for example with "
            f"round_exact(value, {fmt.name!r})"
        )
    return code


def _with_codes(fmt: str | Format) -> tuple[Format, int]:
    """Return the format of single numbers, and the width of its codes."""
    found: Format = get_format(fmt)
    refuse_scaled(found, "fmt")
    if found.width is None:
        raise ValueError(f"{found.name} has an unlimited exponent range, hence no codes")
    return found, found.width


def _float_code(x: Real, fmt: FloatFormat) -> int | None:
    """Return the code of a floating-point value, None if the format does not have it."""
    sign = is_negative(x) << fmt._magnitude_bits
    if is_nan(x):
        has_two = fmt.is_signed and not fmt.nan_replaces_negative_zero
        return (fmt._nan_code | sign * has_two) if fmt.has_nan else None
    if sign and not (fmt.is_signed if x else fmt.has_negative_zero):
        return None
    if is_infinite(x):
        return (fmt._max_code + 1) | sign if fmt.has_infinity else None
    if x == 0:
        return sign if fmt.has_zero else None
    size = abs(Fraction(x))
    exponent = max(floor_log2(size), fmt.emin)
    significand = size / Fraction(2) ** (exponent - fmt.precision + 1)
    # The leading bit of a normal number adds one to the exponent field by itself.
    code = int(significand) + ((exponent + fmt.bias - 1) << (fmt.precision - 1))
    if not 0 <= code <= fmt._max_code:
        return None
    whole, exponent = fmt.magnitude(code)
    return code | sign if whole * Fraction(2) ** exponent == size else None


def _fixed_code(x: Real, fmt: FixedPointFormat) -> int | None:
    """Return the code of a fixed-point value, None if the format does not have it."""
    if is_nan(x) or is_infinite(x) or (x == 0 and is_negative(x)):
        return None
    steps = Fraction(x) * Fraction(2) ** fmt.fraction_bits
    count = 1 << fmt.width
    least = -count // 2 if fmt.is_signed else 0
    return int(steps) % count if steps.denominator == 1 and 0 <= steps - least < count else None
