"""More precision does not always give more accuracy: a plateau, and a zig-zag.

N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd edition, SIAM, 2002, section
1.13, Figs. 1.3 and 1.4. First (1.4) y = x + a sin(b x), x = 1/7, a = 1e-8, b = 2**24, in t
significant bits: the error is exactly the same for t = 22 to 31. Then (1.3) A x = b by Gaussian
elimination without pivoting, b_i = (-1)**i i: for the inverse of the Hilbert matrix of order 5 the
error zig-zags with t although the residual falls; pascal(5) + I is the well-conditioned
counterpart. (The text of the book swaps the condition numbers of the two matrices and says
pascal(5) + 5 I; the figure has + I.)
"""

from fractions import Fraction
from typing import Any

import numpy as np
from scipy.linalg import invhilbert, pascal

import precsim as ps
from experiments.check import Check, Grade, Results

TITLE = "Error against the precision t: constant from 22 to 31 bits; zig-zag in elimination"
CITATION = "Higham, Accuracy and Stability, 2nd ed., 2002, 1.13, Figs. 1.3-1.4"
CLASS: Grade = "A"
PANELS = 2
SECONDS = (3.6, 3.6)

PLATEAU = range(22, 32)
PUBLISHED: dict[str, Any] = {
    "read in": "text of section 1.13: constant for 22 <= t <= 31; kappa(pascal(5) + I). Values of errors: an "
    "emulator independent of precsim, 2 to 4 digits (the book gives curves only); kappa(invhilb(5)) likewise, "
    "the book prints 9.55e5",
    "y": {21: (5.96e-08, 2), **dict.fromkeys(PLATEAU, (3.379e-11, 3))},
    "y beyond": {32: (2.442e-11, 3), 40: (8.897e-14, 2)},
    "invhilb": {17: (2.4e-4, 1), 18: (1.6e-2, 1), 19: (3.8e-5, 1), 20: (5.4e-3, 1)},
    "kappa": {"invhilb": (9.437e5, 3), "pascal": (1.62e2, 2)},
    "zig-zag": "errors at odd t at least 10 times smaller than at even t, t = 17 to 31",
}
PRECISIONS = tuple(range(10, 41))
FIRST_SOLVED = 15  # of the linear systems, as in the book
SPEC = "float(e=11,p={})"
MATRICES = {"invhilb": invhilbert(5), "pascal": pascal(5) + np.eye(5)}
RIGHT_SIDE = np.array([-1.0, 2.0, -3.0, 4.0, -5.0])


def sine_error(spec: str, a: float, b: float, *, rounds_data: bool) -> float:
    """Return the error of y = fl(x + fl(a fl(sin(fl(b x))))), for rounded or exact x and a.

    The sine itself is NumPy's in float64, then rounded: its error of about 2**-53 could change a
    rounding to 40 bits only where sin(b x) lies as near to a tie.
    """
    x, a, b = map(np.float64, (1 / 7, a, b))
    exact = x + a * np.sin(b * x)
    if rounds_data:
        x, a = (np.float64(ps.round_to(value, spec)) for value in (x, a))
    sine = ps.round_to(np.sin(ps.multiply(b, x, spec)), spec)
    return float(abs(ps.add(x, ps.multiply(a, sine, spec), spec) - exact))


def solve(matrix: np.ndarray, right: np.ndarray, spec: str) -> np.ndarray:
    """Return x by elimination without pivoting (row by row) and back substitution from the left."""
    a, b, n = matrix.astype(np.float64), right.copy(), len(right)
    for k in range(n - 1):
        factor = ps.divide(a[k + 1 :, k], a[k, k], spec)
        steps = ps.multiply(factor[:, None], a[k, k + 1 :], spec)
        a[k + 1 :, k + 1 :] = ps.subtract(a[k + 1 :, k + 1 :], steps, spec)
        b[k + 1 :] = ps.subtract(b[k + 1 :], ps.multiply(factor, b[k], spec), spec)
    x = np.zeros(n)
    for i in reversed(range(n)):
        rest = b[i]
        for j in range(i + 1, n):
            rest = ps.subtract(rest, ps.multiply(a[i, j], x[j], spec), spec)
        x[i] = ps.divide(rest, a[i, i], spec)
    return x


