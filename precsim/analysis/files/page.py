"""What formats would do to the tensors of files, as one HTML page that needs nothing else."""

import math
from collections.abc import Iterable, Iterator
from html import escape

from precsim.analysis.files.outcome import FormatOutcome, TensorOutcome, nonzero, total
from precsim.analysis.files.report import (
    LEGEND,
    about,
    decibels,
    percent,
    scale,
    shares,
    shown,
)
from precsim.analysis.files.walk import FileReport
from precsim.formats import notebook

_STYLE = """
.precsim td,.precsim th{text-align:right}
.precsim th.text,.precsim td.text{text-align:left;overflow-wrap:anywhere}
.precsim td.text{min-width:9rem}
.precsim tr.tensor td{background:rgba(128,128,128,.12);font-weight:600}
.precsim td.ratio{color:#1b1f24}
@media print{.precsim td{print-color-adjust:exact;-webkit-print-color-adjust:exact}
main{font-size:9pt}}
"""
"""What the common style does not have."""
_TITLE = "What formats would do to these tensors"
_HEADINGS = ("underflow %", "subnormal %", "overflow %", "saturated %", "SQNR dB")
_SCALED = ("best scale", "dB with scale")


def page(report: FileReport) -> str:
    """Return the page: totals, a picture of all ratios, every tensor with every format."""
    lines = (f"{line}\n" for line in _lines(report))
    return notebook.page(_TITLE, lines, style=_STYLE)


def _lines(report: FileReport) -> Iterator[str]:
    yield f"<h1>{_TITLE}</h1>"
    yield from (notebook.paragraph(text, "soft") for text in LEGEND)
    yield from _totals(report)
    yield "<h2>SQNR (dB) of each tensor in each format</h2>"
    yield from _table(("tensor",), report.formats, _ratios(report))
    yield "<h2>Every tensor</h2>"
    rows = (row for tensor in report.tensors for row in _rows(tensor))
    yield from _table(("format",), (*_HEADINGS, *_SCALED), rows)
    if report.skipped:
        yield "<h2>Not analysed</h2>"
        skipped = (
            f"<tr>{_text(f'{file}:{item.name}')}{_text(item.dtype)}{_text(item.reason)}</tr>"
            for file, item in report.skipped
        )
        yield from _table(("tensor", "dtype", "because"), (), skipped)
    if report.failures:
        yield "<h2>Not read</h2>"
        faults = (f"<tr>{_text(k)}{_text(v)}</tr>" for k, v in report.failures.items())
        yield from _table(("file", "because"), (), faults)


def _totals(report: FileReport) -> Iterator[str]:
    yield f"<h2>All {len(report.tensors)} tensors</h2>"
    rows = []
    for name in report.formats:
        found = total(name, report.tensors)
        if found.tensors:
            worst = "" if found.worst is None else shown(found.worst.path)
            cells = _cells(found.outcome, found.elements, found.nonzero)
            rows.append(f"<tr>{_text(name)}{cells}{_text(worst)}</tr>")
    headings = "".join(f"<th>{escape(h)}</th>" for h in _HEADINGS)
    yield '<div class="wide"><table>\n<thead><tr><th class="text">format</th>'
    yield f'{headings}<th class="text">suffers most</th></tr></thead>\n<tbody>'
    yield from rows
    yield "</tbody></table></div>"


def _ratios(report: FileReport) -> Iterator[str]:
    """Yield the ratios of each tensor, on grounds from red (0 dB) over white to green."""
    has_files = len({tensor.file for tensor in report.tensors}) > 1
    for tensor in report.tensors:
        cells = (_ratio_cell(tensor.formats.get(name)) for name in report.formats)
        name = tensor.path if has_files or not tensor.name else tensor.name
        yield f"<tr>{_text(name)}{''.join(cells)}</tr>"


def _ratio_cell(outcome: FormatOutcome | None) -> str:
    if outcome is None:
        return "<td></td>"
    # Ratios are words too: colours only help to find them.
    part = 0.0 if math.isnan(outcome.sqnr) else min(max(outcome.sqnr, 0.0), 60.0) / 60.0
    hue, light = (8, 78 + 40 * part) if part < 0.5 else (135, 98 - 28 * (part - 0.5))
    return (
        f'<td class="ratio" style="background:hsl({hue} 70% {light:.0f}%)">'
        f"{escape(decibels(outcome.sqnr))}</td>"
    )


def _rows(tensor: TensorOutcome) -> Iterator[str]:
    columns, facts = 1 + len(_HEADINGS) + len(_SCALED), escape(", ".join(about(tensor)))
    yield f'<tr class="tensor"><td class="text" colspan="{columns}">{facts}</td></tr>'
    extent = tensor.extent
    for name, outcome in tensor.formats.items():
        cells = _cells(outcome, extent.elements, nonzero(extent))
        there = (scale(outcome.best_exponent), decibels(outcome.best_sqnr))
        yield f"<tr>{_text(name)}{cells}{''.join(f'<td>{escape(c)}</td>' for c in there)}</tr>"
    for name, reason in tensor.refusals.items():
        cell = f'<td class="text" colspan="{columns - 1}">{escape(reason)}</td>'
        yield f"<tr>{_text(name)}{cell}</tr>"


def _cells(outcome: FormatOutcome, elements: int, nonzero: int) -> str:
    cells = [*map(percent, shares(outcome, elements, nonzero)), decibels(outcome.sqnr)]
    return "".join(f"<td>{escape(cell)}</td>" for cell in cells)


def _text(text: str) -> str:
    return f'<td class="text">{escape(shown(text))}</td>'


def _table(texts: Iterable[str], numbers: Iterable[str], rows: Iterable[str]) -> Iterator[str]:
    head = "".join(f'<th class="text">{escape(h)}</th>' for h in texts)
    head += "".join(f"<th>{escape(h)}</th>" for h in numbers)
    yield f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>'
    yield from rows
    yield "</tbody></table></div>"
