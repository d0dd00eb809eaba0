"""Reports as files: JSON that can be read again, CSV of the operations, TensorBoard's scalars."""

import csv
import io
import json
import math
from os import PathLike
from pathlib import Path
from typing import Any

from precsim.analysis.account.rows import EVENTS, OperationRow
from precsim.analysis.account.stated import Stated
from precsim.analysis.account.words import group_name
from precsim.formats.arguments import shown
from precsim.training.replay.files import write_whole

STATED = {
    "policy": str,
    "reference": str,
    "of": str,
    "nodes": int,
    "value": float,
    "reference_value": float,
    "aligned_value": float,
    "cuts": tuple[str, ...],
    "unending": tuple[str, ...],
}
"""What a report holds besides its rows and results, and of which type that is."""

_DERIVED = ("change", "remainder", "gross", "closes", "obstacles")
_INFINITE = ("nan", "inf", "-inf")


def json_of(report: Stated) -> str:
    """Return a report as JSON. Numbers that JSON lacks are "nan", "inf", "-inf"."""
    content = {name: getattr(report, name) for name in (*STATED, *_DERIVED)}
    content["rows"] = [row._asdict() for row in report.rows]
    return json.dumps(_plain(content), indent=1, allow_nan=False)


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return str(content)
    return content


def fields_of(text: str) -> dict[str, Any]:
    """Return what a report in JSON states, and its rows."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError, TypeError) as error:
        raise ValueError(f"text is no JSON: {' '.join(str(error).split())}") from None
    found = {name: _read(content, name, kind, "text") for name, kind in STATED.items()}
    rows = content.get("rows")
    if type(rows) is not list:
        raise ValueError(f"rows of text is {shown(rows)}; allowed is a list")
    return found | {"rows": tuple(_row(row, f"row {n} of text") for n, row in enumerate(rows))}


def _row(content: Any, where: str) -> OperationRow:
    kinds = OperationRow.__annotations__
    return OperationRow(**{name: _read(content, name, kind, where) for name, kind in kinds.items()})


def _read(content: Any, name: str, kind: Any, where: str) -> Any:
    """Return an entry of an object of JSON; refuse one that is missing or of another type."""
    if type(content) is not dict:
        raise ValueError(f"{where} is {shown(content)}; allowed is an object")
    if name not in content:
        raise ValueError(f"{where} has no {name!r}; a report has one")
    value = content[name]
    if kind is float:
        return _number(value, name, where)
    if kind in (str, bool, int):
        if type(value) is not kind:
            raise ValueError(f"{name} of {where} is {shown(value)}; allowed is {_KINDS[kind]}")
        return value
    if type(value) is not list:
        raise ValueError(f"{name} of {where} is {shown(value)}; allowed is a list")
    if kind == tuple[str, ...]:
        return tuple(_read({name: each}, name, str, where) for each in value)
    return tuple(_number(each, name, where) for each in value)


_KINDS = {str: "a string", bool: "true or false", int: "an integer"}


def _number(value: Any, name: str, where: str) -> float:
    if (type(value) in (int, float)) or (isinstance(value, str) and value in _INFINITE):
        try:
            return float(value)
        except OverflowError:
            pass
    raise ValueError(f"{name} of {where} is {shown(value)}; allowed are numbers")


def csv_of(report: Stated) -> str:
    """Return the operations as CSV: a line of names, then a line for each."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(OperationRow._fields)
    for row in report.rows:
        writer.writerow([_cell(value) for value in row])
    return file.getvalue()


def _cell(value: Any) -> str:
    return " ".join(map(repr, value)) if isinstance(value, tuple) else str(value)


def scalars_of(report: Stated) -> dict[str, float]:
    """Return the numbers of a report by the tags under which TensorBoard shows them."""
    found = {name: getattr(report, name) for name in ("value", "change", "remainder", "gross")}
    for group in report.by_scope():
        name = group_name(group, "scope")
        found[f"share/{name}"] = group.share
        if math.isfinite(group.sqnr):
            found[f"sqnr/{name}"] = group.sqnr
        for event in EVENTS:
            if count := getattr(group, event):
                found[f"{event}/{name}"] = float(count)
    return {f"precsim/{tag}": value for tag, value in found.items()}


def add_scalars(report: Stated, writer: Any, step: int) -> None:
    """Give the numbers of a report to a writer."""
    add = getattr(writer, "add_scalar", None) or getattr(writer, "scalar", None)
    if not callable(add):
        raise TypeError(
            f"writer is {shown(writer)}; allowed is what has add_scalar(tag, value, step), "
            "or scalar(tag, value, step)"
        )
    for tag, value in scalars_of(report).items():
        add(tag, value, step)


def written(text: str, path: str | Path | None, overwrite: bool) -> str:
    """Return a text, and write it to a file if one is named; an existing one only if told."""
    if path is None:
        return text
    if not isinstance(path, (str, PathLike)):
        raise TypeError(f"path is {shown(path)}; allowed are names of files, as str or Path")
    file = Path(path)
    if file.is_dir() or not file.name:
        raise IsADirectoryError(f"path is {file}, which is a folder; name a file")
    if file.exists() and not overwrite:
        raise FileExistsError(f"path is {file}, which exists; allowed with overwrite=True")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"path is {file}, whose folder does not exist")
    write_whole(file, text.encode("utf-8", "replace"))
    return text
