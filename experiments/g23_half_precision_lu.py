"""LU factors in fp16 of I - 800 G: what a direct solve, refinement and GMRES make of them.

C. T. Kelley, *MultiPrecisionArrays.jl*, documentation, page "Half Precision and GMRES-IR"
(`docs/src/Half_1.md`). G is the discrete Green's operator of -u'' on [0, 1], b = A e with e all
ones. Every operation of the factorisation is rounded to fp16: l = fl(a_ik fl(1 / a_kk)), then
a_ij <- fl(a_ij - fl(l a_kj)), as `hlu!` writes it. The direct solve takes the factors to binary64.

The page does not say two things that its digits hang on. Its direct solve has N = 1024, where the
README of that time set it, and not the 4096 of the later examples. And its grid is the one that
`Gmat` had then, x_i = i / (N + 1), not today's i / (N - 1). Then one of four ways to round the
elimination gives all digits: the machine did not fuse multiplication and subtraction, though it
could.
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
PUBLISHED: dict[str, Any] = {
    "read in": "docs/src/Half_1.md of ctkelley/MultiPrecisionArrays.jl; N and the grid of its first two numbers: its "
    "README and Gmat.jl of version 0.0.4",
    "residual": 6.25650e-01,
    "error": 2.34975e-01,
}
REFINEMENTS = ("solves in fp16", "solves in fp32", "GMRES-IR")
"""Triangular solves with the fp16 factors: all in fp16, or the factors taken up one by one."""


def green(n: int) -> np.ndarray:
    """Return the discrete Green's operator of order n, on the points i / (n + 1)."""
    x = np.arange(1, n + 1) / (n + 1)
    x, y = x[:, None], x
    return np.asarray(np.where(x > y, y * (1 - x), x * (1 - y)) * (1 / (n + 1)))


def factors_of(a: np.ndarray, way: str, fmt: str) -> tuple[np.ndarray, np.ndarray]:
    """Return L and U in one float32 array, and the order of rows, of the rounded matrix."""
    fused, by_reciprocal = WAYS[way]
    rounded = np.asarray(ps.round_to(a, fmt), np.float32)
    found = factorise(
        rounded, jax.random.key(0), 0.0, spec=fmt, fused=fused, by_reciprocal=by_reciprocal
    )
    factors, order = (np.asarray(x) for x in found)
    return factors, order


def direct(n: int, strength: float, way: str, fmt: str) -> tuple[float, float]:
    """Return |b - A z| and |z - x| for the solve z by low-precision factors, x by binary64."""
    a = np.eye(n) - strength * green(n)
    b = a @ np.ones(n)
    factors, order = factors_of(a, way, fmt)
    factors = factors.astype(np.float64)
    y = solve_triangular(factors, b[order], lower=True, unit_diagonal=True)
    z = solve_triangular(factors, y)
    return float(np.abs(b - a @ z).max()), float(np.abs(z - np.linalg.solve(a, b)).max())


def refine(
    n: int, strength: float, fmt: str, steps: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return residuals over |b| and errors of x_0 = 0, x_1, ... in float32, by way of solving."""
    a = np.eye(n, dtype=np.float32) - (strength * green(n)).astype(np.float32)
    b = a @ np.ones(n, np.float32)
    factors, order = factors_of(a, SOURCE, fmt)
    key = jax.random.key(0)

    def sweep(v: Any, spec: str) -> np.ndarray:
        return np.asarray(solve(factors, order, v, key, 0.0, spec=spec))

    def correction(name: str, r: np.ndarray) -> np.ndarray:
        if name == "solves in fp16":
            return sweep(np.asarray(ps.round_to(r, fmt), np.float32), fmt)
        start = sweep(r, "fp32")
        if name == "solves in fp32":
            return start
        return gmres(lambda v: sweep(a @ v, "fp32"), start, tolerance=1e-7, most=10)[0]

    residuals, errors = {}, {}
    for name in REFINEMENTS:
        x, r = np.zeros(n, np.float32), b
        found, away = [1.0], [1.0]
        for _ in range(steps):
            size = np.abs(r).max()
            x = x + size * correction(name, r / size)
            r = b - a @ x
            found.append(float(np.abs(r).max() / np.abs(b).max()))
            away.append(float(np.abs(x - 1).max()))
        residuals[name], errors[name] = np.array(found), np.array(away)
    return residuals, errors


def compute(
    fast: bool,
    *,
    n: int = 1024,
    refined: int = 0,
    strength: float = 800.0,
    fmt: str = "fp16",
    steps: int = 8,
) -> Results:
    """Return residual and error of the direct solve by way of rounding, and the refinements.

    n is the order of the direct solve, `refined` that of the refinements: 0 stands for 512, and
    4096 in the full run.
    """
    results: Results = {"n": np.array(n)}
    refined = refined or (512 if fast else 4096)
    results["refined"] = np.array(refined)
    for way in WAYS if not fast else (SOURCE,):
        residual, error = direct(n, strength, way, fmt)
        results[f"residual, {way}"], results[f"error, {way}"] = np.array(residual), np.array(error)
    residuals, errors = refine(refined, strength, fmt, steps)
    for name in REFINEMENTS:
        results[f"residual, {name}"], results[f"error, {name}"] = residuals[name], errors[name]
    return results
