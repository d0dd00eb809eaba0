"""The harmonic series converges in floating point: where it stops depends on format and rounding.

N. J. Higham, S. Pranesh, *Simulating Low Precision Floating-Point Arithmetic*, SIAM J. Sci. Comput.
41(5), C585-C602, 2019: the table of harmonic sums (script `demo_harmonic.m` of higham/chop); also
D. Malone, *To What Does the Harmonic Series Converge?*, Irish Math. Soc. Bull. 71, 59-66, 2013. s_n
= fl(s_(n-1) + fl(1/n)) until s_n = s_(n-1); the n reported is the first term that changes nothing.
A stochastic sum stops *earlier* than one rounded to nearest: unchanged once, it would still go on
if it were allowed to. Upward sums do not stop at all: they overflow.
"""

from functools import partial
from typing import Any

import jax
import numpy as np

import precsim as ps
from experiments.check import Check, Grade, Kind, Results

TITLE = "Harmonic sums: the value and the term at which they stop"
CITATION = "Higham & Pranesh, SIAM J. Sci. Comput. 41(5), 2019, harmonic table; Malone 2013"
CLASS: Grade = "A"
PANELS = 2
SECONDS = (6.5, 6.5)
SEED = 1

_ROWS: dict[str, list[tuple[float, int | None]]] = {  # nearest; toward zero and down; up
    "float(e=3,p=5)": [(3.5, 16), (2.5, 9), (np.inf, None)],
    "e5m2": [(2.0, 5), (2.0, 5)],
    "e4m3": [(3.0, 9), (2.0, 5)],
    "bf16": [(5.0625, 65), (4.0, 41), (np.inf, 16148)],
    "fp16": [(7.0859375, 513), (5.74609375, 257), (np.inf, 13910)],
    "fp32": [(15.403683, 2097152)],
}
_TWICE = "bf16:rtp after float64"  # float64 rounds each sum first, as in chop: a stall
_SUMS: dict[str, tuple[float, int | None]] = {
    f"{name}:{mode}": cell
    for name, row in _ROWS.items()
    for modes, cell in zip(("rne", "rtz rtn", "rtp"), row, strict=False)
    for mode in modes.split()
} | {_TWICE: (2199023255552.0, 5013)}
_STOCHASTIC = {"bf16:sr": (4.25, 33, 52), "fp16:sr": (6.207, 258, 312)}
PUBLISHED: dict[str, Any] = {
    "read in": "bf16:rne, fp16:rne: N. J. Higham's blog, quoted by M. Klower (2019). fp32:rne: after Malone, 8 "
    "digits. Others: an emulator independent of precsim, with the loop of demo_harmonic.m; its 'fp8' has p = 5, "
    "emax = 3. Infinite sums: n overflows. sr: median sum, lowest and highest n of 200 seeds.",
    **_SUMS,
    **_STOCHASTIC,
}
SPECS = {label: label for label in _SUMS if label != _TWICE}
SEEDS = 200
TERMS = np.unique(np.round(10 ** np.linspace(0, 6.5, 131)).astype(np.int64))
_EAGER, _BLOCK = 80, 1 << 15  # a sum of at most 80 terms is not worth a compilation


@partial(jax.jit, static_argnames=("spec", "rounds_twice"))
def _scan(start: Any, terms: Any, spec: str, rounds_twice: bool = False) -> Any:
    def step(total: Any, term: Any) -> tuple[Any, Any]:
        total = ps.round_to(total + term, spec) if rounds_twice else ps.add(total, term, spec)
        return total, total

    return jax.lax.scan(step, start, terms)[1]


def reciprocals(first: int, count: int, spec: str) -> Any:
    """Return fl(1/n) for n = first, first + 1, ...; n is exact in the float32 carrier."""
    return ps.divide(np.float32(1), np.arange(first, first + count, dtype=np.float32), spec)


def stop(sums: np.ndarray) -> int:
    """Return the first n at which s_n = s_(n-1) or s_n overflows, 0 if there is none."""
    stops = (sums[1:] == sums[:-1]) | ~np.isfinite(sums[1:])
    return int(stops.argmax()) + 1 if stops.any() else 0


def partial_sums(spec: str) -> np.ndarray:
    """Return s_0 = 0, s_1, ... at least to the term at which the sum stops."""
    sums = np.zeros(1, np.float32)
    for term in reciprocals(1, _EAGER, spec):
        sums = np.append(sums, ps.add(sums[-1], term, spec))
        if stop(sums[-2:]):
            return sums
    while not stop(sums[-_BLOCK - 1 :]):
        terms = reciprocals(sums.size, _BLOCK, spec)
        sums = np.append(sums, np.asarray(_scan(sums[-1], terms, spec=spec)))
    return sums


