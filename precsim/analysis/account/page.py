"""A report as one HTML page that needs nothing else: no network, no scripts, no other files."""

import base64
import io
import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from precsim import __version__
from precsim.analysis.account.drawing import along, bar
from precsim.analysis.account.rows import GroupRow, OperationRow, by_share, names_of
from precsim.analysis.account.stated import Stated
from precsim.analysis.account.tables import place
from precsim.analysis.account.words import (
    decibel,
    direction,
    events,
    factor,
    figures,
    group_name,
    groups,
    is_share,
    rough,
    share,
    title,
    verdict,
)
from precsim.formats import notebook
from precsim.formats.arguments import shown

_BARS = 30
"""Bars of a chart at most."""

_STYLE = """
.precsim{--more:#c2410c;--less:#0369a1}
@media (prefers-color-scheme:dark){.precsim{--more:#fb923c;--less:#60b5f0}}
@media print{.precsim{--more:#c2410c;--less:#0369a1}}
.precsim .verdict{font-weight:600}
.precsim dl{display:flex;flex-wrap:wrap;gap:.4em 2em;margin:.6em 0}
.precsim dt{opacity:.78;font-size:.85em}
.precsim dd{margin:0;font-size:1.12em;font-variant-numeric:tabular-nums}
.precsim ol{padding-left:1.5em;margin:.4em 0}.precsim li{margin:.3em 0;overflow-wrap:anywhere}
.precsim .bars{width:100%;table-layout:fixed}.precsim .bars td{overflow-wrap:anywhere}
.precsim .bars th:nth-child(1){width:34%}.precsim .bars th:nth-child(n+3){width:4.6em}
.precsim svg.bar{display:block;width:100%;height:1.1em}
.precsim svg.along{display:block;width:100%;height:190px}
.precsim .more{fill:var(--more)}.precsim .less{fill:var(--less)}
.precsim .axis,.precsim polyline{fill:none;stroke:currentColor;vector-effect:non-scaling-stroke}
.precsim .axis{stroke-width:1;stroke-opacity:.7}
.precsim polyline{stroke-width:1.5;stroke-linejoin:round}
.precsim .runs{display:flex}.precsim .runs span{box-sizing:border-box;overflow:hidden;
text-overflow:ellipsis;white-space:nowrap;font-size:.75em;opacity:.78;min-width:0;
border-left:1px solid rgba(128,128,128,.4);padding:2px 0 0 3px}
.precsim figure{margin:.6em 0;break-inside:avoid}
.precsim img{max-width:100%;height:auto;background:#fff}
.precsim .keep{break-inside:avoid}
@media print{.precsim .all table{font-size:6.8pt}
.precsim .all td,.precsim .all th{padding:.15em .3em}
.precsim .all td:nth-child(1),.precsim .all td:nth-child(3){overflow-wrap:anywhere}}
@page{margin:14mm}
"""
"""What the common style does not have."""


def page(report: Stated, pictures: Iterable[Any]) -> str:
    """Return the whole page."""
    parts = [
        _headline(report),
        _sentences(report, 5),
        _bars(report, "scope"),
        _bars(report, "line"),
        _bars(report, "primitive"),
        _depth(report),
        _ranges(report),
        *map(_picture, pictures),
        _operations(report),
        notebook.paragraph(f"Made by precsim {__version__}.", "soft"),
    ]
    return notebook.page(f"Rounding errors: {title(report)}", parts, style=_STYLE)


def cell(report: Stated) -> str:
    """Return the first part of the page, for the output of a cell."""
    parts = (_headline(report), _sentences(report, 3), _bars(report, "scope"))
    table = _table(by_share(report.rows)[:10], report)
    count = f"{min(10, len(report.rows))} of {len(report.rows)} operations"
    return notebook.fragment(*parts, table, notebook.paragraph(count, "soft"), style=_STYLE)


def _headline(report: Stated) -> str:
    said = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>"
        for name, value in figures(report).items()
    )
    closing = "".join(f'<p class="verdict">{_marked(line)}</p>' for line in verdict(report))
    return f"<h1>{escape(title(report))}</h1>{closing}<dl>{said}</dl>"


def _marked(sentence: str) -> str:
    """Return a sentence in HTML; what stands between backticks is code."""
    parts = re.split("`([^`]*)`", sentence)
    return "".join(f"<code>{escape(x)}</code>" if n % 2 else escape(x) for n, x in enumerate(parts))


def _sentences(report: Stated, k: int) -> str:
    items = "".join(f"<li>{_marked(sentence)}</li>" for sentence in report.top(k))
    return f"<section><h2>What loses most</h2><ol>{items}</ol></section>" if items else ""


def _unit(report: Stated) -> str:
    return "share, %" if is_share(report.change) else "share"


