"""LU factors in fp16 of I - 800 G: what a direct solve, refinement and GMRES make of them.

C. T. Kelley, *MultiPrecisionArrays.jl*, documentation, page "Half Precision and GMRES-IR"
(`docs/src/Half_1.md`). G is the discrete Green's operator of -u'' on [0, 1], b = A e with e all
ones. Every operation of the factorisation is rounded to fp16: l = fl(a_ik fl(1 / a_kk)), then
a_ij <- fl(a_ij - fl(l a_kj)), as `hlu!` writes it. The direct solve takes the factors to binary64.

The page does not say two things that its digits hang on. Its direct solve has N = 1024, where the
README of that time set it, and not the 4096 of the later examples. And its grid is the one that
`Gmat` had then, x_i = i / (N + 1), not today's i / (N - 1). Then one of four ways to round the
elimination gives all digits: the machine did not fuse multiplication and subtraction. With both,
the first step of refinement in fp16 for N = 4096 has all digits of the page too: its residual is
above the first one, and the package stops there.

The residual where refinement with fp32 solves stops for N = 4069 agrees in three digits. That for
N = 4096 hangs on the version of the package, and is compared within a factor of 5. So does that of
GMRES-IR, 1.40e-5 here and 7.9e-6 in a later version of the page. Our first step moves by a factor
of three with the order of float32 sums, and the second is below both: what is compared is the step
that reaches the published residual, the first or the second.
"""

from typing import Any

import jax
import numpy as np
from scipy.linalg import solve_triangular

import precsim as ps
from experiments.check import Check, Grade, Results
from experiments.gmres import gmres
from experiments.low_precision_lu import factorise, solve

TITLE = "LU in fp16 of I - 800 G: the direct solve to every digit, refinement, GMRES-IR"
CITATION = "C. T. Kelley, MultiPrecisionArrays.jl, docs/src/Half_1.md"
CLASS: Grade = "A"
PANELS = 2
INPUTS = ("low_precision_lu.py", "gmres.py")

WAYS = {  # name: fused, by reciprocal
    "two roundings, reciprocal": (False, True),
    "two roundings, division": (False, False),
    "fused, reciprocal": (True, True),
    "fused, division": (True, False),
}
SOURCE = "two roundings, reciprocal"
STEPS = {"solves in fp16": 5, "solves in fp32": 40, "GMRES-IR": 4}
"""Of refinement, by the way of solving: all in fp16, or the fp16 factors taken up one by one."""

PUBLISHED: dict[str, Any] = {
    "read in": "docs/src/Half_1.md of ctkelley/MultiPrecisionArrays.jl; N of its first two numbers and the grid: README "
    "and Gmat.jl of version 0.0.4. Orders 4096 (residuals) and 4069 (residuals over |b|) as there",
    "n": 1024,
    "residual": 6.25650e-01,
    "error": 2.34975e-01,
    "solves in fp16": {4096: 1.05272e02},
    "solves in fp32": {4096: 1.28174e-03, 4069: 0.0012593127},
    "GMRES-IR": {4069: 1.4025759e-05},
}
TOLERANCES = {("solves in fp16", 4096): 1e-5, ("solves in fp32", 4069): 5e-3}
"""Float32 residuals are added in an order that is not stated: digits are lost to that."""

STOPS = {4096: 0.9, 4069: 0.5}
"""The package of the time stopped where a residual was above this share of the one before."""


def green(n: int) -> np.ndarray:
    """Return the discrete Green's operator of order n, on the points i / (n + 1)."""
    x = np.arange(1, n + 1) / (n + 1)
    x, y = x[:, None], x
    return np.asarray(np.where(x > y, y * (1 - x), x * (1 - y)) * (1 / (n + 1)))


def factors_of(a: np.ndarray, way: str, spec: str) -> tuple[np.ndarray, np.ndarray]:
    """Return L and U in one float32 array, and the order of rows, of the rounded matrix."""
    fused, by_reciprocal = WAYS[way]
    rounded = np.asarray(ps.round_to(a, spec), np.float32)
    key = jax.random.key(0)  # not used to nearest
    found = factorise(rounded, key, 0.0, spec=spec, fused=fused, by_reciprocal=by_reciprocal)
    return np.asarray(found[0]), np.asarray(found[1])


def direct(n: int, strength: float, way: str, spec: str) -> tuple[float, float]:
    """Return |b - A z| and |z - x| for the solve z by low-precision factors, x by binary64."""
    a = np.eye(n) - strength * green(n)
    b = a @ np.ones(n)
    factors, order = factors_of(a, way, spec)
    wide = factors.astype(np.float64)
    y = solve_triangular(wide, b[order], lower=True, unit_diagonal=True)
    z = solve_triangular(wide, y)
    return float(np.abs(b - a @ z).max()), float(np.abs(z - np.linalg.solve(a, b)).max())


def refine(n: int, strength: float, spec: str) -> dict[str, np.ndarray]:
    """Return |b| and the residuals |b - A x| of x_1, x_2, ... in float32, by way of solving.

    Each residual is scaled to a norm of 1 before it is solved for.
    """
    a = np.eye(n, dtype=np.float32) - (strength * green(n)).astype(np.float32)
    b = a @ np.ones(n, np.float32)
    factors, order = factors_of(a, SOURCE, spec)
    key = jax.random.key(0)

    def sweep(v: Any, spec: str) -> np.ndarray:
        # Thousands of short steps: a GPU would only wait.
        with jax.default_device(jax.devices("cpu")[0]):
            return np.asarray(solve(factors, order, v, key, 0.0, spec=spec))

    def correction(name: str, r: np.ndarray) -> np.ndarray:
        if name == "solves in fp16":
            return sweep(np.asarray(ps.round_to(r, spec), np.float32), spec)
        start = sweep(r, "fp32")
        if name == "solves in fp32":
            return start
        return gmres(lambda v: sweep(a @ v, "fp32"), start, tolerance=1e-7, most=10)[0]

    found = {}
    for name, steps in STEPS.items():
        x, r = np.zeros(n, np.float32), b
        sizes = [np.abs(r).max()]
        while len(sizes) <= steps and 0 < sizes[-1] < np.inf:
            x = x + sizes[-1] * correction(name, r / sizes[-1])
            r = b - a @ x
            sizes.append(np.abs(r).max())
        found[name] = np.array(sizes, np.float64)
    return found


