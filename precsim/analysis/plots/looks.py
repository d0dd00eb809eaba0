"""One colour and one marker per format, in every picture: the table, and a rule for the others.

Colour and marker say the format, dashes say what else differs. The colours of the common
formats are those of Okabe and Ito, which colour-blind readers can tell apart, without their yellow,
which is too pale for a line on white. In grey, markers and dashes tell the lines apart.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any
from zlib import crc32

from precsim.analysis.plots.checks import instance, listed
from precsim.formats.affine import AffineFormat
from precsim.formats.arguments import integer
from precsim.formats.block import BlockFormat
from precsim.formats.dynamic import DynamicFormat
from precsim.formats.registry import get_format
from precsim.formats.tile import TileFormat

LOOKS = {
    "fp64": ("#4D4D4D", "h"),
    "fp32": ("#0072B2", "o"),
    "tf32": ("#225555", "p"),
    "fp16": ("#009E73", "s"),
    "bf16": ("#D55E00", "^"),
    "e4m3": ("#CC79A7", "D"),
    "e5m2": ("#E69F00", "v"),
    "e3m2": ("#332288", "<"),
    "e2m3": ("#5F6B7A", ">"),
    "e2m1": ("#882255", "X"),
    "int8": ("#999933", "d"),
    "q3.8": ("#56B4E9", "P"),
    "q3.12": ("#7F4A2B", "*"),
}
"""Colour and marker by format. Black is for exact results and published points."""
COLORS = ("#332288", "#882255", "#999933", "#7F4A2B", "#5F6B7A", "#225555")
"""For formats that the table lacks, and for curves that differ in something else."""
MARKERS = ("<", ">", "d", "*", "H")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))

_TABLE = {get_format(name): look for name, look in LOOKS.items()}
_STAND_FOR = {"fp8": "e4m3", "mxint8": "int8"}
_WORD = re.compile(r"float\([^()]*\)|[A-Za-z][\w.]*")
_FIELDS = re.compile(r"e(\d+)m(\d+)", re.IGNORECASE)


def format_color(label: str) -> str | None:
    """Return the colour of the format that a label names.

    Parameters
    ----------
    label : str
        A format, a rounding, a product, a policy, or other words. The first format in it counts.

    Returns
    -------
    str or None
        The colour, ``"#RRGGBB"``; None if the label names no format. The elements of a block format
        decide its colour; those of mxint8 count as int8. "fp8" counts as e4m3, the format of the
        forward pass.

    Raises
    ------
    TypeError
        If `label` is no string.

    Examples
    --------
    >>> format_color("fp16"), format_color("mixed_float16"), format_color("h100:fp16")
    ('#009E73', '#009E73', '#009E73')
    >>> format_color("exact") is None
    True
    """
    look = _look(instance(label, str, "label", "strings"))
    return None if look is None else look[0]


def line_styles(labels: Iterable[str], points: int = 1) -> dict[str, dict[str, Any]]:
    """Return a style for each line of one picture.

    Parameters
    ----------
    labels : iterable of str, or str
        The lines' labels. A format in a label decides colour and marker, the same in every picture.
    points : int
        How many points the lines have: about ten of many have a marker.

    Returns
    -------
    dict of str to dict
        Arguments for `matplotlib.axes.Axes.plot` by label: color, marker, linestyle, markevery.
        Lines of one format differ in their dashes. Labels without a format take further colours,
        markers and dashes in turn.

    Raises
    ------
    TypeError
        If `labels` are no strings.
    ValueError
        If `points` is no integer from 0 on.

    Examples
    --------
    >>> styles = line_styles(["bf16", "bf16_sr", "fp32"])
    >>> [(style["color"], style["marker"]) for style in styles.values()]
    [('#D55E00', '^'), ('#D55E00', '^'), ('#0072B2', 'o')]
    >>> styles["bf16"]["linestyle"], styles["bf16_sr"]["linestyle"]
    ('-', (0, (4, 1.5)))
    """
    styles: dict[str, dict[str, Any]] = {}
    seen = Counter[tuple[str, str]]()
    others, every = 0, max(1, integer(points, "points", 0) // 10)
    names = (instance(each, str, "a label", "strings") for each in listed(labels))
    for k, label in enumerate(dict.fromkeys(names)):
        look, turn = _look(label), k
        if look is None:
            look = COLORS[others % len(COLORS)], MARKERS[others % len(MARKERS)]
            others += 1
        else:
            turn = seen[look]
            seen[look] += 1
        styles[label] = {
            "color": look[0],
            "marker": look[1],
            "linestyle": DASHES[turn % len(DASHES)],
            "markevery": (k * every // 4 % every, every),  # each line's a little apart
        }
    return styles


@functools.cache
def _look(label: str) -> tuple[str, str] | None:
    """Return colour and marker of the first format that a label names."""
    for word in _WORD.findall(label):
        for name in (word, *word.split("_")):
            fmt = _format(name)
            if fmt in _TABLE:
                return _TABLE[fmt]
            if fmt is not None:
                number = crc32(str(fmt).encode())
                return COLORS[number % len(COLORS)], MARKERS[number // 8 % len(MARKERS)]
    return None


def _format(name: str) -> Any:
    """Return the format of a name or None; for block and affine formats that of their elements."""
    if not re.search(r"\d", name):
        return None  # words such as "half" and "single"
    try:
        fmt = get_format(_STAND_FOR.get(name, name))
    except ValueError:
        fields = _FIELDS.fullmatch(name)
        return fields and get_format(f"float(e={fields[1]},p={int(fields[2]) + 1})")
    if isinstance(fmt, AffineFormat):
        return get_format(f"{'' if fmt.is_signed else 'u'}int{fmt.bits}")
    return fmt.element if isinstance(fmt, (BlockFormat, TileFormat, DynamicFormat)) else fmt
