"""Formats as sets of numbers: how precise they are at each magnitude, where their values are."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from precsim.analysis.plots.checks import listed
from precsim.analysis.plots.curves import finish, panel
from precsim.analysis.plots.exponents import has_range
from precsim.analysis.plots.looks import line_styles
from precsim.formats.affine import AffineFormat
from precsim.formats.block import BlockFormat
from precsim.formats.dynamic import DynamicFormat
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.oracle import decode_exact
from precsim.formats.registry import AnyFormat, Format, get_format
from precsim.formats.tile import TileFormat

SMALL = 8
"""Bits of the largest format whose values are drawn one by one."""
_THICKEST, _THINNEST = 3.2, 1.2
_LONGEST = 16
"""Letters of a label of which the legend has several columns."""


def plot_precision(axes: Axes, formats: str | AnyFormat | Sequence[str | AnyFormat]) -> None:
    """Draw how many significant bits formats have at each magnitude.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    formats : str, Format, or sequence of them
        Formats of numbers; of a block or affine format the elements or integers.

    Returns
    -------
    None
        The axes hold what is drawn.

    Raises
    ------
    TypeError
        If `axes` are no Axes, or a format is neither a name nor a format.
    ValueError
        If a format is unknown, or has an unlimited exponent range.

    Notes
    -----
    The horizontal axis has the exponent e of numbers in [2**e, 2**(e+1)). A floating-point format
    has its precision p from the smallest to the largest normal value, and a bit less in each binade
    of the subnormals. Fixed point has a bit more in each binade. Lines of a wide range are thick,
    so that others are seen upon them.

    Examples
    --------
    >>> import precsim as ps
    >>> with ps.plots.figure() as axes:
    ...     plot_precision(axes[0], ["fp16", "bf16"])
    >>> axes[0].get_ylabel()
    'significant bits'
    """
    axes = panel(axes)
    curves = {name: _precision(fmt) for name, fmt in _numbers(formats).items()}
    styles = line_styles(curves, 2)
    widest = sorted(curves, key=lambda name: len(curves[name][0]), reverse=True)
    for name, (exponents, bits) in curves.items():
        rank = widest.index(name)  # the widest is the thickest, and below the others
        look = styles[name] | {"markevery": [0, len(exponents) - 1], "zorder": 2 + rank / 100}
        width = _THICKEST - (_THICKEST - _THINNEST) * rank / max(len(widest) - 1, 1)
        axes.plot(exponents, bits, linewidth=width, label=name, **look)
    axes.set_xlabel("exponent $e$ of numbers in $[2^e, 2^{e+1})$")
    axes.set_ylabel("significant bits")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.04)
    # Long labels leave no room for two columns beside a panel of such labels.
    finish(axes, **({"ncols": 1} if max(map(len, curves)) > _LONGEST else {}))


def plot_values(axes: Axes, formats: str | AnyFormat | Sequence[str | AnyFormat]) -> None:
    """Draw the values of small formats from zero on, a line of ticks for each.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    formats : str, Format, or sequence of them
        Formats of at most 8 bits; of a block or affine format the elements or integers.

    Returns
    -------
    None
        The axes hold what is drawn.

    Raises
    ------
    TypeError
        If `axes` are no Axes, or a format is neither a name nor a format.
    ValueError
        If a format is unknown, or has more than 8 bits.

    Notes
    -----
    The scale is linear and ends at the least of the formats' largest values, but not before each
    has its second value. The largest value stands at the right, with an arrow at lines that go on.

    Examples
    --------
    >>> import precsim as ps
    >>> with ps.plots.figure() as axes:
    ...     plot_values(axes[0], ["e2m1", "e3m2"])
    >>> bool(axes[0].get_xlim()[1] < 7)
    True
    """
    axes = panel(axes)
    values = {}
    for name, fmt in _numbers(formats).items():
        if not is_small(fmt):
            raise ValueError(f"format {name} has {fmt.width} bits; allowed are up to {SMALL}")
        codes = range(1 << (fmt.width or 0))
        found = np.unique([decode_exact(code, fmt) for code in codes])
        values[name] = found[np.isfinite(found) & (found >= 0)]
    seen_of_all = max(found[:2][-1] for found in values.values())
    end = max(seen_of_all, min(found[-1] for found in values.values()))
    styles = line_styles(values)
    for row, (name, found) in enumerate(reversed(values.items())):
        seen = found[found <= end]
        look = {"color": styles[name]["color"], "markersize": 11, "markeredgewidth": 0.9}
        axes.plot([0, end], [row, row], color="0.8", linewidth=0.6, zorder=1)
        axes.plot(seen, np.full(seen.shape, row), "|", **look)
        goes_on = rf"$\rightarrow$ {found[-1]:g}" if found[-1] > end else f"{found[-1]:g}"
        axes.text(1.03 * end, row, goes_on, va="center", size=7.5)
    axes.set_yticks(range(len(values)), list(reversed(values)))
    axes.set_ylim(-0.6, len(values) - 0.4)
    axes.set_xlim(-0.02 * end, 1.02 * end)
    axes.set_xlabel("values from 0 on; at the right the largest")
    axes.tick_params(axis="y", length=0)


def is_small(fmt: AnyFormat) -> bool:
    """Return whether the values of a format are few enough to be drawn one by one."""
    width = drawn_as(fmt)[1].width
    return width is not None and width <= SMALL


def drawn_as(fmt: AnyFormat) -> tuple[str, Format]:
    """Return what is drawn of a format, the elements or integers of one with scales; its label.

    Examples
    --------
    >>> drawn_as(get_format("mxfp4"))[0], drawn_as(get_format("int8"))[1].max_value
    ('mxfp4, elements', 127.0)
    """
    match fmt:
        case AffineFormat():
            size = fmt.bits - fmt.is_signed
            numbers = FixedPointFormat(
                name=str(fmt), integer_bits=size, fraction_bits=0, is_signed=fmt.is_signed
            )
            return f"{fmt}, integers", numbers
        case BlockFormat() | TileFormat():
            return f"{fmt}, elements", fmt.element
        case DynamicFormat():
            raise ValueError(f"format is {fmt}, a table; allowed are formats of numbers to draw")
        case _:
            return str(fmt), fmt


def _numbers(formats: str | AnyFormat | Sequence[str | AnyFormat]) -> dict[str, Format]:
    """Map the name of each format to the format of its numbers."""
    found: dict[str, Format] = {}
    for fmt in map(get_format, listed(formats)):
        name, numbers = drawn_as(fmt)
        if not has_range(numbers):
            raise ValueError(
                f"format {fmt} has an unlimited range; allowed are formats with bounds"
            )
        found[name] = numbers
    return found


def _precision(fmt: Format) -> tuple[np.ndarray, np.ndarray]:
    """Return exponents of binades, and the significant bits of the values there."""
    if isinstance(fmt, FixedPointFormat):
        exponents = np.arange(-fmt.fraction_bits, fmt.integer_bits)
        return exponents, exponents + fmt.fraction_bits + 1
    first = fmt.emin - (fmt.precision - 1 if fmt.has_subnormals else 0)
    exponents = np.arange(first, fmt.emax + 1)
    return exponents, np.minimum(exponents - (fmt.emin - fmt.precision), fmt.precision)