def compute(
    fast: bool,
    *,
    n: int = PUBLISHED["n"],
    refined: int = 0,
    strength: float = 800.0,
    format_: str = "fp16",
) -> Results:
    """Return residual and error of the direct solve by way of rounding, and the refinements.

    Parameters
    ----------
    fast : bool
        Whether to round the elimination in the source's way only.
    n : int
        Order of the direct solve.
    refined : int
        Order of the refined system. 0 stands for 512, and for 4096 and 4069 in the full run.
    strength : float
        Factor of G.
    format_ : str
        Format of the factors.
    """
    orders = (refined,) if refined else (512,) if fast else tuple(STOPS)
    results: Results = {"n": np.array(n), "orders": np.array(orders)}
    for way in (SOURCE,) if fast else WAYS:
        residual, error = direct(n, strength, way, format_)
        results[f"residual, {way}"], results[f"error, {way}"] = np.array(residual), np.array(error)
    for order in orders:
        for name, sizes in refine(order, strength, format_).items():
            results[f"{name}, {order}"] = sizes
    return results


def stopped(sizes: np.ndarray, share: float) -> float:
    """Return the first residual above a share of the one before, the last if there is none."""
    above = np.append(sizes[1:] > share * sizes[:-1], True)
    return float(np.append(sizes[1:], sizes[-1])[above.argmax()])


def check(results: Results) -> list[Check]:
    """Compare the direct solve in all digits, and the refinements by the source's rule of stop."""
    checks = [
        Check(
            f"direct solve, {part}",
            PUBLISHED[part],
            float(results[f"{part}, {SOURCE}"]),
            "digits",
            5,
        )
        for part in ("residual", "error")
    ]
    ways = [way for way in WAYS if f"error, {way}" in results]
    if len(ways) > 1:
        same = [
            f"{float(results[f'error, {way}']):.5e}" == f"{PUBLISHED['error']:.5e}" for way in ways
        ]
        checks.append(Check("ways of rounding that give the error", 1, sum(same), grade="B"))
    for order in results["orders"].tolist():
        sizes = {name: results[f"{name}, {order}"] for name in STEPS}
        for name in STEPS:
            if (theirs := PUBLISHED[name].get(order)) is None:
                continue
            unit = 1 if order == 4096 else sizes[name][0]
            ours = stopped(sizes[name], STOPS[order]) / unit
            label = f"{name}, order {order}"
            if name == "GMRES-IR":
                reached = int(np.append(sizes[name] <= theirs * unit, True).argmax())
                label += ": step with the published residual"
                checks.append(Check(label, (1, 2), reached, "range", grade="C"))
            elif (tolerance := TOLERANCES.get((name, order))) is not None:
                checks.append(Check(label, theirs, ours, "relative", tolerance, "B"))
            else:
                checks.append(Check(label, (theirs / 5, theirs * 5), ours, "range", grade="C"))
        first = STEPS["GMRES-IR"] + 1
        lowest = {name: float(np.nanmin(x[:first]) / x[0]) for name, x in sizes.items()}
        label = f"order {order}: lowest residual,"
        ratio = lowest["solves in fp16"] / lowest["solves in fp32"]
        checks.append(Check(f"{label} fp16 over fp32", (3, np.inf), ratio, "range", grade="C"))
        ratio = lowest["solves in fp32"] / lowest["GMRES-IR"]
        checks.append(Check(f"{label} fp32 over GMRES", (3, np.inf), ratio, "range", grade="C"))
        share = lowest["GMRES-IR"] / 2.0**-24
        checks.append(Check(f"{label} GMRES in unit roundoffs", (0, 32), share, "range", grade="C"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw error against residual of the direct solves, and the residuals of the refinements."""
    ways = [way for way in WAYS if f"error, {way}" in results]
    for way, marker in zip(ways, "osD^", strict=False):
        x, y = results[f"residual, {way}"], results[f"error, {way}"]
        axes[0].plot(x, y, marker, label=way)
    if int(results["n"]) == PUBLISHED["n"]:
        ps.plots.plot_published(axes[0], [PUBLISHED["residual"]], [PUBLISHED["error"]])
    axes[0].set(xlabel="residual, largest", ylabel="error, largest")
    axes[0].locator_params(axis="x", nbins=4)
    axes[0].set_title(f"direct solve, LU in fp16, N = {int(results['n'])}")
    order = int(results["orders"][0])
    curves = {}
    for name in STEPS:
        sizes = results[f"{name}, {order}"]
        curves[name] = (np.arange(sizes.size), sizes)
        if order == 4096 and order in PUBLISHED[name]:
            above = np.append(sizes[1:] > STOPS[order] * sizes[:-1], True)
            at = min(int(above.argmax()) + 1, sizes.size - 1)
            ps.plots.plot_published(axes[1], [at], [PUBLISHED[name][order]])
    ps.plots.plot_curves(axes[1], curves)
    axes[1].set(xlabel="refinement step", ylabel="residual, largest", yscale="log")
    axes[1].set_title(f"refinement in fp32, N = {order}")
    for panel in axes:
        ps.plots.finish(panel)
