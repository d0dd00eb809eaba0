"""Tables of figures: which there are, how they agree with what is published."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from precsim.analysis.figures.check import GRADES
from precsim.analysis.figures.definition import Figure
from precsim.analysis.figures.run import Outcome
from precsim.cli.output import visible

CLASSES = ", ".join(f"{grade} {word}" for grade, word in GRADES.items())
"""The classes in words."""


def listing(figures: Sequence[Figure]) -> Table:
    """Return the table of what there is: class, about how long it takes, what may be varied."""
    table = _table("Published figures", "shows", "class")
    for heading in ("fast", "full"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("options")
    if has_needs := any(figure.needs for figure in figures):
        table.add_column("needs")
    for figure in figures:
        times = [f"{max(1, seconds):.0f} s" for seconds in figure.seconds]
        times += ["?"] * (2 - len(times))
        options = [parameter.option for parameter in figure.parameters.values()]
        options += ["--data-dir"] if figure.tables else []
        needs = [figure.needs] if has_needs else []
        title, *needs = map(visible, (figure.title, *needs))
        table.add_row(figure.name, title, figure.grade, *times, " ".join(options), *needs)
    return table


def summary(outcomes: Sequence[Outcome]) -> Table:
    """Return the table of what was run."""
    table = _table("Published figures, recomputed", "shows", "source")
    table.add_column("class", no_wrap=True)
    table.add_column("matched", justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    for outcome in outcomes:
        good = len(outcome.checks) - len(outcome.mismatches)
        matched = f"{good}/{len(outcome.checks)}" if outcome.checks else "no numbers"
        matched = "own parameters" if outcome.parameters else matched
        kept = f" (kept{'' if outcome.fast else ', full'})" if outcome.reused else ""
        colour = "red" if outcome.failed else "yellow" if outcome.mismatches else "green"
        table.add_row(
            outcome.name,
            visible(outcome.title),
            visible(outcome.citation),
            f"{outcome.grade} {GRADES[outcome.grade]}",
            Text(matched, colour),
            f"{outcome.seconds:.1f}{kept}",
        )
    return table


def mismatches(outcomes: Sequence[Outcome]) -> Table:
    """Return the table of the numbers that do not match."""
    headings = ("number", "published", "computed", "rule", "class")
    table = _table("Numbers that do not match", *headings)
    for outcome in outcomes:
        for check in outcome.mismatches:
            values = (str(check.published), repr(float(check.computed)))
            table.add_row(outcome.name, visible(check.name), *values, check.rule, check.grade)
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE)
    table.add_column("figure", no_wrap=True)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
