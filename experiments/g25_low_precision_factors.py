"""Cholesky and LU factors in fp16 as preconditioners of GMRES-based refinement, matrices scaled.

N. J. Higham, S. Pranesh, *Exploiting Lower Precision Arithmetic in Solving Symmetric Positive
Definite Linear Systems and Least Squares Problems*, SIAM J. Sci. Comput. 43(1), 2021
(`cholir_test.m` of SrikaraPranesh/fp16_Cholesky); `gmresir3.m` of
SrikaraPranesh/Multi_precision_NLA_kernels. A positive definite matrix is scaled to unit diagonal
and 2 u is added to the diagonal, twice as much, and so on, if a pivot is not positive; a general
one is scaled to largest entries of 1 in rows and columns. Multiplied by 0.1 times the largest
number of fp16 it is rounded and factorised, each operation in fp16. Refinement in fp64, residuals
in extended precision, corrections by GMRES to 1e-4 with the factors as a left preconditioner. It
ends at a backward error of n 2**-53.

Their matrices are from the SuiteSparse collection, and `--matrices` names a folder with .mtx files:
where a file has the name of one of theirs, steps are compared. Without it the matrices are made by
formulas. Trefethen_300 and Trefethen_500 are given by one (primes on the diagonal, 1 at distances
that are powers of two), so their steps are compared; rows and columns of the others are scaled by
powers of ten, and only shapes are checked.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.io
from scipy.linalg import solve_triangular

import precsim as ps
from experiments.check import Check, Grade, Results
from experiments.gmres import gmres
from experiments.low_precision_lu import cholesky, factorise

TITLE = "Factors in fp16 of badly scaled matrices: steps of GMRES-based refinement to fp64"
CITATION = "Higham & Pranesh, SIAM J. Sci. Comput. 43(1), 2021; Multi_precision_NLA_kernels"
CLASS: Grade = "C"
PANELS = 2
SEED = 25
INPUTS = ("low_precision_lu.py", "gmres.py")

PUBLISHED: dict[str, Any] = {
    "read in": "cholir_test.txt (fp16_Cholesky), half, double, quad, GMRES; gmresir3_ctest.txt "
    "(Multi_precision_NLA_kernels), fp16 LU: steps of refinement, each for a MATLAB right-hand side",
    "Cholesky": {
        "Trefethen_300": 2,
        "mesh2e1": 2,
        "mesh2em5": 2,
        "plat362": 2,
        "mhdb416": 2,
        "bcsstk06": 2,
        "bcsstk07": 3,
        "bcsstm06": 1,
        "bcsstm07": 2,
        "nos5": 3,
        "bcsstk20": 2,
        "bcsstm20": 1,
        "494_bus": 2,
        "Trefethen_500": 2,
    },
    "LU": {
        "bcsstk03": 2,
        "lns_131": 2,
        "lnsp_131": 2,
        "bcsstk04": 3,
        "bcsstk22": 2,
        "lund_a": 3,
        "bcsstk05": 3,
        "west0156": 1,
        "mcca": 1,
        "fs_183_1": 2,
        "fs_183_3": 2,
        "fs_183_4": 2,
        "fs_183_6": 2,
        "nos1": 3,
        "saylr1": 2,
        "tumorAntiAngiogenesis_2": 2,
        "tumorAntiAngiogenesis_3": 2,
        "bcsstk06": 3,
        "bcsstk07": 3,
    },
}
KINDS = ("Cholesky", "LU")
MOST = 10


def toeplitz(n: int, **diagonals: float) -> np.ndarray:
    """Return the Toeplitz matrix with these diagonals: `up1` is the first above, `at` the main."""
    places = {"at": 0, "up1": 1, "up2": 2, "up3": 3, "low1": -1, "low2": -2}
    return np.asarray(sum(value * np.eye(n, k=places[key]) for key, value in diagonals.items()))


def formulas(n: int) -> dict[str, dict[str, np.ndarray]]:
    """Return the matrices of order n by kind and name, before they are scaled badly."""
    i = np.arange(1.0, n + 1)
    small, large = np.minimum(i[:, None], i), np.maximum(i[:, None], i)
    return {
        "Cholesky": {
            "second difference": toeplitz(n, low1=-1, at=2, up1=-1),
            "fourth difference": toeplitz(n, low2=1, low1=-4, at=6, up1=-4, up2=1),
            "min(i, j)": small,
            "Lehmer": small / large,
        },
        "LU": {
            "Fiedler": large - small,
            "Grcar": toeplitz(n, low1=-1, at=1, up1=1, up2=1, up3=1),
            "Parter": 1 / (i[:, None] - i + 0.5),
            "convection": toeplitz(n, low1=-1.9, at=2, up1=-0.1),
        },
    }


def trefethen(n: int) -> np.ndarray:
    """Return the matrix of problem 7 of Trefethen's challenge (SIAM News 35(1), 2002), of order n.

    The first n primes are on its diagonal, and 1 where row and column are 1, 2, 4, ... apart.
    """
    is_prime = np.ones(20 * n, bool)
    is_prime[:2] = False
    for k in range(2, int(is_prime.size**0.5) + 1):
        is_prime[k * k :: k] = False
    a = np.diag(np.flatnonzero(is_prime)[:n].astype(np.float64))
    apart = 1
    while apart < n:
        a += np.eye(n, k=apart) + np.eye(n, k=-apart)
        apart *= 2
    return a


def badly_scaled(a: np.ndarray, kind: str, decades: float) -> np.ndarray:
    """Return D A E with powers of ten, so many decades apart, in D and E; E = D for Cholesky."""
    powers = 10.0 ** (decades * (np.mod(0.618 * np.arange(len(a)), 1) - 0.5))
    right = powers if kind == "Cholesky" else powers[::-1]
    return np.asarray(powers[:, None] * a * right)


def read_matrices(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return the published matrices that a folder has, by kind and name."""
    files = {path.stem: path for path in sorted(folder.rglob("*.mtx"))}
    if not files:
        raise ValueError(f"matrices is {str(folder)!r}; allowed is a folder with .mtx files")
    found: dict[str, dict[str, np.ndarray]] = {}
    for kind in KINDS:
        names = [name for name in PUBLISHED[kind] if name in files]
        dense = {name: scipy.io.mmread(files[name]) for name in names}
        found[kind] = {
            name: np.asarray(x.toarray() if hasattr(x, "toarray") else x, np.float64)
            for name, x in dense.items()
        }
    return found


