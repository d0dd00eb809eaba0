"""Codes of one number, in exact arithmetic: their fields, their value, and how it follows."""

import math
import re
from typing import NamedTuple

from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat, Specials
from precsim.formats.oracle import decode_exact
from precsim.formats.registry import Format
from precsim.formats.written import exact_decimal

_CODE = re.compile(r"(?P<hex>0x[0-9a-f]+)|(?P<binary>0b[01]+)|(?P<decimal>0|[1-9]\d*)", re.ASCII)
_DIGITS = 80
"""Digits of a value that are shown beside its derivation."""


class Field(NamedTuple):
    """A named part of a code, its bits as text."""

    name: str
    bits: str


def parse_code(text: str) -> tuple[int, tuple[int, ...]]:
    """Read a bit pattern.

    Parameters
    ----------
    text : str
        Hexadecimal (``0x3c00``), binary (``0b0011``, or fields such as ``0 01111 0000000000``), or
        decimal.

    Returns
    -------
    code : int
        The bits as an integer.
    widths : tuple of int
        How many bits are written, of each field where fields are; none for a decimal number.

    Raises
    ------
    ValueError
        If the text is none of these.

    Examples
    --------
    >>> parse_code("0x3c00"), parse_code("0 0111 000"), parse_code("56")
    ((15360, (16,)), (56, (1, 4, 3)), (56, ()))
    """
    word = text.strip().lower()
    if re.fullmatch(r"[01]+( +[01]+)+", word) and len(word) <= 100:
        fields = word.split()
        return int("".join(fields), 2), tuple(map(len, fields))
    word = re.sub(r"[ _]", "", word)
    match = _CODE.fullmatch(word)
    if match is None or len(word) > 100:
        raise ValueError(
            f"--code is {text.strip()[:40]!r}; allowed are bits in hexadecimal (0x3c00), binary (0b0011 or "
            "'0 0111 000') or decimal (15360)"
        )
    bits = {"hex": 4, "binary": 1}.get(match.lastgroup or "")
    return int(word, 0), () if bits is None else (bits * (len(word) - 2),)


def fields_of(code: int, fmt: Format) -> tuple[Field, ...]:
    """Split a code into its fields; those without bits are left out.

    Examples
    --------
    >>> import precsim as ps
    >>> [field.bits for field in fields_of(0x3C01, ps.get_format("fp16"))]
    ['0', '01111', '0000000001']
    """
    assert fmt.width is not None
    bits = f"{code:0{fmt.width}b}"
    if isinstance(fmt, FixedPointFormat):
        sizes = {"sign": int(fmt.is_signed), "integer": max(fmt.integer_bits, 0)}
        sizes["fraction"] = fmt.width - sum(sizes.values())
    else:
        sizes = {"sign": int(fmt.is_signed), "exponent": fmt.exponent_bits or 0}
        sizes["trailing significand"] = fmt.precision - 1
    fields, start = [], 0
    for name, size in sizes.items():
        if size:
            fields.append(Field(name, bits[start : start + size]))
        start += size
    return tuple(fields)


def fits(widths: tuple[int, ...], fmt: Format) -> bool:
    """Return whether a code of these widths, one or one for each field, is one of the format.

    Examples
    --------
    >>> import precsim as ps
    >>> [fits(widths, ps.get_format("e4m3")) for widths in ((8,), (1, 4, 3), (1, 3, 4))]
    [True, True, False]
    """
    return widths in ((fmt.width,), tuple(len(field.bits) for field in fields_of(0, fmt)))


def check_fields(widths: tuple[int, ...], fmt: Format) -> None:
    """Refuse fields whose widths are not those of the format."""
    if len(widths) > 1 and not fits(widths, fmt):
        own = fields_of(0, fmt)
        raise ValueError(
            f"--code has fields of {', '.join(map(str, widths))} bits; those of {fmt} have "
            f"{', '.join(str(len(field.bits)) for field in own)} "
            f"({', '.join(field.name for field in own)})"
        )


def derivation(code: int, fmt: Format) -> str:
    """Return the line that derives a value from its fields.

    Parameters
    ----------
    code : int
        Bits.
    fmt : FloatFormat or FixedPointFormat
        A format with a width.

    Returns
    -------
    str
        A formula with the numbers of the fields, or the rule for a code without one.

    Examples
    --------
    >>> import precsim as ps
    >>> derivation(0x4248, ps.get_format("fp16"))
    '(-1)**0 * 2**(16-15) * 1.1001001000b = 3.140625'
    >>> derivation(0x01, ps.get_format("e4m3"))
    '(-1)**0 * 2**(1-7) * 0.001b = 0.001953125'
    >>> derivation(0xD0, ps.get_format("q3.4"))
    '(208 - 2**8) * 2**-4 = -48 * 2**-4 = -3'
    """
    value = decode_exact(code, fmt)
    if isinstance(fmt, FixedPointFormat):
        steps = _signed_integer(code, fmt)
        by = f" * 2**{-fmt.fraction_bits}" if fmt.fraction_bits else ""
        whole = f"({code} - 2**{fmt.width}){by} = " if steps < 0 else ""
        return f"{whole}{steps}{by}" + (f" = {shortened(value)}" if by else "")
    if not math.isfinite(value):
        return _special(code, value, fmt)
    fields = {field.name: field.bits for field in fields_of(code, fmt)}
    trailing = fields.get("trailing significand", "")
    field = int(fields["exponent"], 2)
    sign = f"(-1)**{fields['sign']} * " if fmt.is_signed else ""
    bias = f"-{fmt.bias}" if fmt.bias >= 0 else f"+{-fmt.bias}"
    is_low = field == 0 and fmt.has_zero
    if is_low and not (fmt.has_subnormals and trailing):
        return f"exponent field 0 stands for zero: {shortened(value)}"
    factor = f" * {int(not is_low)}.{trailing}b" if trailing else ""
    return f"{sign}2**({1 if is_low else field}{bias}){factor} = {shortened(value)}"


def shortened(value: float) -> str:
    """Write a value in decimal; of very many digits the first, and how many there are.

    Examples
    --------
    >>> shortened(0.15625), shortened(1e-300)
    ('0.15625', '1.0000000000000000250590918352...e-300 (750 digits)')
    """
    text = exact_decimal(value)
    if len(text) <= _DIGITS:
        return text
    digits, _, exponent = text.partition("e")
    count = sum(map(str.isdigit, digits))
    return f"{digits[:30]}...{'e' + exponent if exponent else ''} ({count} digits)"


def _signed_integer(code: int, fmt: FixedPointFormat) -> int:
    is_negative = fmt.is_signed and code >> (fmt.width - 1)
    return code - (1 << fmt.width) if is_negative else code


def _special(code: int, value: float, fmt: FloatFormat) -> str:
    """Say which rule makes a code infinity or NaN."""
    what = "NaN" if math.isnan(value) else "-infinity" if value < 0 else "infinity"
    if fmt.specials is Specials.IEEE:
        trailing = "0" if math.isinf(value) else "not 0"
        return f"exponent field all ones, trailing significand {trailing}: {what}"
    if math.isnan(value) and fmt.nan_replaces_negative_zero:
        return "the code that would be -0 stands for NaN"
    if fmt.specials is Specials.FN:
        return f"all bits{' after the sign' if fmt.is_signed else ''} are 1: NaN"
    largest = "largest" if math.isnan(value) else "first beyond the largest finite value"
    return f"the code is the {largest}: {what}"
