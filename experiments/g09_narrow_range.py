"""Products from E4M3 to binary16: the cost of a narrow range, with and without subnormals.

T. Mary, M. Mikaitis, *Error Analysis of Matrix Multiplication with Narrow Range Floating-Point
Arithmetic*, hal-04671474, 2024 (SIAM J. Sci. Comput. 47(4), 2025), section 5: the figure for
fp8-e4m3 inputs, binary16 accumulation, one word an entry. Scripts and results:
north-numerical-computing/narrow-range-FP-underflow-experiments, 95b7205 (`matmul_test.m`,
`data/`).

Scaled operands (see `scaled_gemm`) are rounded to E4M3; for ascending k, C <- fl(C + fl(a_k b_k))
in binary16. Without subnormals the rule is CPFloat's: below the smallest normal value, the nearer
of it and zero. The same product with an unlimited exponent range shows what the range alone costs.
All products without subnormals take their random numbers from the stream first, then those with
subnormals.
"""

from typing import Any

import numpy as np

import precsim as ps
from experiments import matlab_random, scaled_gemm
from experiments.check import Check, Grade, Results, Tables

TITLE = "E4M3 products summed in binary16: error against the inner dimension"
CITATION = "Mary & Mikaitis, hal-04671474, 2024, section 5, figure for E4M3 and binary16"
CLASS: Grade = "A"
PANELS = 2
SECONDS = (4.2, 95)
SEED = 1
INPUTS = ("matlab_random.py", "scaled_gemm.py")

OPERAND, ACCUMULATOR = "e4m3", "fp16"
SIZES = scaled_gemm.sizes(40)
FAST_SIZE = 345
RULES = {"off": "nearest_of_zero_and_min", "on": "gradual"}
UNLIMITED = "unlimited range"


def _spec(operand: str, accumulator: str, subnormals: str = "gradual") -> ps.MatmulSpec:
    operand, accumulator = (f"{name}[{subnormals}]" for name in (operand, accumulator))
    return ps.MatmulSpec.parse(
        f"{operand}_{operand}_{accumulator}:sequential:product={accumulator}"
    )


def specs_of(operand: str, accumulator: str) -> dict[str, ps.MatmulSpec]:
    """Return the products without and with subnormals, and that in unlimited range."""
    specs = {name: _spec(operand, accumulator, rule) for name, rule in RULES.items()}
    found = [ps.get_format(name) for name in (operand, accumulator)]
    wide = [f"float(e=inf,p={getattr(fmt, 'precision', None)})" for fmt in found]
    return specs | {UNLIMITED: _spec(*wide)}


SPECS = specs_of(OPERAND, ACCUMULATOR)

_ENDINGS = {name: f"fp8-e4m3_binary16_subnormals{k}_words_1.dat" for k, name in enumerate(RULES)}
TABLES = tuple(_ENDINGS.values())
_TYPED = """
       10  1.792245e-03 1.791534e-03 1.167516e-02 1.167491e-02
       13  6.174656e-03 6.129233e-03 1.312582e-02 1.312570e-02
       18  2.023212e-02 2.021926e-02 2.076302e-02 2.076329e-02
       24  5.662695e-03 5.662845e-03 9.138021e-03 9.138303e-03
       32  1.311423e-02 1.311337e-02 1.535951e-02 1.535827e-02
       43  6.257477e-03 6.183416e-03 5.157619e-03 5.151272e-03
       58  4.494583e-03 4.499005e-03 7.088451e-03 7.089666e-03
       78  1.507560e-02 1.511368e-02 1.049548e-02 1.047951e-02
      106  8.858919e-03 8.896509e-03 7.433034e-03 7.434002e-03
      142  3.102424e-03 3.093396e-03 7.030749e-03 6.985459e-03
      191  4.881442e-03 4.755735e-03 5.343621e-03 5.343728e-03
      257  6.974720e-03 6.921921e-03 3.808756e-03 3.806190e-03
      345  3.934148e-03 3.971800e-03 5.701101e-03 5.699035e-03
      837  2.325980e-03 2.340221e-03 1.750073e-03 1.749089e-03
  1000000  1.570865e-04 6.634143e-05 7.924010e-05 7.588099e-05
"""
_COLUMNS = ("off", f"off, {UNLIMITED}", "on", f"on, {UNLIMITED}")
PUBLISHED: dict[str, Any] = {
    "read in": "matmul_test_fp8-e4m3_binary16_subnormals{0,1}_words_1.dat, columns error and error-nrl, 7 digits; "
    "15 of their 40 sizes are typed here, the others are read from the files under --data-dir",
    **{
        name: {int(n): float(value) for n, value in zip(rows[0], column, strict=True)}
        for rows in [np.array(_TYPED.split()).reshape(-1, 5).T]
        for name, column in zip(_COLUMNS, rows[1:], strict=True)
    },
}
_DIGITS = 6  # after the first


