"""What formats would do to the tensors of files: tables for the terminal, JSON, CSV."""

import csv
import io
import math
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from precsim.analysis.files.outcome import FormatOutcome, TensorOutcome, Total, nonzero, total
from precsim.analysis.files.walk import FileReport

_RANGE = (
    "Underflow: nonzero numbers that become 0; subnormal: results below the smallest normal "
    "number; both as a share of the nonzero numbers. Overflow: finite numbers that become infinity or NaN; "
    "saturated: numbers beyond the range that become its end; both as a share of all numbers."
)
_RATIO = (
    "SQNR: 10 log10 of the sum of squares over the sum of squared errors; 6 dB are a bit. It is "
    "inf without any error, -inf where a number became infinite, nan where one is NaN; that of all "
    "tensors leaves out tensors that hold infinities or NaN. Best scale: the power of two that "
    "loses least to the range; formats with scales of their own have none."
)
LEGEND = (_RANGE, _RATIO)
"""What the columns mean."""

_LONGEST = 200
_HEADINGS = (
    "under-\nflow\n%", "sub-\nnormal\n%", "over-\nflow\n%", "satu-\nrated\n%", "SQNR\ndB",
)  # fmt: skip
_SCALED = ("best\nscale", "dB with\nscale")

COUNTS = ("underflowed", "subnormal", "overflowed", "saturated")

COLUMNS = (
    "file", "tensor", "dtype", "shape", "elements", "nonzero", "nan", "infinite", "lowest",
    "highest", "smallest_nonzero", "format", *COUNTS, "sqnr_db", "best_scale_exponent",
    "best_sqnr_db",
)  # fmt: skip
"""Those of the CSV output."""


def shares(outcome: FormatOutcome, elements: int, nonzero: int) -> list[float]:
    """Return the percentages of the table: underflow, subnormal, overflow, saturated."""
    wholes = nonzero, nonzero, elements, elements
    counts = (getattr(outcome, name) for name in COUNTS)
    return [100 * count / max(whole, 1) for count, whole in zip(counts, wholes, strict=True)]


def percent(value: float) -> str:
    """Write a percentage: two decimals, or one digit of what is smaller; 0 means none at all."""
    return "0" if not value else f"{value:.2f}" if value >= 0.01 else f"{value:.0e}"


def decibels(value: float | None) -> str:
    """Write a ratio with one decimal."""
    return "" if value is None else f"{value:.1f}"


def scale(exponent: int | None) -> str:
    """Write a scale as a power of two."""
    return "" if exponent is None else f"2^{exponent}" if exponent else "1"


def shown(text: str) -> str:
    """Return what a file calls something, without control characters; of a long text its ends."""
    line = "".join(c if c.isprintable() else "?" for c in text)
    if len(line) <= _LONGEST:
        return line
    half = _LONGEST // 2
    return f"{line[:half]}... ({len(line)} characters) ...{line[-half:]}"


def about(tensor: TensorOutcome) -> list[str]:
    """Return what a tensor is: name, dtype and shape, range of its magnitudes."""
    extent = tensor.extent
    shape = "x".join(map(str, tensor.shape)) or "one number"
    parts = [shown(tensor.name), f"{tensor.label} {shape}"]
    if extent.amax:
        parts.append(f"{extent.smallest:.2g} to {extent.amax:.3g}")
    specials = (("NaN", extent.nan), ("infinite", sum(extent.infinite)))
    parts += [f"{count} {what}" for what, count in specials if count]
    return list(filter(None, parts))


def tables(report: FileReport) -> Iterator[Table]:
    """Yield tables that fit 60 columns and more: one per file, the totals, what suffers most."""
    for file, tensors in groupby(report.tensors, key=attrgetter("file")):
        table = _table(shown(file), (*_HEADINGS, *_SCALED), "tensor\n  format")
        for tensor in tensors:
            _add_tensor(table, tensor)
        yield table
    totals = {name: total(name, report.tensors) for name in report.formats}
    tried = {name: found for name, found in totals.items() if found.tensors}
    if not tried:
        return
    count = len(report.tensors)
    table = _table(f"All {count} tensors" if count > 1 else "All", _HEADINGS, "format")
    for name, found in tried.items():
        cells = map(percent, shares(found.outcome, found.elements, found.nonzero))
        table.add_row(name, *cells, decibels(found.outcome.sqnr))
    yield table
    if count > 1:
        yield _worst(tried)


