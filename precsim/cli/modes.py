"""`precsim show --mode all`: every rounding mode side by side."""

from collections.abc import Sequence

from precsim.cli.output import Row, columns, print_rows, print_words
from precsim.cli.scaled import ShownScaled
from precsim.cli.shown import Shown, neighbours
from precsim.formats.arguments import not_allowed
from precsim.formats.fields import shortened
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec

EVERY = "all"
"""The word for every mode."""
MEANINGS = {
    RoundingMode.TIES_TO_EVEN: "nearest, ties to even",
    RoundingMode.TIES_TO_AWAY: "nearest, ties away from zero",
    RoundingMode.TIES_TO_ZERO: "nearest, ties to zero",
    RoundingMode.TIES_TO_ODD: "nearest, ties to odd",
    RoundingMode.TIES_TO_POSITIVE: "nearest, ties up",
    RoundingMode.TIES_TO_NEGATIVE: "nearest, ties down",
    RoundingMode.TOWARD_ZERO: "toward zero",
    RoundingMode.AWAY_FROM_ZERO: "away from zero",
    RoundingMode.TOWARD_POSITIVE: "up",
    RoundingMode.TOWARD_NEGATIVE: "down",
    RoundingMode.TO_ODD: "to odd",
    RoundingMode.STOCHASTIC: "stochastic",
}
"""Mode -> what it does, in words."""

_LABEL, _GAP = 6, "   "


def specs_of(texts: Sequence[str], mode: str | None) -> list[RoundingSpec]:
    """Return the specs of some texts; each in every mode if that is asked for.

    Parameters
    ----------
    texts : sequence of str
        ``FORMAT[:MODE][:OVERFLOW][:SUBNORMALS]``.
    mode : str, optional
        A mode, or "all".

    Returns
    -------
    list of RoundingSpec
        One of each text, or all modes of the first, then of the next.

    Raises
    ------
    ValueError
        If there is no such mode, or a text names another one.

    Examples
    --------
    >>> [str(spec) for spec in specs_of(["fp16", "e4m3:saturate"], "rtz")]
    ['fp16:rtz', 'e4m3:rtz:saturate']
    >>> len(specs_of(["fp16"], "all"))
    12
    """
    if mode is None:
        return [RoundingSpec.parse(text) for text in texts]
    if mode != EVERY and mode not in list(RoundingMode):
        raise not_allowed("--mode", mode, [*RoundingMode, EVERY])
    modes = list(RoundingMode) if mode == EVERY else [mode]
    try:
        return [
            RoundingSpec.parse_with(text, mode=each, overflow=None)
            for text in texts
            for each in modes
        ]
    except ValueError as error:  # says a mode of `modes`; the option says `mode`
        _, mark, rest = str(error).partition(", but spec ")
        if not mark:
            raise
        raise ValueError(f"--mode is {mode!r}, but spec {rest}") from error


def print_modes(shown: Sequence[Shown | ShownScaled]) -> None:
    """Print a table of what a number becomes in each mode, one table for each format."""
    has_legend = False
    for first in range(0, len(shown), len(RoundingMode)):
        group = shown[first : first + len(RoundingMode)]
        head = group[0]  # the first mode is the default one, which the name leaves out
        print()
        print_words(f"{head.spec}: {head.size}", first="1")
        if isinstance(head, Shown):
            print_rows([neighbours(head)])
        cells = [_cells(each) for each in group]
        meant = [(*row, MEANINGS[mode]) for mode, row in zip(RoundingMode, cells, strict=True)]
        is_meant = _width(meant) <= columns()
        has_legend |= not is_meant
        print_rows(_table(meant if is_meant else cells), label=_LABEL)
    if has_legend:
        print()
        print_words("; ".join(f"{mode}: {words}" for mode, words in MEANINGS.items()))


def _cells(shown: Shown | ShownScaled) -> tuple[str, ...]:
    """Return value, error and bits."""
    error = "exact" if shown.is_exact else "not finite"
    if isinstance(shown, ShownScaled):
        return shortened(shown.value), f"{shown.error[-1]} relative" if shown.error else error
    bits = " ".join(field.bits for field in shown.fields)
    return shortened(shown.value), f"{shown.error[-1]} ulp" if shown.error else error, bits


def _width(cells: Sequence[Sequence[str]]) -> int:
    """Return the width of a table with its labels."""
    widths = (max(map(len, column)) for column in zip(*cells, strict=True))
    return 2 + _LABEL + sum(widths) + len(_GAP) * (len(cells[0]) - 1)


def _table(cells: Sequence[Sequence[str]]) -> list[Row]:
    """Return a row for each mode; where the lines have no room, the bits on a row of their own."""
    fits = _width(cells) <= columns()
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows: list[Row] = []
    for mode, row in zip(RoundingMode, cells, strict=True):
        padded = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        rows.append((str(mode), _GAP.join(padded if fits else row[:2]).rstrip()))
        rows += [] if fits else [("", cell) for cell in row[2:]]
    return rows
