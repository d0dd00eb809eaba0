"""Random inputs: sentences of a small grammar, and texts and bytes with a few places changed."""

import random
import re
import struct
from collections.abc import Mapping, Sequence

Grammar = Mapping[str, Sequence[str]]
"""Name -> what it may stand for; ``<other>`` in that stands for a name."""

_PLACE = re.compile(r"<(\w+)>")
_DEEPEST = 8
_LONG = 20_000
"""Characters of the longest text that a repetition makes."""

NUMBERS = (
    *("0", "1", "2", "3", "8", "16", "23", "24", "31", "32", "64", "-1", "-0", "007", "0.5", "1e9"),
    *(
        "4294967296",
        "9" * 30,
        "9" * 5_000,
        "1e400",
        "nan",
        "inf",
        "0x10",
        "",
        " ",
        "\u0663",
        "\u00b2",
    ),
)
"""Where an integer is expected."""
_CHARACTERS = (
    *":;,@=+-*/^()[]{}<>.~_#%&|!?'\"\\ \t\n\r",
    *("\0", "\u00e9", "\u0661", "\uff11", "\u2028", "\ud800", "\U0001f600"),
    *"0123456789abcdefABCDEFxXpPqQ",
)
_INTEGERS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
)


def sentence(rng: random.Random, grammar: Grammar, name: str = "start") -> str:
    """Return what a name of a grammar stands for, chosen at random; deep inside, the first."""

    def chosen(name: str, depth: int) -> str:
        words = grammar[name]
        word = words[0] if depth > _DEEPEST else rng.choice(words)
        return _PLACE.sub(lambda found: chosen(found[1], depth + 1), word)

    return chosen(name, 0)


def words_of(grammar: Grammar) -> tuple[str, ...]:
    """Return the words of a grammar that hold no name."""
    return tuple(w for words in grammar.values() for w in words if not _PLACE.search(w))


def changed_text(rng: random.Random, text: str, words: Sequence[str]) -> str:
    """Return a text with one to four places changed."""
    for _ in range(rng.randint(1, 4)):
        first = rng.randint(0, len(text))
        last = min(len(text), first + rng.choice((0, 1, 1, 2, 5, 20)))
        piece = text[first:last]
        match rng.randrange(8):
            case 0:
                new = ""
            case 1:
                new = piece * 2
            case 2:
                new = rng.choice(_CHARACTERS)
            case 3:
                new = rng.choice(words)
            case 4:
                new = rng.choice(NUMBERS)
            case 5:
                new = piece[::-1]
            case 6:
                new = piece.swapcase()
            case _:
                many = rng.choice((3, 30, _LONG)) if rng.random() < 0.1 else 2
                unit = piece or rng.choice(_CHARACTERS)
                new = unit * min(many, _LONG // len(unit))
        text = text[:first] + new + text[last:]
    return text


def changed_bytes(rng: random.Random, data: bytes) -> bytes:
    """Return bytes with one to four places changed."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(found))
        end = min(len(found), at + rng.choice((1, 1, 2, 4, 8, 100)))
        match rng.randrange(7):
            case 0:
                found[at:end] = bytes(b ^ 1 << rng.randrange(8) for b in found[at:end])
            case 1:
                found[at:end] = rng.randbytes(end - at)
            case 2:
                del found[at:end]
            case 3:
                found[at:at] = found[at:end]
            case 4:
                del found[at:]
            case 5:
                width, order = rng.choice("BHIQ"), rng.choice("<>")
                limit = 1 << 8 * struct.calcsize(width)
                number = struct.pack(f"{order}{width}", rng.choice(_INTEGERS) % limit)
                found[at : at + len(number)] = number
            case _:
                found[at:end] = rng.choice(NUMBERS).encode()
    return bytes(found)