def _add_tensor(table: Table, tensor: TensorOutcome) -> None:
    table.add_row("\n".join(about(tensor)))
    extent = tensor.extent
    for name, outcome in tensor.formats.items():
        table.add_row(
            f"  {name}",
            *map(percent, shares(outcome, extent.elements, nonzero(extent))),
            decibels(outcome.sqnr),
            scale(outcome.best_exponent),
            decibels(outcome.best_sqnr),
        )
    for name, reason in tensor.refusals.items():
        table.add_row(f"  {name}: {reason}")


def _worst(totals: dict[str, Total]) -> Table:
    table = Table(title="What suffers most", title_justify="left", box=SIMPLE, padding=0)
    table.add_column("format", overflow="fold")
    table.add_column("SQNR\ndB", justify="right", no_wrap=True)
    table.add_column("tensor", overflow="fold")
    for name, found in totals.items():
        if found.worst is not None:
            sqnr = found.worst.formats[name].sqnr
            table.add_row(name, decibels(sqnr), shown(found.worst.path))
    return table


def _table(title: str, headings: tuple[str, ...], first: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=0)
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def as_json(report: FileReport) -> dict[str, Any]:
    """Return everything as JSON: a number that JSON has not is "inf", "-inf" or "nan"."""
    totals = {name: total(name, report.tensors) for name in report.formats}
    return {
        "formats": list(report.formats),
        "tensors": [_tensor(tensor) for tensor in report.tensors],
        "totals": {
            name: {
                "tensors": found.tensors,
                "elements": found.elements,
                "nonzero": found.nonzero,
                **{count: getattr(found.outcome, count) for count in COUNTS},
                "sqnr_db": _number(found.outcome.sqnr),
                "worst_tensor": None if found.worst is None else found.worst.path,
            }
            for name, found in totals.items()
        },
        "skipped": [
            {
                "file": file,
                "tensor": item.name,
                "dtype": item.dtype,
                "shape": list(item.shape),
                "reason": item.reason,
            }
            for file, item in report.skipped
        ],
        "failures": dict(report.failures),
    }


def _tensor(tensor: TensorOutcome) -> dict[str, Any]:
    return {
        **{name: value for name, value in _facts(tensor).items() if name != "shape"},
        "shape": list(tensor.shape),
        "formats": {name: _outcome(outcome) for name, outcome in tensor.formats.items()},
        "refusals": dict(tensor.refusals),
    }


def _facts(tensor: TensorOutcome) -> dict[str, Any]:
    extent = tensor.extent
    return {
        "file": tensor.file,
        "tensor": tensor.name,
        "dtype": tensor.label,
        "shape": "x".join(map(str, tensor.shape)),
        "elements": extent.elements,
        "nonzero": nonzero(extent),
        "nan": extent.nan,
        "infinite": sum(extent.infinite),
        "lowest": extent.lowest,
        "highest": extent.highest,
        "smallest_nonzero": extent.smallest,
    }


def _outcome(outcome: FormatOutcome) -> dict[str, Any]:
    return {
        **{count: getattr(outcome, count) for count in COUNTS},
        "sqnr_db": _number(outcome.sqnr),
        "best_scale_exponent": outcome.best_exponent,
        "best_sqnr_db": _number(outcome.best_sqnr),
    }


def _number(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def as_csv(report: FileReport) -> str:
    """Return one line per tensor and format, as `pandas.read_csv` takes it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for tensor in report.tensors:
        for name, outcome in tensor.formats.items():
            writer.writerow({**_facts(tensor), "format": name, **_outcome(outcome)})
    return text.getvalue()
