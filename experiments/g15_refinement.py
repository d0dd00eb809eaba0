"""Iterative refinement in three precisions: how far half-precision factors carry, by rounding.

E. Carson, N. J. Higham, *Accelerating the Solution of Linear Systems by Iterative Refinement in
Three Precisions*, SIAM J. Sci. Comput. 40(2), A817-A847, 2018: LU-based refinement, factors and
solves in binary16, working precision binary32, residuals in binary64 (after `sir3.m` of
eccarson/ir3: each residual is scaled to norm 1 before it is rounded to binary16). Matrices of order
100 with singular values from 1 to 1/kappa, in geometric progression (MATLAB's randsvd, mode 3),
right-hand sides normal.

Companion: N. J. Higham, S. Pranesh, SIAM J. Sci. Comput. 41(5), 2019 (`solve_test.m`): the backward
error of solving systems of order 100 with normal entries in binary16, for six rounding modes.

MATLAB's `randn` cannot be reproduced, hence not their matrices: only shapes are compared. The order
of operations is stated in `low_precision_lu`, and that of the residual by a spec.
"""

from itertools import pairwise
from typing import Any

import jax
import numpy as np

import precsim as ps
from experiments.check import Check, Grade, Results
from experiments.low_precision_lu import DIRECTED, factorise, solve

TITLE = "LU in fp16: refinement against the condition number, and six rounding modes"
CITATION = "Carson & Higham, SIAM J. Sci. Comput. 40(2), 2018; Higham & Pranesh 2019, solve_test.m"
CLASS: Grade = "C"
PANELS = 2
SECONDS = (17.8,)
SEED = 1
INPUTS = ("low_precision_lu.py",)

FORMAT, ORDER, STEPS = "fp16", 100, 10
EXPONENTS = np.arange(1, 9)  # kappa = 10^1 ... 10^8
MODES = {  # name: mode, chance of rounding up if directed
    "nearest": ("rne", 0.0),
    "stochastic": ("sr", 0.0),
    "up or down": (DIRECTED, 0.5),
    "toward zero": ("rtz", 0.0),
    "up": (DIRECTED, 1.0),
    "down": (DIRECTED, 0.0),
}
CONVERGED = 2.0**-24
PUBLISHED: dict[str, Any] = {
    "read in": "Limit of kappa for factors in binary16, about 10^4: standard theory of LU-based refinement; steps, limits "
    "and mean backward errors: an emulator independent of precsim on other random matrices. The papers' numbers "
    "belong to matrices from MATLAB's randn.",
    "steps": {1: (2, 4), 2: (2, 4), 3: (2, 4)},
    "no convergence": (4, 5, 6, 7, 8),
    "mean backward error": {
        "nearest": 5.3e-4,
        "stochastic": 6.9e-4,
        "up or down": 9.7e-4,
        "toward zero": 1.1e-3,
        "up": 3.8e-3,
        "down": 3.8e-3,
    },
}


def with_condition(rng: np.random.Generator, count: int, order: int = ORDER) -> np.ndarray:
    """Return U diag(1 ... 1/kappa) V, shape (kappas, count, n, n), with random orthogonal U, V."""
    u, v = np.linalg.qr(rng.normal(size=(2, count, order, order)))[0]
    values = 10.0 ** np.outer(-EXPONENTS, np.linspace(0, 1, order))
    return np.asarray(u @ (values[:, None, :, None] * v))


def refine(a: np.ndarray, b: np.ndarray, fmt: str) -> np.ndarray:
    """Return the backward errors, infinity norm, of x_0 ... x_STEPS: shape (STEPS + 1, systems)."""
    key = jax.random.key(SEED)  # not used to nearest
    factors, order = factorise(ps.round_to(a, fmt), key, 0.0, spec=f"{fmt}:rne")
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norm_a, norm_b = np.abs(a64).sum(axis=-1).max(axis=-1), np.abs(b64).max(axis=-1)
    x, errors = np.zeros_like(b), []
    for step in range(STEPS + 2):
        residual = ps.matmul(
            -a64, x.astype(np.float64)[..., None], "raw_raw_fp64:sequential", c=b64[..., None]
        )[..., 0]
        size = np.abs(residual).max(axis=-1)
        if step:  # x_0 is the first correction of zero
            errors.append(size / (norm_a * np.abs(x).max(axis=-1) + norm_b))
        unit = residual / np.where(size > 0, size, 1)[:, None]
        half = ps.round_to(unit, fmt).astype(np.float32)
        d = np.asarray(solve(factors, order, half, key, 0.0, spec=f"{fmt}:rne"))
        if step == 0:  # as in the script
            d = np.where(np.isfinite(d).all(axis=-1, keepdims=True), d, 0)
        scale = ps.round_to(size, "fp32").astype(np.float32)[:, None]
        x = ps.add(x, ps.multiply(scale, d, "fp32"), "fp32")
    return np.array(errors)