def stochastic_stops(spec: str, runs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return s_n and n at the first term that changes nothing, for each run."""
    rng = np.random.default_rng(seed)
    one, n = np.ones(runs, np.float32), 0
    total, stopped = 0 * one, 0 * one
    while not stopped.all():
        n += 1
        bits = rng.integers(2**32, size=(2, runs), dtype=np.uint32)
        term = ps.divide(one, np.float32(n), spec, random_bits=bits[0])
        new = ps.add(total, term, spec, random_bits=bits[1])
        stopped = np.where((stopped == 0) & (new == total), n, stopped)
        total = np.where(stopped == 0, new, total)
    return total, stopped.astype(int)


def compute(
    fast: bool,
    *,
    specs: tuple[str, ...] = tuple(SPECS),
    stochastic: tuple[str, ...] = tuple(_STOCHASTIC),
    runs: int = SEEDS,
    seed: int = SEED,
) -> Results:
    """Return where every sum stops, and its way there at the numbers of terms `TERMS`.

    Parameters
    ----------
    fast : bool
        Not used: it takes seconds.
    specs : tuple of str
        Roundings of the sums.
    stochastic : tuple of str
        Stochastic roundings of sums that are run several times.
    runs : int
        How many times.
    seed : int
        Of their random bits.
    """
    paths = {label: partial_sums(SPECS.get(label, label)) for label in specs}
    with jax.enable_x64(True):  # each sum is rounded to float64, then to bf16
        terms = reciprocals(1, 6000, "bf16:rtp").astype(np.float64)
        sums = _scan(np.float64(0), terms, spec="bf16:rtp", rounds_twice=True)
    paths[_TWICE] = np.append(0.0, np.asarray(sums))
    stops = np.array([[path[stop(path)], stop(path)] for path in paths.values()], np.float64)
    results: Results = {"label": np.array(list(paths)), "sum": stops[:, 0], "n": stops[:, 1]}
    results["terms"] = TERMS
    results |= {label: path[np.minimum(TERMS, stop(path))] for label, path in paths.items()}
    for spec in stochastic:
        results[f"sum {spec}"], results[f"n {spec}"] = stochastic_stops(spec, runs, seed)
    return results


def check(results: Results) -> list[Check]:
    """Compare sums and terms by digits where the arithmetic is deterministic, else by range."""
    checks = []
    for label, total, n in zip(*(results[k].tolist() for k in ("label", "sum", "n")), strict=True):
        published, term = _SUMS[label]
        grade: Grade = "B" if label == _TWICE else "A"
        kind: Kind = "digits" if label == "fp32:rne" else "exact"
        checks.append(Check(f"{label}, sum", published, total, kind, 7, grade))
        if term is not None:
            checks.append(Check(f"{label}, n", term, n, grade=grade))
    for spec, (median, low, high) in _STOCHASTIC.items():
        s = float(np.median(results[f"sum {spec}"]))
        checks.append(Check(f"{spec}, median sum", median, s, "relative", 0.01, "C"))
        for percent in (5, 95):
            n = float(np.percentile(results[f"n {spec}"], percent))
            checks.append(Check(f"{spec}, n, {percent} %", (low, high), n, "range", grade="C"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw the sums, and where they stop: to nearest on the left, other modes on the right."""
    labels = [label for label in results["label"].tolist() if label != _TWICE]
    modes = [label.partition(":")[2] for label in labels]
    nearest = [label for label, mode in zip(labels, modes, strict=True) if mode in ("", "rne")]
    others = [f"{name}:{mode}" for name in ("fp16", "bf16") for mode in ("rtp", "rne", "rtz")]
    if not set(others) <= set(labels):
        others = [label for label in labels if label not in nearest]
    for panel, shown in zip(axes, (nearest, others), strict=True):
        drawn = {label: (TERMS, results[label]) for label in shown}
        ps.plots.plot_curves(panel, drawn)
        exact = np.log(TERMS + 0.5) + np.euler_gamma
        panel.plot(TERMS, exact, color="black", linewidth=0.8, zorder=1, label="exact")
        known = [_SUMS[label] for label in shown if label in _SUMS]
        ends = np.array([(n, s) for s, n in known if s < np.inf]).reshape(-1, 2)
        ps.plots.plot_published(panel, ends[:, 0], ends[:, 1], "reference")
        panel.set(xlabel="number of terms n", ylabel="partial sum", xscale="log")
    for spec in [key.removeprefix("sum ") for key in results if key.startswith("sum ")]:
        n = results[f"n {spec}"]
        seeds = {f"{spec}, {n.size} seeds": (n, results[f"sum {spec}"])}
        look: dict[str, Any] = {"linestyle": "none", "markersize": 2, "markevery": 1, "zorder": 5}
        ps.plots.plot_curves(axes[1], seeds, **look)
    axes[0].set(title="to nearest (rne)", ylim=(0, 16))
    axes[1].set(title="up (rtp), to nearest, toward zero (rtz)", xlim=(8, 3000), ylim=(2, 12))
    for panel in axes:
        ps.plots.finish(panel)
