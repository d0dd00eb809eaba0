"""What `emulate` does with each primitive of JAX, as the table of docs/explanation/emulation.md."""

from pathlib import Path

import precsim as ps
from precsim.transform.operation import RULES

PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "emulation.md"
BEGIN, END = "<!-- from the docstrings of the rules -->\n", "<!-- end -->\n"


def table() -> str:
    """Return a row per rule: the first line of its docstring, and its primitives."""
    ps.emulate(abs, "fp32")  # loads the rules
    by_rule: dict[str, list[str]] = {}
    for primitive, function in RULES.items():
        if function.__module__.startswith("precsim.transform.rules."):
            first_line = (function.__doc__ or "").partition("\n")[0]
            by_rule.setdefault(first_line, []).append(primitive)
    rows = [f"| {text} | {', '.join(map(_code, names))} |" for text, names in by_rule.items()]
    return "\n".join(["| what happens | primitives |", "|---|---|", *rows, ""])


def _code(name: str) -> str:
    return f"`{name}`"


def with_table(page: str) -> str:
    """Return the text of the page with the table of today."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text("utf-8")), "utf-8")