def solve_errors(name: str, a: np.ndarray, b: np.ndarray, fmt: str, seed: int) -> np.ndarray:
    """Return the backward errors (1-norm) of solves; NaN where the solution overflows."""
    keys = jax.random.split(jax.random.key(seed))
    mode, chance = MODES[name]
    factors, order = factorise(a, keys[0], chance, spec=f"{fmt}:{mode}")
    x = solve(factors, order, b, keys[1], chance, spec=f"{fmt}:{mode}")
    a, b, x = (np.asarray(array, np.float64) for array in (a, b, x))
    x = np.where(np.isfinite(x).all(axis=-1, keepdims=True), x, np.nan)
    residual = b - (a @ x[..., None])[..., 0]
    norm_a = np.abs(a).sum(axis=-2).max(axis=-1)
    return np.asarray(_sum(residual) / (norm_a * _sum(x) + _sum(b)))


def _sum(x: np.ndarray) -> Any:
    return np.abs(x).sum(axis=-1)


def compute(fast: bool, *, format_: str = FORMAT, order: int = ORDER, seed: int = SEED) -> Results:
    """Return backward errors of the refinement, by kappa and system, and of the solves, by mode.

    Parameters
    ----------
    fast : bool
        Whether to solve 3 systems for each condition number, not 12.
    format_ : str
        Format of factors and solves.
    order : int
        Of the matrices.
    seed : int
        Of the matrices, the right-hand sides and the random roundings.
    """
    count = 3 if fast else 12
    rng = np.random.default_rng(seed)
    a = ps.round_to(with_condition(rng, count, order).reshape(-1, order, order), "fp32")
    b = rng.standard_normal((len(a), order), np.float32)
    errors = refine(a.astype(np.float32), b, format_)
    results: Results = {"exponent": EXPONENTS}
    results["refinement"] = errors.reshape(STEPS + 1, EXPONENTS.size, count)
    a = ps.round_to(rng.standard_normal(a.shape, np.float32), format_)
    b = ps.round_to(rng.standard_normal(b.shape, np.float32), format_)
    return results | {name: solve_errors(name, a, b, format_, seed) for name in MODES}


def steps_needed(errors: np.ndarray) -> np.ndarray:
    """Return the first step with a backward error of at most 2**-24, STEPS + 1 if there is none."""
    done = errors <= CONVERGED
    return np.where(done.any(axis=0), done.argmax(axis=0), STEPS + 1)


def check(results: Results) -> list[Check]:
    """Check the steps of every system, and the order of the rounding modes."""
    checks = []
    steps = steps_needed(results["refinement"])
    for exponent, limits in PUBLISHED["steps"].items():
        for k, ours in enumerate(steps[exponent - 1].tolist()):
            label = f"steps, kappa = 1e{exponent}, system {k}"
            checks.append(Check(label, limits, ours, "range", grade="C"))
    for exponent in PUBLISHED["no convergence"]:
        share = float(np.mean(steps[exponent - 1] <= STEPS))
        checks.append(Check(f"share converged, kappa = 1e{exponent}", 0.0, share, grade="C"))
    means = {name: float(np.nanmean(results[name])) for name in MODES}
    for name, theirs in PUBLISHED["mean backward error"].items():
        checks.append(Check(f"{name}, mean", theirs, means[name], "relative", 0.25, "C"))
    for low, high in pairwise(MODES):
        limits = (0.8, 1.25) if high == "down" else (1.0, np.inf)
        label = f"{high} over {low}, mean"
        checks.append(Check(label, limits, means[high] / means[low], "range", grade="C"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw the median backward error after each step, and the errors of all systems by mode."""
    # Where fp16 overflows there is no solution: infinite, which is drawn at the edge.
    errors = np.median(np.nan_to_num(results["refinement"], nan=np.inf), axis=-1)
    steps = np.arange(STEPS + 1)
    fmt = str(results.get("parameter format_", FORMAT))
    size = int(results.get("parameter order", ORDER))
    kappas = [f"κ = 10{'⁰¹²³⁴⁵⁶⁷⁸'[exponent]}" for exponent in EXPONENTS[:6]]
    ps.plots.plot_curves(axes[0], {kappa: (steps, errors[:, k]) for k, kappa in enumerate(kappas)})
    color = ps.plots.format_color("fp32")
    axes[0].axhline(CONVERGED, color=color, linewidth=0.8, label="unit roundoff of fp32")
    axes[0].set(xlabel="refinement step", ylabel="median backward error, ∞-norm")
    axes[0].set(title=f"factors {fmt}, working fp32, residual fp64", yscale="log")
    for k, name in enumerate(MODES):
        ours = np.nan_to_num(results[name], nan=np.inf)
        y = k + np.linspace(-0.25, 0.25, ours.size)
        look: dict[str, Any] = {"color": ps.plots.format_color(fmt), "markersize": 3}
        axes[1].plot(np.sort(ours), y, ".", label=f"one system in {fmt}", **look)
        mean = [np.nanmean(results[name])] * 2
        axes[1].plot(mean, [k - 0.35, k + 0.35], color="black", label="mean")
    points = [PUBLISHED["mean backward error"][name] for name in MODES]
    ps.plots.plot_published(axes[1], points, range(len(MODES)), "reference mean")
    axes[1].set_yticks(range(len(MODES)), list(MODES))
    axes[1].set(xlabel="backward error, 1-norm", ylabel="rounding of every operation", xscale="log")
    axes[1].set_title(f"systems of order {size} solved in {fmt}")
    for panel in axes:
        ps.plots.finish(panel)