def _bars(report: Stated, by: str) -> str:
    """Return the shares of groups as bars, with the SQNR of their own roundings."""
    every = groups(report, by)
    if len(every) < 2:
        return ""
    some = every[:_BARS]
    largest = max((abs(g.share) for g in some if math.isfinite(g.share)), default=0)
    body = "".join(_bar_row(g, by, largest, report) for g in some)
    rest = f'<p class="soft">The first {_BARS} of {len(every)}.</p>' if len(every) > _BARS else ""
    return (
        f'<section class="keep"><h2>Shares by {by}</h2><table class="bars"><thead><tr>'
        f'<th>{by}</th><th></th><th class="n">{_unit(report)}</th><th class="n">SQNR, dB</th>'
        f"</tr></thead><tbody>{body}</tbody></table>{rest}</section>"
    )


def _bar_row(group: GroupRow, by: str, largest: float, report: Stated) -> str:
    part = direction(report.change) * group.share
    return (
        f"<tr><td>{escape(group_name(group, by))}</td><td>{bar(part, largest)}</td>"
        f'<td class="n">{share(group.share, report.change)}</td>'
        f'<td class="n">{decibel(group.sqnr)}</td></tr>'
    )


def _depth(report: Stated) -> str:
    if len(report.rows) < 2:
        return ""
    pairs = zip(report.rows, names_of(report.rows), strict=True)
    names = [f"{place(row)} {name}" for row, name in pairs]
    return (
        '<section class="keep"><h2>Shares along the program</h2>'
        '<p class="soft">A bar for each operation, first to last, up where it has the sign of the '
        "change; the line is their running sum, which ends at the change less the remainder."
        f"{' Below: scopes.' if any(row.scope for row in report.rows) else ''}</p>"
        f"{along(report.rows, names, direction(report.change))}</section>"
    )


def _ranges(report: Stated) -> str:
    """Return the operations whose results left the range of their format."""
    cells = [
        (place(row), name, row.format, events(row), str(row.elements * row.times))
        for row, name in zip(report.rows, names_of(report.rows), strict=True)
        if events(row)
    ]
    if not cells:
        return ""
    head = ("where", "operation", "format", "left the range", "of")
    return (
        "<section><h2>What left the range of its format</h2>"
        f"{notebook.table(head, cells, numeric=('of',))}</section>"
    )


def _operations(report: Stated) -> str:
    pairs = list(zip(report.rows, names_of(report.rows), strict=True))
    return (
        f'<section class="all"><h2>All operations</h2>{_table(pairs, report)}'
        '<p class="soft">In the order of the program. Own error, inherited error: root mean '
        "squares, relative. Factor: by how much the operation amplifies the relative error of its "
        "operands. SQNR: of its own rounding. Own rounding includes that of its operands to the "
        "format.</p>"
        '<p class="soft">Value and reference: the number asked about, in the emulated and in the '
        "exact run; of results of many numbers, their distance from the exact ones. Change: the "
        "first less the second. Remainder: what the shares leave of it. Gross: the sum of their "
        "magnitudes, larger than the change where they cancel.</p></section>"
    )


_HEAD = (
    *("where", "operation", "format", "runs", "numbers", "share", "own error", "ulp at most"),
    *("inherited error", "factor", "SQNR, dB", "left the range"),
)


def _table(rows: Sequence[tuple[OperationRow, str]], report: Stated) -> str:
    cells: list[tuple[str, ...]] = [
        (
            *(place(row), name, row.format, str(row.times), str(row.elements)),
            *(share(row.share, report.change), f"{row.local_error:.2g}", rough(row.max_ulps)),
            *(f"{row.inherited_error:.2g}", factor(row.condition), decibel(row.sqnr), events(row)),
        )
        for row, name in rows
    ]
    head = [_unit(report) if name == "share" else name for name in _HEAD]
    if not any(row[-1] for row in cells):
        head, cells = head[:-1], [row[:-1] for row in cells]
    return notebook.table(head, cells, numeric=head[3:11])


def _picture(figure: Any) -> str:
    """Return a figure of matplotlib as a picture inside the page."""
    if not callable(getattr(figure, "savefig", None)):
        raise TypeError(f"pictures has {shown(figure)}; allowed are matplotlib's Figures")
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    data = base64.b64encode(file.getvalue()).decode()
    name = escape(_caption(figure))
    caption = f"<figcaption class='soft'>{name}</figcaption>" if name else ""
    return f'<figure><img alt="{name}" src="data:image/svg+xml;base64,{data}">{caption}</figure>'


def _caption(figure: Any) -> str:
    """Return the title of a figure, or else what its axes show."""
    titles = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
    labels = [f"{a.get_ylabel()} over {a.get_xlabel()}" for a in figure.axes if a.get_xlabel()]
    return next((text for text in (*titles, *labels) if text), "")
