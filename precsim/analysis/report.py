"""Tables of training comparisons, for the terminal."""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE
from rich.table import Table

from precsim.analysis.comparison import PolicySummary

_COLUMNS = (
    ("policy", "policy"),
    ("test\nacc.\n%", "test_accuracy_percent"),
    ("loss\ngap", "loss_gap"),
    ("grad.\nunder-\nflow %", "gradient_underflow_percent"),
    ("over-\nflow,\nsat. %", "beyond_range_percent"),
    ("swal-\nlowed\n%", "swallowed_updates_percent"),
    ("first\ngrad.\nerror", "gradient_error"),
    ("weight\ndrift", "weight_drift"),
    ("skip-\nped", "skipped_steps"),
    ("back-\nend", "backend"),
    ("s", "seconds"),
)


def comparison_table(summaries: Sequence[PolicySummary]) -> Table:
    """Return one row per policy; what each column means is said in `PolicySummary`."""
    table = Table(
        title="What each policy lost, against fp32 on the same data order",
        box=SIMPLE,
        padding=0,
    )
    for index, (title, _) in enumerate(_COLUMNS):
        table.add_column(title, justify="left" if index == 0 else "right", no_wrap=True)
    for summary in summaries:
        table.add_row(*(_cell(summary, name) for _, name in _COLUMNS))
    return table


def _cell(summary: PolicySummary, name: str) -> str:
    if name == "seconds":
        return f"{summary.compile_seconds + summary.run_seconds:.1f}"
    value = getattr(summary, name)
    if isinstance(value, (str, int)):
        return str(value)
    if name == "test_accuracy_percent":
        return f"{value:.2f}"
    if name == "loss_gap":
        return f"{value:+.3f}"
    if name.endswith("_percent"):
        return _percent(value)
    return "0" if value == 0 else f"{value:.0e}"


def _percent(value: float) -> str:
    """Two decimals, or the power of ten of what is smaller; 0 means none at all."""
    return "0" if value == 0 else f"{value:.2f}" if value >= 0.01 else f"{value:.0e}"


def places_table(rates: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """Return where the losses happened: policy -> place -> rates, the nonzero ones.

    Parameters
    ----------
    rates : mapping
        For each policy what `event_rates` returns.

    Returns
    -------
    Table
        One row for each place with a rate of at least 0.01 %.
    """
    table = Table(title="Where: places with at least 0.01 % of range events", box=SIMPLE, padding=0)
    for title in ("policy", "place", "underflow\n%", "subnormal\n%", "overflow\n%", "saturated\n%"):
        table.add_column(title, justify="left" if title in ("policy", "place") else "right")
    for policy, places in rates.items():
        shown = {place: r for place, r in places.items() if max(r.values()) >= 0.01}
        for index, (place, r) in enumerate(shown.items()):
            cells = (_percent(r[k]) for k in ("underflow", "subnormal", "overflow", "saturation"))
            table.add_row(policy if index == 0 else "", place, *cells)
        if shown:
            table.add_section()
    return table
