"""Least squares by QR factors in fp16, refined in three precisions, and how far GMRES carries it.

E. Carson, N. J. Higham, S. Pranesh, *Three-Precision GMRES-Based Iterative Refinement for Least
Squares Problems*, SIAM J. Sci. Comput. 42(6), A4063-A4083, 2020: `lsir3.m`, `gmreslsir3.m` and
`house_qr_lp.m` of SrikaraPranesh/Multi_precision_NLA_kernels, run by `table_results.m` of
SrikaraPranesh/LSIR3. Matrices of 100 x 10 with singular values from 1 to 1/kappa in geometric
progression (randsvd, mode 3), a normal right-hand side of norm 1. Householder QR in fp16, each
operation rounded, of the matrix with columns scaled to 0.1 times the largest number; working
precision fp32; residuals of the augmented system in fp64. Corrections come from the factors alone,
or from GMRES in fp32 with the factors as a preconditioner, which is applied in fp64 there as here.

MATLAB's `randn` cannot be reproduced, hence not their matrices: iteration counts are compared, a
count for each of several random matrices of ours.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

import precsim as ps
from experiments.check import Check, Grade, Results
from experiments.gmres import gmres

TITLE = "Least squares by QR in fp16: refinement steps against the condition number"
CITATION = "Carson, Higham & Pranesh, SIAM J. Sci. Comput. 42(6), 2020; LSIR3, table_results.m"
CLASS: Grade = "C"
PANELS = 2
SEED = 26
INPUTS = ("gmres.py",)

PUBLISHED: dict[str, Any] = {
    "read in": "lsqr_randsvd_ir_steps.txt of SrikaraPranesh/LSIR3, half, single, double combination: steps of "
    "refinement, none (inf) if 20 are not enough, for one MATLAB matrix each",
    "exponent": (3, 4, 5, 6, 7, 8),
    "by factors": (11, np.inf, np.inf, np.inf, np.inf, np.inf),
    "by GMRES": (2, 2, 2, 5, 12, np.inf),
}
MOST = 20
METHODS = ("by factors", "by GMRES")


def with_condition(rng: np.random.Generator, shape: tuple[int, ...], exponents: Any) -> np.ndarray:
    """Return U diag(1 ... 10**-exponent) V for each exponent, with random orthogonal U, V."""
    m, n = shape
    u = np.linalg.qr(rng.normal(size=(len(exponents), m, n)))[0]
    v = np.linalg.qr(rng.normal(size=(len(exponents), n, n)))[0]
    values = 10.0 ** np.outer(-np.asarray(exponents), np.linspace(0, 1, n))
    return np.asarray((u * values[:, None]) @ v)


def householder(a: np.ndarray, fmt: str) -> tuple[np.ndarray, np.ndarray]:
    """Return Q, shape (..., m, n), and R of matrices in the format, every operation rounded.

    Step j takes u with |u|**2 = 2 from column j and computes x - fl(u fl(u^T x)), as `house_qr_lp`.
    Inner products are added from the first index, products and sums rounded.
    """
    spec = ps.RoundingSpec.parse(fmt)
    order = ps.MatmulSpec(product=spec, accumulator=spec)

    def inner(u: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.asarray(ps.matmul(np.swapaxes(u, -1, -2), x, order, backend="reference"))

    def reflect(u: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.asarray(ps.subtract(x, ps.multiply(u, inner(u, x), fmt), fmt))

    def direction(x: np.ndarray) -> np.ndarray:
        largest = np.abs(x).max(axis=-2, keepdims=True)
        unit = ps.divide(x, largest, fmt)
        length = ps.multiply(largest, ps.sqrt(inner(unit, unit), fmt), fmt)
        u = np.array(ps.divide(x, length, fmt))
        first = u[..., :1, :]
        first = np.asarray(ps.add(first, np.where(first < 0, np.float32(-1), np.float32(1)), fmt))
        u[..., :1, :] = first
        first = np.sqrt(np.abs(first).astype(np.float64))
        return np.asarray(ps.round_to(u / first, fmt), np.float32)

    m, n = a.shape[-2:]
    r, directions = a.astype(np.float32), []
    for j in range(n):
        directions.append(direction(r[..., j:, j : j + 1]))
        r[..., j:, j:] = reflect(directions[j], r[..., j:, j:])
        r[..., j + 1 :, j] = 0
    q = np.broadcast_to(np.eye(m, n, dtype=np.float32), a.shape).copy()
    for j in reversed(range(n)):
        q[..., j:, :] = reflect(directions[j], q[..., j:, :])
    return q, r[..., :n, :]


def by_factors(q: np.ndarray, r: np.ndarray, f: np.ndarray, g: np.ndarray) -> tuple[Any, Any]:
    """Return the corrections of residual and solution of [I A; A^T 0] by A = Q R."""
    d = q.T @ f
    h = solve_triangular(r, g, trans=1)
    return f - q @ d + q @ h, solve_triangular(r, d - h)


def by_gmres(
    a: np.ndarray, q: np.ndarray, r: np.ndarray, f: np.ndarray, g: np.ndarray
) -> tuple[Any, Any]:
    """Return the same corrections by GMRES in fp32, the system scaled and preconditioned by Q R."""
    a, q, r = (x.astype(np.float64) for x in (a, q, r))
    alpha = np.linalg.svd(r, compute_uv=False)[-1] / np.sqrt(2)
    m = len(a)

    def precondition(top: np.ndarray, low: np.ndarray) -> np.ndarray:
        h = solve_triangular(r, low, trans=1)
        d = q.T @ top
        both = (top - q @ d) / alpha + q @ h, solve_triangular(r, d - alpha * h)
        return np.concatenate(both).astype(np.float32)

    def apply(v: np.ndarray) -> np.ndarray:
        v = v.astype(np.float64)
        return precondition(alpha * v[:m] + a @ v[m:], a.T @ v[:m])

    size = np.abs(np.concatenate([alpha * f, g])).max()
    start = precondition(alpha * f / size, g / size)
    found = gmres(apply, start, tolerance=1e-6, most=sum(a.shape))[0].astype(np.float64)
    return size * found[:m], size / alpha * found[m:]


def refine(
    a: np.ndarray,
    b: np.ndarray,
    correction: Callable[..., tuple[Any, Any]],
    *,
    steps: int,
    dtypes: tuple[Any, Any],
    start: tuple[np.ndarray, np.ndarray],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return residual and solution after each step, in dtypes[0], residuals in dtypes[1]."""
    working, wide = dtypes
    residual, x = start
    found = [start]
    for _ in range(steps):
        wide_x, wide_residual = x.astype(wide), residual.astype(wide)
        f = b.astype(wide) - wide_residual - a.astype(wide) @ wide_x
        g = -a.T.astype(wide) @ wide_residual
        top, low = correction(f, g)
        residual = residual + np.asarray(top, working)
        x = x + np.asarray(low, working)
        if not np.isfinite(x).all():
            break
        found.append((residual, x))
    return found


