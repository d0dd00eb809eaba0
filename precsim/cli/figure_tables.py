"""Tables of figures: which there are, how they agree with what is published."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from precsim.analysis.figures.check import GRADES
from precsim.analysis.figures.definition import Figure
from precsim.analysis.figures.run import Outcome


def listing(figures: Sequence[Figure]) -> Table:
    """Return the table of what there is: class, about how long it takes, what may be varied."""
    table = Table("figure", "shows", "class", title="Published figures")
    for heading in ("fast", "full"):
        table.add_column(f"seconds,\n{heading}", justify="right")
    table.add_column("needs")
    table.add_column("parameters")
    for figure in figures:
        times = [f"{seconds:g}" for seconds in figure.seconds] or ["", ""]
        needs = [figure.needs] if figure.needs else []
        needs += ["--data-dir for more numbers"] if figure.tables else []
        options = " ".join(parameter.option for parameter in figure.parameters.values())
        grade = f"{figure.grade} {GRADES[figure.grade]}"
        table.add_row(figure.name, figure.title, grade, *times, "; ".join(needs), options)
    return table


def summary(outcomes: Sequence[Outcome]) -> Table:
    """Return the table of what was run."""
    table = Table(title="Published figures, recomputed")
    for heading in ("figure", "shows", "source", "class"):
        table.add_column(heading)
    table.add_column("matched", justify="right")
    table.add_column("seconds", justify="right")
    for outcome in outcomes:
        good = len(outcome.checks) - len(outcome.mismatches)
        matched = f"{good}/{len(outcome.checks)}" if outcome.checks else "no numbers"
        matched = "own parameters" if outcome.parameters else matched
        colour = "red" if outcome.failed else "yellow" if outcome.mismatches else "green"
        table.add_row(
            outcome.name,
            outcome.title,
            outcome.citation,
            f"{outcome.grade} {GRADES[outcome.grade]}",
            Text(matched, colour),
            f"{outcome.seconds:.1f}{' (kept)' if outcome.reused else ''}",
        )
    return table


def mismatches(outcomes: Sequence[Outcome]) -> Table:
    """Return the table of the numbers that do not match."""
    table = Table("figure", "number", "published", "computed", "rule", "class")
    table.title = "Numbers that do not match"
    for outcome in outcomes:
        for check in outcome.mismatches:
            values = (str(check.published), repr(float(check.computed)))
            table.add_row(outcome.name, check.name, *values, check.rule, check.grade)
    return table
