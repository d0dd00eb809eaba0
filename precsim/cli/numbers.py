"""How options read numbers: what is none is refused in words, before any command sees it."""

import argparse
import re


def whole(text: str) -> int:
    """Read an integer of an option; the command says which ones are allowed.

    Examples
    --------
    >>> whole("100")
    100
    """
    if not re.fullmatch(r"\s*[+-]?\d{1,100}\s*", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number, such as 100")
    return int(text)


def real(text: str) -> float:
    """Read a number of an option.

    Examples
    --------
    >>> real("1e-3")
    0.001
    """
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number, such as 0.01") from None