def _positive(a: np.ndarray, more: float, fmt: str) -> np.ndarray:
    """Return the Cholesky factor of a + c I: c = `more`, doubled until no pivot is negative."""
    while True:
        shifted = ps.round_to(a + more * np.eye(len(a)), fmt)
        factor = np.asarray(cholesky(np.asarray(shifted, np.float32), spec=fmt), np.float64)
        if np.isfinite(factor).all() and np.diag(factor).all():
            return factor
        more *= 2


def preconditioner(a: np.ndarray, kind: str, fmt: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return v -> M v, with M near the inverse of a positive definite or general matrix."""
    most = 0.1 * float(ps.round_to(1e300, fmt, overflow="saturate"))
    if kind == "Cholesky":
        left = right = 1 / np.sqrt(np.diag(a))
    else:
        left = 1 / np.abs(a).max(axis=1)
        right = 1 / np.abs(left[:, None] * a).max(axis=0)
    scaled = most * left[:, None] * a * right
    if kind == "Cholesky":
        factor = _positive(scaled, most * float(ps.ulp(1.0, fmt)), fmt)

        def inverse(v: np.ndarray) -> np.ndarray:
            return np.asarray(solve_triangular(factor, solve_triangular(factor, v, trans=1)))
    else:
        rounded = np.asarray(ps.round_to(scaled, fmt), np.float32)
        found = factorise(rounded, jax.random.key(0), 0.0, spec=fmt)
        both, order = np.asarray(found[0], np.float64), np.asarray(found[1])

        def inverse(v: np.ndarray) -> np.ndarray:
            y = solve_triangular(both, v[order], lower=True, unit_diagonal=True)
            return np.asarray(solve_triangular(both, y))

    return lambda v: right * inverse(most * left * v)


def refine(a: np.ndarray, b: np.ndarray, kind: str, fmt: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the backward error of x_0, x_1, ..., and the GMRES steps of each refinement."""
    apply = preconditioner(a, kind, fmt)
    wide, norm = a.astype(np.longdouble), np.abs(a).sum(axis=1).max()
    x = apply(b)
    errors, steps = [np.inf], list[int]()
    while np.isfinite(x).all():
        residual = (b - wide @ x).astype(np.float64)
        size = np.abs(residual).max()
        errors.append(float(size / (norm * np.abs(x).max() + np.abs(b).max())))
        if errors[-1] <= len(a) * 2.0**-53 or len(steps) == MOST:
            break
        start = apply(residual / size)
        d, count = gmres(lambda v: apply(a @ v), start, tolerance=1e-4, most=len(a))
        steps.append(count)
        x = x + size * d
    return np.array(errors[1:] or errors), np.array(steps, np.int64)


def compute(
    fast: bool,
    *,
    format_: str = "fp16",
    n: int = 100,
    decades: float = 5.0,
    matrices: str = "-",
    seed: int = SEED,
) -> Results:
    """Return backward errors and GMRES steps for each matrix, and what fp16 makes of it unscaled.

    Parameters
    ----------
    fast : bool
        Whether to leave out Trefethen_500.
    format_ : str
        Format of the factors.
    n : int
        Order of the matrices that are made by formulas.
    decades : float
        Of the factors that scale rows, and columns, of these matrices.
    matrices : str
        Folder with files of the SuiteSparse collection, NAME.mtx. "-" stands for none.
    seed : int
        Of the right-hand sides.
    """
    rng = np.random.default_rng(seed)
    if matrices == "-":
        chosen = {
            kind: {name: badly_scaled(a, kind, decades) for name, a in group.items()}
            for kind, group in formulas(n).items()
        }
        for order in (300,) if fast else (300, 500):
            chosen["Cholesky"][f"Trefethen_{order}"] = trefethen(order)
    else:
        chosen = read_matrices(Path(matrices))
    results: Results = {}
    for kind, group in chosen.items():
        for name, a in group.items():
            errors, steps = refine(a, rng.normal(size=len(a)), kind, format_)
            key = f"{kind}, {name}"
            results[f"{key}, backward error"], results[f"{key}, GMRES steps"] = errors, steps
            plain = np.asarray(ps.round_to(a, format_))
            lost = (a != 0) & ((plain == 0) | ~np.isfinite(plain))
            results[f"{key}, share lost unscaled"] = np.array(lost.sum() / (a != 0).sum())
            results[f"{key}, bound"] = np.array(len(a) * 2.0**-53)
    return results


def names(results: Results) -> list[tuple[str, str]]:
    """Return kind and name of each matrix."""
    ends = [key for key in results if key.endswith(", bound")]
    return [(end.split(", ")[0], end[:-7].split(", ", 1)[1]) for end in ends]


def check(results: Results) -> list[Check]:
    """Compare steps with published ones; else check that few are needed, and scaling is."""
    checks = []
    for kind, name in names(results):
        key = f"{kind}, {name}"
        errors = results[f"{key}, backward error"]
        steps = len(errors) - 1 if errors[-1] <= results[f"{key}, bound"] else np.inf
        if (theirs := PUBLISHED[kind].get(name)) is not None:
            checks.append(Check(f"{key}, steps", theirs, steps, "absolute", 1, "B"))
            continue
        checks.append(Check(f"{key}, steps", (1, 3), steps, "range", grade="C"))
        krylov = int(results[f"{key}, GMRES steps"].sum())
        checks.append(Check(f"{key}, GMRES steps", (1, 50), krylov, "range", grade="C"))
    shares = [float(x) for key, x in results.items() if key.endswith("lost unscaled")]
    if shares:
        label = "most entries that overflow or vanish unscaled, share"
        checks.append(Check(label, (0.01, 1), max(shares), "range", grade="C"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw the backward errors, and the number of GMRES steps."""
    for kind, panel in zip(KINDS, axes, strict=False):
        curves = {}
        for this, name in names(results):
            if this == kind:
                errors = results[f"{kind}, {name}, backward error"]
                steps = int(results[f"{kind}, {name}, GMRES steps"].sum())
                curves[f"{name} ({steps})"] = (np.arange(errors.size), errors)
        ps.plots.plot_curves(panel, curves)
        panel.set_xticks(range(max((len(y) for _, y in curves.values()), default=1)))
        bound = max((float(x) for key, x in results.items() if key.endswith("bound")), default=1)
        panel.axhline(bound, color="black", linewidth=0.8, label="end of refinement")
        panel.set(xlabel="refinement step", ylabel="backward error, ∞-norm", yscale="log")
        panel.set_title(f"{kind} in fp16 (GMRES steps)")
        ps.plots.finish(panel)
