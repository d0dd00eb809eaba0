"""The formats of IEEE P3109: every one of 3 to 16 bits, spelled ``binary{K}p{P}{s|u}{e|f}``."""

import re

from precsim.formats.arguments import shown
from precsim.formats.floating import FloatFormat, Specials

_NAME = re.compile(r"(?:p3109_k|binary)(\d{1,6})p(\d{1,6})([su])([ef])")
_SOURCE = "IEEE P3109 Interim Report v4.0 (2026), 3.1 and 4.7.2"
LARGEST_WIDTH = 16


def p3109_format(name: str) -> FloatFormat | None:
    """Return the P3109 format that a name spells, None if it spells none.

    K is the width, P the precision; s or u: signed or unsigned; e: with infinities, f: finite
    numbers only. Exponent bits are K - P (one more if unsigned), the bias is 2**(w - 1), there are
    one zero and one NaN.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    width, precision, is_signed = int(match[1]), int(match[2]), match[3] == "s"
    largest_precision = width - is_signed
    if not 3 <= width <= LARGEST_WIDTH or not 1 <= precision <= largest_precision:
        raise ValueError(
            f"format {shown(name)} is out of range: P3109 names are binary{{K}}p{{P}}{{s|u}}{{e|f}} with K from 3 "
            f"to {LARGEST_WIDTH} and P from 1 to K - 1 if signed, to K if unsigned"
        )
    return FloatFormat(
        name=f"binary{width}p{precision}{match[3]}{match[4]}",
        precision=precision,
        exponent_bits=width - precision + (not is_signed),
        specials=Specials.P3109_EXTENDED if match[4] == "e" else Specials.P3109_FINITE,
        is_signed=is_signed,
        source=_SOURCE,
    )
