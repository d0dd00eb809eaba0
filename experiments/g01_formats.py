"""Tables of 8-, 6- and 4-bit formats, enumerated from their codes, and the wobbling precision.

P. Micikevicius et al., *FP8 Formats for Deep Learning*, arXiv 2209.05433, 2022, Table 1; *OCP 8-bit
Floating Point Specification (OFP8)* 1.0, 2023, Tables 1 and 2; *OCP Microscaling Formats (MX)* 1.0,
2023; N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd edition, SIAM, 2002, Fig.
2.1. Nothing here asks a format for its properties: every entry follows from the values of all bit
patterns, and from roundings of numbers beside the largest value.
"""

from typing import Any

import numpy as np

import precsim as ps
from experiments.check import Check, Grade, Results

TITLE = "Formats of 4 to 16 bits: tables from all codes; spacing between neighbours"
CITATION = (
    "Micikevicius et al. 2022, Table 1; OCP OFP8 1.0, Tables 1-2; OCP MX 1.0; Higham 2002, Fig. 2.1"
)
CLASS: Grade = "A"
PANELS = 2
SECONDS = (0.1, 0.1)

ENTRIES = (
    "bias",
    "largest value",
    "smallest normal",
    "largest subnormal",
    "smallest subnormal",
    "finite codes",
    "NaN codes",
    "infinite codes",
    "values in (0, 1)",
    "values above 1",
    "sum of positive values",
    "code of largest",
    "binades",
)
_X = None  # not in the published tables
_TABLES: dict[str, tuple[float | None, ...]] = {  # in the order of ENTRIES
    "e4m3": (7, 448, 2**-6, 7 / 8 * 2**-6, 2**-9, 254, 2, 0, 55, 70, 5407.875, 0b1111110, 18),
    "e5m2": (15, 57344, 2**-14, 3 / 4 * 2**-14, 2**-16, 248, 6, 2, 59, 63, _X, 0b1111011, 32),
    "e2m3": (1, 7.5, 1, 0.875, 0.125, 64, 0, 0, 7, 23, 84, _X, _X),
    "e3m2": (3, 28, 0.25, 0.1875, 0.0625, 64, 0, 0, 11, 19, 175, _X, _X),
    "e2m1": (1, 6, 1, 0.5, 0.5, 16, 0, 0, 1, 5, 18, _X, _X),
    "e8m0": (127, 2.0**127, 2.0**-127, _X, _X, 255, 1, 0, 127, 127, _X, _X, _X),
    "fp16": (_X, 65504, 2**-14, _X, 2**-24, *8 * (_X,)),
    "bf16": (_X, 255 / 128 * 2.0**127, 2.0**-126, _X, 2.0**-133, *8 * (_X,)),
}
_SUM_E5M2 = 360447.9997558594  # printed with 16 digits
_CASTS = {  # code of the result; 464 and 61440 lie halfway beyond the largest value
    ("e4m3", 464.0): 0b1111110,  # 448
    ("e4m3", 464.001): 0b1111111,  # NaN
    ("e5m2", 61439.99): 0b1111011,  # 57344
    ("e5m2", 61440.0): 0b1111100,  # infinity
}
PUBLISHED: dict[str, Any] = {
    "read in": "the tables of the documents above, in several copies; counts and sums of values: enumerations "
    "with ml_dtypes, independent of precsim. MX INT8: largest value and step.",
    **_TABLES,
    "mxint8": {"largest value": 127 / 64, "smallest positive": 1 / 64},
    **{f"{x!r} to {name}, code": code for (name, x), code in _CASTS.items()},
    "spacing / x": "between 2**-p and 2**(1 - p) for p significant bits, the larger at powers of two",
}
SPECS = {"e4m3": "e4m3", "e5m2": "e5m2"}
MX_INT8 = "q1.6"  # elements of mxint8
SPACED = {"e5m2": 3, "e4m3": 4, "bf16": 8, "fp16": 11}  # precision p, as published
_NOT_DRAWN = ("e8m0", "fp16", "bf16")
_DRAWN = "values of "
_SPACING = "spacing / x, "
GRID = np.linspace(1, 16, 15 * 256 + 1)


def values(name: str) -> np.ndarray:
    """Return the value of every code, in float64."""
    width = ps.get_format(name).width
    if not isinstance(ps.get_format(name), ps.FloatFormat) or width is None or width > 16:
        raise ValueError(f"formats has {name!r}; allowed are floating formats of at most 16 bits")
    return np.asarray(ps.decode(np.arange(1 << width), name), np.float64)


