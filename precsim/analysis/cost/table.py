"""Costs of several policies side by side, for the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from precsim.analysis.cost.cost import BYTES, Cost

_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
_HEADINGS = {
    "gradients": "gradi-\nents",
    "optimizer": "opti-\nmizer",
    "activations": "acti-\nvations",
    "operations": "opera-\ntions",
}
_OF_PROGRAMS = ("activations", "operations")
LEGEND = (
    "Bytes of a machine that stores each array in the format of the policy (1 kB is 1000 bytes). "
    "Weights: as products take them; masters: in the format of the policy's weights, where that is "
    "wider; activations: what the backward pass reads of the forward pass. Operations of a step: two "
    "for each multiply-add of a product, one for each other result."
)
"""What the columns mean."""


def amount(value: float, unit: str = "") -> str:
    """Return a number with three digits and a prefix: 1.75 G, 40 M, 0."""
    for prefix in _PREFIXES:
        shown = float(f"{value:.3g}")
        if shown < 1000 or prefix == _PREFIXES[-1]:
            break
        value /= 1000
    return f"{shown:g} {prefix}{unit}".rstrip() if shown else "0"


def cost_table(title: str, costs: Sequence[Cost]) -> Table:
    """Return a table with one row per policy; without the columns of which nothing is known."""
    has_program = any(cost.rows for cost in costs)
    names = [name for name in (*BYTES, "total", "operations") if name != "scales"]
    names = [name for name in names if has_program or name not in _OF_PROGRAMS]
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=0)
    table.add_column("policy", overflow="fold")
    for name in names:
        table.add_column(_HEADINGS.get(name, name), justify="right", no_wrap=True)
    for cost in costs:
        units = ("" if name == "operations" else "B" for name in names)
        cells = (amount(getattr(cost, n), unit) for n, unit in zip(names, units, strict=True))
        table.add_row(cost.policy, *cells)
    return table
