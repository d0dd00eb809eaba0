"""Tables made while the pages are built: formats, policies, the gallery, popular claims.

A page has the line ``% table: formats`` where the table goes.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import precsim as ps
from precsim.cli import format_rows

_MARK = re.compile(r"^% table: (\w+)$", re.MULTILINE)
_TEXTS = ("aliases", "source")
SHOWN_NUMBERS = 3
"""Of each claim, those that the page shows."""
NOT_RECORDED = "no number is recorded here; the command computes them"


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; a `|` inside a cell is escaped.

    Examples
    --------
    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    names = list(columns)
    lines = [names, ["---"] * len(names), *([cell.replace("|", r"\|") for cell in r] for r in rows)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return text.replace("| --- |", "|---|").replace(" --- |", "---|")


def _kinds() -> dict[str, tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Return columns and rows of each kind of format."""
    return {
        kind: (
            format_rows.COLUMNS[kind],
            [format_rows.row_of(ps.get_format(name)) for name in ps.list_formats(kind=kind)],
        )
        for kind in format_rows.KINDS
    }


def formats_table(kind: str) -> str:
    """Return the facts of all formats of a kind, and what the columns mean."""
    columns, rows = _kinds()[kind]
    facts = [i for i, column in enumerate(columns) if column not in _TEXTS]
    cells = [[f"`{row[0]}`", *(row[i] for i in facts[1:])] for row in rows]
    note = re.sub(
        r"(?<= )(\S*\{\S+|\S*\[\S+|\w*\([ew]=\S+\)|mxfp4_rceil|u?q\w+\.\w)",
        r"`\1`",
        format_rows.NOTES[kind],
    )
    return f"{table([columns[i] for i in facts], cells)}\n\n{note}"


def sources_table() -> str:
    """Return the further names of all formats, and the document that defines each."""
    rows = []
    for columns, cells in _kinds().values():
        for row in cells:
            named = dict(zip(columns, row, strict=True))
            aliases = [f"`{name}`" for name in named.get("aliases", "").split(", ") if name]
            rows.append([f"`{row[0]}`", ", ".join(aliases), named["source"]])
    return table(["format", "also named", "source"], rows)


def policies_table() -> str:
    """Return what each preset of a policy rounds where."""
    columns = {
        "weights": "p",
        "forward": "fwd",
        "gradient of the input": "dgrad",
        "gradient of the weights": "wgrad",
        "between products": "e",
        "update": "update",
        "loss scale": "scale",
        "tensor scales": "tensor",
    }
    rows = []
    for name in ps.list_policies():
        settings = dict(part.split("=", 1) for part in _settings(str(ps.Policy.parse(name))))
        rows.append([f"`{name}`", *(f"`{settings[key]}`" for key in columns.values())])
    return table(["policy", *columns], rows)


def _settings(text: str) -> list[str]:
    """Split a policy at the commas outside its brackets."""
    return re.split(r",(?![^\[]*\])", text)


def gallery(folder: Path) -> str:
    """Return a card for each page of the gallery: its picture, and its title as a link."""
    cards = []
    for page in sorted(folder.glob("g*.md")):
        text = page.read_text(encoding="utf-8")
        title = text.partition("\n")[0].removeprefix("# ")
        described = re.search(r"^!\[(.*?)\]\((.*?)\)", text, re.MULTILINE | re.DOTALL)
        assert described is not None, f"{page.name} has no picture"
        alt, picture = " ".join(described[1].split()), described[2]
        cards.append(
            f":::{{grid-item-card}} {title}\n:link: {page.stem}\n:link-type: doc\n"
            f":img-top: {picture}\n:img-alt: {alt}\n:::"
        )
    return "::::{grid} 1 2 2 3\n:gutter: 3\n\n" + "\n\n".join(cards) + "\n::::"


def claims(record: Path) -> str:
    """Return the settled claims of runs of ``precsim claims --json``, a table per section."""
    runs = json.loads(record.read_text(encoding="utf-8"))
    rows: dict[str, list[list[str]]] = {}
    for claim in sorted((c for run in runs for c in run["claims"]), key=lambda c: int(c["row"])):
        numbers = "; ".join(
            f"{n['name']}: {n['written']}" for n in claim["numbers"][:SHOWN_NUMBERS]
        )
        verdict = claim["verdict"].capitalize() + ("" if numbers else ", if as expected")
        numbers = numbers or NOT_RECORDED
        said = f"{claim['says']} **{verdict}.** {claim['truth']}"
        row = [str(claim["row"]), said, f"{claim['kind']}: {numbers}", f"`{claim['command']}`"]
        rows.setdefault(claim["section"], []).append(row)
    columns = ["row", "claim, **verdict**, what is true", "numbers", "command"]
    tables = [f"### {title}\n\n{table(columns, cells)}" for title, cells in rows.items()]
    return "\n\n".join([*tables, *map(_run_of_claims, runs)])


def _run_of_claims(run: dict[str, Any]) -> str:
    """Return a sentence that says which rows a run recorded, and where."""
    numbers = sorted(int(claim["row"]) for claim in run["claims"] if claim["numbers"])
    breaks = [k for k, n in enumerate(numbers) if k == 0 or n != numbers[k - 1] + 1]
    parts = zip(breaks, [*breaks[1:], len(numbers)], strict=True)
    ranges = ", ".join(
        f"{numbers[i]}" + (f" to {numbers[j - 1]}" if j - i > 1 else "") for i, j in parts
    )
    where, seeds = run["where"], "all seeds" if run["full"] else "the fast run's seeds"
    return (
        f"Recorded with {seeds}, {where['date']}, {where['device']} ({where['processor']}), "
        f"JAX {where['jax']}, NumPy {where['numpy']}: rows {ranges}."
    )


def made(name: str, docs: Path) -> str:
    """Return a table by its name."""
    kind = name.removesuffix("_formats")
    if kind in format_rows.KINDS:
        return formats_table(kind)
    if name == "claims":
        return claims(docs.parent / "experiments" / "claims" / "recorded.json")
    if name == "gallery":
        return gallery(docs / "gallery")
    return {"format_sources": sources_table, "policies": policies_table}[name]()


def fill(text: str, docs: Path) -> str:
    """Return a page with its tables; a name that is not known is an error.

    Parameters
    ----------
    text : str
        Markdown.
    docs : Path
        The folder of the pages.

    Returns
    -------
    str
        Markdown.

    Examples
    --------
    >>> "fp16" in fill("% table: float_formats", Path())
    True
    """
    return _MARK.sub(lambda mark: made(mark[1], docs), text)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""

    def read_source(app: Any, name: str, source: list[str]) -> None:
        source[0] = fill(source[0], Path(app.srcdir))

    app.connect("source-read", read_source)
    return {"parallel_read_safe": True}