def describe(name: str) -> list[float]:
    """Return `ENTRIES` of a format, from the values of its codes alone (nan: none such)."""
    every = values(name)
    half = len(every) // 2 if (every < 0).any() else len(every)  # codes with sign bit 0
    magnitudes = every[:half]
    finite = magnitudes[np.isfinite(magnitudes)]
    ones = np.flatnonzero((finite >= 1) & (finite < 2))  # codes of one binade
    field = np.arange(finite.size) // ones.size  # exponent fields
    is_normal = (field > 0) | (finite[0] > 0)
    subnormal = finite[~is_normal & (finite > 0)]
    return [
        field[ones[0]],
        finite.max(),
        finite[is_normal].min(),
        *((subnormal.max(), subnormal.min()) if subnormal.size else (np.nan, np.nan)),
        np.isfinite(every).sum(),
        np.isnan(every).sum(),
        np.isinf(every).sum(),
        ((finite > 0) & (finite < 1)).sum(),
        (finite > 1).sum(),
        finite.sum(),
        finite.argmax(),
        np.floor(np.log2(finite.max())) - np.log2(finite[finite > 0].min()) + 1,
    ]


def compute(
    fast: bool,
    *,
    formats: tuple[str, ...] = tuple(_TABLES),
    spaced: tuple[str, ...] = tuple(SPACED),
) -> Results:
    """Return the table of every format, the codes of the casts, and the relative spacings.

    Parameters
    ----------
    fast : bool
        Not used: it takes seconds.
    formats : tuple of str
        Formats of at most 16 bits, whose tables are computed, and whose values are drawn.
    spaced : tuple of str
        Formats whose relative spacing is drawn.
    """
    results: Results = {"entry": np.array(ENTRIES)}
    results |= {name: np.array(describe(name)) for name in formats}
    steps = np.asarray(ps.decode(np.arange(256), MX_INT8), np.float64)
    results["mxint8"] = np.array([steps.max(), steps[steps > 0].min()])
    casts = [ps.encode(ps.round_to(x, SPECS[name]), name).item() for name, x in _CASTS]
    results["casts"] = np.array(casts)
    results["x"] = GRID
    results |= {_SPACING + name: ps.ulp(GRID, name) / GRID for name in spaced}
    drawn = [name for name in formats if name not in _NOT_DRAWN]
    return results | {_DRAWN + name: np.unique(np.abs(values(name))) for name in drawn}


def check(results: Results) -> list[Check]:
    """Compare every entry, every cast, and the two ends of the relative spacing."""
    checks = [
        Check(f"{name}, {entry}", published, float(ours))
        for name, row in _TABLES.items()
        for entry, published, ours in zip(ENTRIES, row, results[name], strict=True)
        if published is not None
    ]
    total = float(results["e5m2"][ENTRIES.index("sum of positive values")])
    checks.append(Check("e5m2, sum of positive values", _SUM_E5M2, total, "digits", 15))
    for (entry, published), ours in zip(
        PUBLISHED["mxint8"].items(), results["mxint8"], strict=True
    ):
        checks.append(Check(f"mxint8, {entry}", published, float(ours)))
    for ((name, x), code), ours in zip(_CASTS.items(), results["casts"], strict=True):
        checks.append(Check(f"{x!r} to {name}, code", code, float(ours)))
    for name, p in SPACED.items():
        spacing = results[_SPACING + name]
        checks.append(Check(f"{name}, largest spacing / x", 2.0 ** (1 - p), float(spacing.max())))
        near = (2.0**-p, 1.001 * 2.0**-p)  # reached in the limit, below powers of two
        label = f"{name}, smallest spacing / x"
        checks.append(Check(label, near, float(spacing.min()), "range"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw all positive values of the small formats as ticks, and spacing / x on [1, 16]."""
    names = [key.removeprefix(_DRAWN) for key in results if key.startswith(_DRAWN)]
    for k, name in enumerate(names):
        found = results[_DRAWN + name]
        found = found[np.isfinite(found) & (found > 0)]
        look: dict[str, Any] = {"color": ps.plots.format_color(name), "markersize": 12}
        axes[0].plot(found, np.full(found.shape, k), "|", markeredgewidth=0.8, **look)
        entries = dict(zip(ENTRIES, _TABLES.get(name, ()), strict=False))
        known = ("largest value", "smallest normal", "smallest subnormal")
        ends = [x for x in map(entries.get, known) if x is not None]
        label = "published largest, smallest normal, smallest"
        ps.plots.plot_published(axes[0], ends, [k] * len(ends), label)
    axes[0].set_xscale("log", base=2)
    axes[0].set_yticks(
        range(len(names)), [name.upper() if name.isalnum() else name for name in names]
    )
    axes[0].set(xlabel="positive values", ylim=(-0.6, len(names) - 0.4), title="all values")
    spaced = [key.removeprefix(_SPACING) for key in results if key.startswith(_SPACING)]
    precisions = {name: getattr(ps.get_format(name), "precision", None) for name in spaced}
    spacings = {f"{name}, p = {p}": results[_SPACING + name] for name, p in precisions.items()}
    ps.plots.plot_curves(axes[1], {label: (results["x"], y) for label, y in spacings.items()})
    for p in SPACED.values():
        ends = [2.0 ** (1 - p), 2.0**-p]
        ps.plots.plot_published(axes[1], [1, 16], ends, "2$^{1-p}$ and 2$^{-p}$")
    axes[1].set_yscale("log", base=2)
    axes[1].set(xlabel="x", ylabel="spacing / x", title="wobbling precision")
    axes[1].set(xticks=2 ** np.arange(5))
    for panel in axes:
        ps.plots.finish(panel)