def exact_solution(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return residual and solution, good to some 16 digits: QR in binary64, refined."""
    q, r = np.linalg.qr(a.astype(np.float64))

    def correction(f: np.ndarray, g: np.ndarray) -> tuple[Any, Any]:
        return by_factors(q, r, f.astype(np.float64), g.astype(np.float64))

    zero = np.zeros(len(a), np.longdouble), np.zeros(a.shape[1], np.longdouble)
    wide = (np.longdouble, np.longdouble)
    last = refine(a, b, correction, steps=6, dtypes=wide, start=zero)[-1]
    return last[0].astype(np.float64), last[1].astype(np.float64)


def errors_of(a: np.ndarray, b: np.ndarray, q: np.ndarray, r: np.ndarray, method: str) -> Any:
    """Return the larger relative error of residual and solution after each step."""
    narrow = q.astype(np.float32), r.astype(np.float32)
    x = solve_triangular(narrow[1], narrow[0].T @ b)
    start = (b - a @ x, x) if np.isfinite(x).all() else (b, np.zeros_like(x))

    def correction(f: np.ndarray, g: np.ndarray) -> tuple[Any, Any]:
        if method == "by GMRES":
            return by_gmres(a, q, r, f, g)
        return by_factors(*narrow, f.astype(np.float32), g.astype(np.float32))

    exact = exact_solution(a, b)
    dtypes = (np.float32, np.float64)
    found = refine(a, b, correction, steps=MOST, dtypes=dtypes, start=start)
    errors = np.full(MOST + 1, np.inf)
    for step, pair in enumerate(found):
        away = zip(pair, exact, strict=True)
        errors[step] = max(np.linalg.norm(ours - x) / np.linalg.norm(x) for ours, x in away)
    return errors


def compute(
    fast: bool,
    *,
    format_: str = "fp16",
    m: int = 100,
    n: int = 10,
    exponents: tuple[int, ...] = PUBLISHED["exponent"],
    matrices: int = 2,
    seed: int = SEED,
) -> Results:
    """Return the errors after each step, shape (exponents, matrices, steps + 1), by method.

    Parameters
    ----------
    fast : bool
        Whether not to take four times as many matrices.
    format_ : str
        Format of the factors.
    m, n : int
        Rows and columns.
    exponents : tuple of int
        The condition numbers are 10**exponent.
    matrices : int
        For each condition number.
    seed : int
        Of matrices and right-hand sides.
    """
    if m < n:
        raise ValueError(f"m is {m}; allowed are integers from n, {n}")
    rng = np.random.default_rng(seed)
    count = matrices if fast else 4 * matrices
    exponent = np.repeat(exponents, count)
    a = with_condition(rng, (m, n), exponent).astype(np.float32)
    b = rng.normal(size=(len(a), m))
    b = (b / np.linalg.norm(b, axis=1)[:, None]).astype(np.float32)
    wide = a.astype(np.float64)
    largest = float(ps.round_to(1e300, format_, overflow="saturate"))
    scale = 0.1 * largest / np.linalg.norm(wide, axis=1)
    q, r = householder(np.asarray(ps.round_to(wide * scale[:, None], format_), np.float32), format_)
    r = r / scale[:, None]
    results: Results = {"exponent": np.array(exponents)}
    for method in METHODS:
        errors = [errors_of(a[k], b[k], q[k], r[k], method) for k in range(len(a))]
        results[method] = np.reshape(errors, (len(exponents), count, MOST + 1))
    return results


def steps_needed(errors: np.ndarray) -> np.ndarray:
    """Return the first step with an error of at most 2**-23, inf if there is none."""
    done = errors <= 2.0**-23
    return np.where(done.any(axis=-1), done.argmax(axis=-1), np.inf)


def check(results: Results) -> list[Check]:
    """Check who converges, and the steps of GMRES-based refinement."""
    checks = []
    rows = zip(*(PUBLISHED[name] for name in ("exponent", *METHODS)), strict=True)
    ours = {method: steps_needed(results[method]) for method in METHODS}
    for k, (exponent, factors, krylov) in enumerate(rows):
        label = f"kappa = 1e{exponent}"
        share = float(np.isfinite(ours["by factors"][k]).mean())
        limits = (0.5, 1.0) if np.isfinite(factors) else (0.0, 0.0)
        text = f"by factors, {label}, share that converges"
        checks.append(Check(text, limits, share, "range", grade="C"))
        if not np.isfinite(krylov):
            continue
        for which, steps in enumerate(ours["by GMRES"][k].tolist()):
            text = f"by GMRES, {label}, matrix {which}, steps"
            checks.append(Check(text, (1, krylov + 1), steps, "range", grade="C"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw the steps against the condition number, and the errors of the first matrices."""
    x = 10.0 ** results["exponent"]
    for method, marker in zip(METHODS, "so", strict=True):
        steps = steps_needed(results[method])
        shown = np.where(np.isfinite(steps), steps, MOST + 2)
        for column in shown.T:
            axes[0].plot(x, column, marker, color=f"C{METHODS.index(method)}", label=method)
        theirs = np.minimum(PUBLISHED[method], MOST + 2)
        ps.plots.plot_published(axes[0], 10.0 ** np.array(PUBLISHED["exponent"]), theirs)
    axes[0].set_yticks([1, 5, 10, 15, MOST + 2], ["1", "5", "10", "15", "never"])
    axes[0].set(xlabel="condition number", ylabel="steps to convergence", xscale="log")
    axes[0].set_title("QR in fp16, refined to fp32")
    curves = {}
    for k, exponent in enumerate(results["exponent"].tolist()):
        if exponent in (3, 4, 6):
            for method in METHODS:
                errors = results[method][k, 0]
                errors = errors[np.isfinite(errors)][:13]
                curves[f"κ = 1e{exponent}, {method}"] = (np.arange(errors.size), errors)
    ps.plots.plot_curves(axes[1], curves)
    axes[1].axhline(2.0**-23, color="black", linewidth=0.8, label="converged")
    axes[1].set(xlabel="refinement step", ylabel="relative error", yscale="log")
    axes[1].set_title("first matrix of each κ")
    for panel in axes:
        ps.plots.finish(panel)