def compute(
    fast: bool, *, operand: str = OPERAND, accumulator: str = ACCUMULATOR, seed: int = SEED
) -> Results:
    """Return the bounds, and errors without and with subnormals, in limited and unlimited range.

    Parameters
    ----------
    fast : bool
        Whether to stop at inner dimensions of 345, not a million.
    operand : str
        Floating format of the operands.
    accumulator : str
        Floating format of products and sums.
    seed : int
        Of MATLAB's stream of random numbers.
    """
    is_published = (operand, accumulator) == (OPERAND, ACCUMULATOR)
    specs = SPECS if is_published else specs_of(operand, accumulator)
    count = int(np.sum(SIZES <= FAST_SIZE)) if fast else SIZES.size
    n = SIZES[:count]
    theta = scaled_gemm.largest_entry(n, operand, accumulator)
    stream = matlab_random.rng(seed)
    results: Results = {"n": n}
    for name in RULES:
        drawn = scaled_gemm.products(stream, n, theta)
        pairs = {name: specs[name], f"{name}, {UNLIMITED}": specs[UNLIMITED]}
        errors = [
            [p.error(scaled_gemm.multiply(p.a, p.b, spec)) for spec in pairs.values()]
            for p in drawn
        ]
        results |= dict(zip(pairs, np.array(errors).T, strict=True))
        matlab_random.skip(stream, scaled_gemm.DRAWS * int(SIZES[count:].sum()))
    bounds = scaled_gemm.bounds(n, operand, accumulator)
    results["bound"], results[f"bound, {UNLIMITED}"] = bounds
    return results


def published(name: str, tables: Tables | None) -> dict[int, float]:
    """Return the published errors of one curve: those of its file, else those typed here."""
    rule, _, is_unlimited = name.partition(", ")
    table = (tables or {}).get(_ENDINGS[rule])
    if table is None:
        return dict(PUBLISHED[name])
    column = table["error-nrl" if is_unlimited else "error"]
    return dict(zip(table["n"].astype(int).tolist(), column.tolist(), strict=True))


def check(results: Results, tables: Tables | None = None) -> list[Check]:
    """Compare the errors in 7 digits; with the published files also their bounds."""
    checks = []
    sizes = results["n"].tolist()
    for name in _COLUMNS:
        known = published(name, tables)
        for n, ours in zip(sizes, results[name].tolist(), strict=True):
            if n in known:
                label = f"subnormals {name}, n = {n}"
                checks.append(Check(label, known[n], ours, "digits", _DIGITS))
    table = (tables or {}).get(_ENDINGS["off"])
    if table is not None:  # the bounds of both files are the same
        for column, name in {"bound": "bound", "bound-nrl": f"bound, {UNLIMITED}"}.items():
            for n, theirs, ours in zip(sizes, table[column], results[name], strict=False):
                label = f"{name}, n = {n}"
                checks.append(Check(label, float(theirs), float(ours), "digits", _DIGITS))
    return checks


def plot(results: Results, axes: list[Any], tables: Tables | None = None) -> None:
    """Draw the errors without and with subnormals, and the bounds."""
    n = results["n"]
    formats = [
        str(results.get(f"parameter {name}", default))
        for name, default in (("operand", OPERAND), ("accumulator", ACCUMULATOR))
    ]
    named = {"e4m3": "E4M3", "fp16": "binary16"}
    both = " and ".join(named.get(name, name) for name in formats)
    for panel, rule in zip(axes, RULES, strict=True):
        names = {both: rule, UNLIMITED: f"{rule}, {UNLIMITED}"}
        ps.plots.plot_curves(panel, {label: (n, results[name]) for label, name in names.items()})
        for name in names.values():
            known = published(name, tables)
            shown = [size for size in n.tolist() if size in known]
            ps.plots.plot_published(panel, shown, [known[size] for size in shown])
        bounds = {f"{both}, bound": "bound", f"{UNLIMITED}, bound": f"bound, {UNLIMITED}"}
        curves = {label: (n, results[name]) for label, name in bounds.items()}
        ps.plots.plot_curves(panel, curves, linestyle=":", linewidth=0.9)
        panel.set(xlabel="inner dimension n", ylabel="‖C - AB‖$_∞$ / (‖A‖$_∞$ ‖B‖$_∞$)")
        panel.set(title=f"subnormals {rule}", xscale="log", yscale="log")
        panel.set_ylim(3e-5, 20)  # the bound goes on to 2e11
        ps.plots.finish(panel)
