"""What `emulate` does with each primitive of JAX, as the table of docs/explanation/emulation.md.

``python -m tests.primitive_table`` writes it into the page, from the docstrings of the rules.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FunctionType

import precsim as ps
from precsim.transform.operation import COMPLEX_RULES, RULES, Rule
from precsim.transform.treatment import How

PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "emulation.md"
BEGIN, END = "<!-- python -m tests.primitive_table -->\n", "<!-- end of the table -->\n"


def kinds(function: Rule) -> str:
    """Return the kinds that the source of a rule names, and that of what it calls in its file."""
    assert isinstance(function, FunctionType)
    called = (function.__globals__.get(name) for name in function.__code__.co_names)
    own = [f for f in called if inspect.isfunction(f) and f.__module__ == function.__module__]
    text = "".join(inspect.getsource(f) for f in (function, *own))
    named = dict.fromkeys(How[name] for name in re.findall(r"How\.(\w+)", text))
    computed = [how for how in named if how not in (How.AS_IS, How.EXEMPT)]
    if computed:
        return ", or ".join(computed)
    return How.EXEMPT if named and "evaluate" not in text else "inside"


def rows(rules: Mapping[str, Rule], suffix: str = "") -> Iterable[str]:
    """Yield a row per rule: kinds, the first line of its docstring, its primitives."""
    by_rule: dict[Rule, list[str]] = {}
    for primitive, function in rules.items():
        if function.__module__.startswith("precsim.transform.rules."):
            by_rule.setdefault(function, []).append(f"`{primitive}`")
    # Not in the order of registration: that is the order in which a process loads the rules.
    for function, names in sorted(by_rule.items(), key=lambda item: _place(item[0])):
        first_line = (function.__doc__ or "").partition("\n")[0]
        yield f"| {kinds(function)} | {first_line}{suffix} | {', '.join(names)} |"


def _place(function: Rule) -> tuple[str, int]:
    assert isinstance(function, FunctionType)
    return function.__module__, function.__code__.co_firstlineno


def table() -> str:
    """Return the table."""
    ps.emulate(abs, "fp32")  # loads the rules
    lines = ["| kind | what happens | primitives |", "|---|---|---|"]
    return "\n".join([*lines, *rows(RULES), *rows(COMPLEX_RULES, " (Complex numbers.)"), ""])


def with_table(page: str) -> str:
    """Return the text of a page with the table of today."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text("utf-8")), "utf-8")