def solve_exactly(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return x in exact rational arithmetic, rounded to float64 at the end."""
    rows = [
        [Fraction(x) for x in (*row, y)]
        for row, y in zip(matrix.tolist(), right.tolist(), strict=True)
    ]
    for k, pivot in enumerate(rows):
        pivot[:] = [x / pivot[k] for x in pivot]
        for i, row in enumerate(rows):
            if i != k:
                row[:] = [x - row[k] * y for x, y in zip(row, pivot, strict=True)]
    return np.array([float(row[-1]) for row in rows])


def compute(
    fast: bool,
    *,
    precisions: tuple[int, ...] = PRECISIONS,
    a: float = 1e-8,
    b: float = 2.0**24,
) -> Results:
    """Return the errors for every precision, and residuals of the linear systems.

    Parameters
    ----------
    fast : bool
        Not used: it takes seconds.
    precisions : tuple of int
        Significant bits t.
    a : float
        Factor of the sine.
    b : float
        Factor inside the sine.
    """
    specs = [SPEC.format(t) for t in precisions]
    results: Results = {"t": np.array(precisions)}
    for rounds_data in (True, False):
        name = "y, rounded data" if rounds_data else "y, exact data"
        results[name] = np.array(
            [sine_error(spec, a, b, rounds_data=rounds_data) for spec in specs]
        )
    for name, matrix in MATRICES.items():
        exact = solve_exactly(matrix, RIGHT_SIDE)
        found = np.array([solve(matrix, RIGHT_SIDE, spec) for spec in specs])
        size = np.abs(matrix).sum(1).max() * np.abs(found).max(1)
        results[f"{name}, error"] = np.abs(found - exact).max(1) / np.abs(exact).max()
        results[f"{name}, residual"] = np.abs(RIGHT_SIDE - found @ matrix.T).max(1) / size
        results[f"{name}, kappa"] = np.array(np.linalg.cond(matrix, np.inf))
    return results


def check(results: Results) -> list[Check]:
    """Compare the plateau exactly, other errors by printed digits, the zig-zag by its factor."""
    at = {int(t): k for k, t in enumerate(results["t"])}
    checks = []
    for name in ("y, rounded data", "y, exact data"):
        errors = results[name]
        first = float(errors[at[PLATEAU[0]]])
        checks += [
            Check(f"{name}, t = {t} as at 22", first, float(errors[at[t]])) for t in PLATEAU[1:]
        ]
        before, after = (float(errors[at[t]]) for t in (21, 32))
        checks.append(Check(f"{name}, t = 21 is worse", (10 * first, 1), before, "range"))
        checks.append(Check(f"{name}, t = 32 is better", (0, 0.9 * first), after, "range"))
    reference = [("y, rounded data", PUBLISHED["y"] | PUBLISHED["y beyond"])]
    for name, points in [*reference, ("invhilb, error", PUBLISHED["invhilb"])]:
        for t, (value, digits) in points.items():
            ours = float(results[name][at[t]])
            checks.append(Check(f"{name}, t = {t}", value, ours, "digits", digits, "B"))
    for name, (value, digits) in PUBLISHED["kappa"].items():
        ours = float(results[f"{name}, kappa"])
        checks.append(Check(f"kappa of {name}", value, ours, "digits", digits, "B"))
    zigzag = results["invhilb, error"]
    for t in range(17, 32, 2):
        ratio = float(min(zigzag[at[t - 1]], zigzag[at[t + 1]]) / zigzag[at[t]])
        checks.append(Check(f"zig-zag at t = {t}", (10, np.inf), ratio, "range", grade="B"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw the errors against the number of bits."""
    t = results["t"]
    axes[0].axvspan(PLATEAU[0], PLATEAU[-1], color="0.92", zorder=0, label="t = 22 to 31")
    data = {name: (t, results[f"y, {name}"]) for name in ("rounded data", "exact data")}
    ps.plots.plot_curves(axes[0], data, markevery=1)
    points = PUBLISHED["y"] | PUBLISHED["y beyond"]
    ps.plots.plot_published(axes[0], list(points), [y for y, _ in points.values()], "reference")
    axes[0].set(title="y = x + a sin(b x) (Fig. 1.4)", ylabel="absolute error of y")
    names = [f"{name}, {kind}" for name in MATRICES for kind in ("error", "residual")]
    solved = t >= FIRST_SOLVED
    curves = {name: (t[solved], results[name][solved]) for name in names}
    ps.plots.plot_curves(axes[1], curves, markevery=1)
    points = PUBLISHED["invhilb"]
    ps.plots.plot_published(axes[1], list(points), [y for y, _ in points.values()], "reference")
    axes[1].set(title="Gaussian elimination (Fig. 1.3)", ylabel="relative error, residual")
    for panel in axes:
        panel.set(xlabel="significant bits t", yscale="log")
        ps.plots.finish(panel)
