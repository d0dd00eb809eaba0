"""Scores as tables: for the terminal, for the documentation, for programs."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from conformance.score import Score

BEGIN, END = "<!-- conformance: begin -->", "<!-- conformance: end -->"
"""The comments in a Markdown file between which the tables go."""


def table(scores: Sequence[Score]) -> Table:
    """Return the table for the terminal. Whatever has no wrong result shares a row."""
    made = Table(title="Conformance: results that are not the exact ones")
    for heading in ("library", "input", "operation", "format", "overflow", "mode"):
        made.add_column(heading)
    for heading in ("cases", "wrong", "sign of 0"):
        made.add_column(heading, justify="right")
    for group in _grouped(scores, "operation", "format"):
        task = group[0].task
        row = (group[0].library, group[0].inputs, task.operation, task.format)
        good = [score for score in group if score.passed]
        if good:
            rules, modes = _listed(good, "rule"), _listed(good, "mode")
            made.add_row(*row, rules, modes, str(_sum(good, "cases")), "[green]0[/]", "0")
        for score in group:
            if not score.passed:
                numbers = (str(score.cases), f"[red]{score.wrong}[/]", str(score.zero_signs))
                made.add_row(*row, score.task.rule, score.task.mode, *numbers)
    return made


def first_cases(scores: Iterable[Score]) -> list[str]:
    """Return a line for each row of the table with wrong results: the row and the first result."""
    return [
        f"{s.library} {s.version}, {s.inputs}, {s.task.operation} {s.task.format} {s.task.rule} "
        f"{s.task.mode}: {s.first_wrong}"
        for s in scores
        if not s.passed
    ]


def markdown(scores: Sequence[Score], skipped: Sequence[str]) -> str:
    """Return two tables for the documentation: libraries, and a wrong case of each per format."""
    lines = _row(
        "library", "version", "input", "modes", "formats", "cases", "wrong", "sign of 0 only"
    )
    lines += _row(*["---"] * 5, *["--:"] * 3)
    for group in _grouped(scores):
        first = group[0]
        words = (f"`{first.library}`", first.version, first.inputs, _modes(group))
        formats = str(len({score.task.format for score in group}))
        numbers = (f"{_sum(group, name):,}" for name in ("cases", "wrong", "zero_signs"))
        lines += _row(*words, formats, *numbers)
    lines += [
        "",
        "A wrong case of each library in each format, in the first input type that has one:",
        "",
    ]
    lines += _row("library", "input", "format", "wrong", "of", "in modes", "first wrong case")
    lines += _row(*["---"] * 3, "--:", "--:", "---", "---")
    shown = set()
    for group in _grouped(scores, "format"):
        first = group[0]
        wrong = [s for s in group if s.wrong] or [s for s in group if not s.passed]
        if wrong and (first.library, first.task.format) not in shown:
            shown.add((first.library, first.task.format))
            task = wrong[0].task
            case = f"{task.operation} {task.mode}, overflow {task.rule}: {wrong[0].first_wrong}"
            counts = (f"{_sum(group, name):,}" for name in ("wrong", "cases"))
            lines += _row(
                f"`{first.library}`", first.inputs, task.format, *counts, _modes(wrong), case
            )
    if skipped:
        lines += ["", f"Not installed, so not run: {', '.join(skipped)}."]
    return "\n".join(lines)


def _row(*cells: str) -> list[str]:
    return [f"| {' | '.join(cells)} |"]


def _modes(scores: Sequence[Score]) -> str:
    """Return the modes, those of stochastic rounding as one."""
    return " ".join(dict.fromkeys(score.task.mode.partition(":")[0] for score in scores))


def around(path: Path) -> tuple[str, str]:
    """Return what stands around the two comments of a Markdown file; nothing if it is new."""
    if not path.exists():
        return "", "\n"
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise ValueError(f"{path} is not UTF-8: {problem.reason}") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} has no lines {BEGIN!r} and {END!r}")
    return before, after


def insert(path: Path, text: str) -> None:
    """Put text between the two comments."""
    before, after = around(path)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def as_json(scores: Iterable[Score], skipped: Sequence[str]) -> str:
    """Return everything, for programs."""
    return json.dumps({"scores": [asdict(score) for score in scores], "skipped": skipped}, indent=1)


def _grouped(scores: Iterable[Score], *names: str) -> list[list[Score]]:
    """Group scores of one library and type of input, and equal in these fields of the task."""
    groups: dict[tuple[str, ...], list[Score]] = {}
    for score in scores:
        more = [getattr(score.task, name) for name in names]
        groups.setdefault((score.library, score.inputs, *more), []).append(score)
    return list(groups.values())


def _listed(scores: Sequence[Score], name: str) -> str:
    """Return what a field of the tasks says, each once."""
    return " ".join(dict.fromkeys(getattr(score.task, name) for score in scores))


def _sum(scores: Sequence[Score], name: str) -> int:
    return sum(getattr(score, name) for score in scores)
