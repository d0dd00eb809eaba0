"""LU factors by integer products: each operand split into slices of 7 bits, products added exactly.

A. Abdelfattah, J. Dongarra, M. Fasi, M. Mikaitis, F. Tisseur, *Analysis of Floating-Point Matrix
Multiplication Computed via Integer Arithmetic*, arXiv 2506.11277, with
`linear_system_solve_exhaustive_splits.m` and its data file of
north-numerical-computing/integer-matrix-multiply-experiments. Block LU of order 500 in binary64,
blocks of 10; each update A - L U of the trailing matrix takes L U from the Ozaki scheme on integer
units: rows of L and columns of U are scaled by powers of two and cut, toward zero, into s_A and s_B
slices of 7 bits. Products of slices are exact integers, added up exactly where their weights are
the same. The products of low weight, below the diagonal max(s_A, s_B), are left out.

The measure is HPL's: log(|b - A x| / (eps (|A| |x| + |b|) n)), infinity norms. The matrix is
anymatrix's `core/blockhouse`, I - 2 Z pinv(Z) with Z(:) = 1 ... 2n, and b MATLAB's first `rand`.
MATLAB's pinv may differ from ours in the last bits of A. With at most 3 slices on one side no digit
hangs on them, with more some do, and with 6 on both sides they move the error by some tenths.
"""

from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

import precsim as ps
from experiments.check import Check, Grade, Results
from experiments.matlab_random import rand, rng

TITLE = "LU on integer units: backward error for 1 to 8 slices of 7 bits of each operand"
CITATION = "Abdelfattah et al., arXiv 2506.11277; gaussian_IMMA_test_exhaustive_splits.dat"
CLASS: Grade = "A"
PANELS = 1

PUBLISHED: dict[str, Any] = {
    "read in": "data/gaussian_IMMA_test_exhaustive_splits.dat of "
    "north-numerical-computing/integer-matrix-multiply-experiments (BSD-2): natural logarithms, 7 digits",
    "log error": (  # one row for each number of slices of A
        (27.77925, 27.54267, 27.51721, 27.51338, 27.51338, 27.51338, 27.51338, 27.51338),
        (27.42890, 24.40135, 23.17629, 23.01275, 23.07478, 23.07478, 23.07478, 23.07478),
        (27.44141, 23.02241, 19.91992, 18.90370, 18.95910, 18.98778, 18.98779, 18.98779),
        (27.44016, 22.99853, 18.19234, 15.41467, 13.94502, 14.05034, 14.05524, 14.05528),
        (27.44016, 22.98107, 18.15080, 13.37281, 10.76435, 9.037880, 9.141485, 9.145691),
        (27.44016, 22.98160, 18.13908, 13.30360, 8.525444, 6.115488, 4.278628, 4.320288),
        (27.44016, 22.98160, 18.13911, 13.32647, 8.471308, 3.687770, 1.428522, -0.4562837),
        (27.44016, 22.98160, 18.13911, 13.32632, 8.504246, 3.620765, -1.122339, -2.370464),
    ),
}
FAST = ((1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2), (3, 3), (4, 4), (5, 5), (8, 8))
SURE = 3  # slices: with as many on one side, or fewer, the digits do not hang on the last bits of A


def blockhouse(n: int) -> np.ndarray:
    """Return the block Householder matrix of order n, symmetric and orthogonal."""
    z = np.arange(1.0, 2 * n + 1).reshape(2, n).T
    return np.eye(n) - 2 * z @ np.linalg.pinv(z)


def slices(x: np.ndarray, count: int, bits: int, axis: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return integers t_1, t_2, ... and powers of two p: x is p sum t_k 2**-(bits k), cut off.

    p is the smallest power above all entries along the axis. All operations are exact.
    """
    exponents = np.frexp(np.abs(x).max(axis=axis, keepdims=True))[1]
    rest, found = np.ldexp(x, -exponents), []
    for _ in range(count):
        rest = np.ldexp(rest, bits)
        found.append(np.trunc(rest))
        rest = rest - found[-1]
    return found, np.ldexp(1.0, exponents)


def product(a: np.ndarray, b: np.ndarray, splits: tuple[int, int], bits: int) -> np.ndarray:
    """Return a @ b by slices: integers of one weight added exactly, the weights in binary64.

    The integers fit in 32 bits for inner dimensions up to some thousands: binary64 holds them.
    """
    (left, powers), (right, others) = slices(a, splits[0], bits, 1), slices(b, splits[1], bits, 0)
    result = np.zeros((a.shape[0], b.shape[1]))
    for weight in range(max(splits)):
        first, last = max(0, weight - splits[1] + 1), min(weight, splits[0] - 1)
        pairs = [(left[i], right[weight - i]) for i in range(first, last + 1)]
        if pairs:
            columns, rows = zip(*pairs, strict=True)
            total = np.hstack(columns) @ np.vstack(rows)
            result += np.ldexp(total, -bits * (weight + 2)) * (powers * others)
    return result


def eliminate(panel: np.ndarray) -> np.ndarray:
    """Factorise a panel of at least as many rows as columns in place; return the order of rows."""
    order = np.arange(len(panel))
    for k in range(min(panel.shape[1], len(panel) - 1)):
        pivot = k + int(np.abs(panel[k:, k]).argmax())
        for rows in (panel, order):
            rows[[k, pivot]] = rows[[pivot, k]]
        if panel[k, k]:
            panel[k + 1 :, k] /= panel[k, k]
            panel[k + 1 :, k + 1 :] -= np.outer(panel[k + 1 :, k], panel[k, k + 1 :])
    return order


def factorise(
    a: np.ndarray, splits: tuple[int, int], block: int, bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return L and U in one array, and the order of the rows."""
    a, order = a.copy(), np.arange(len(a))
    for start in range(0, len(a), block):
        end = start + block
        panel = a[start:, start:end].copy()
        moved = start + eliminate(panel)
        a[start:], order[start:] = a[moved], order[moved]
        a[start:, start:end] = panel
        top = solve_triangular(panel[:block], a[start:end, end:], lower=True, unit_diagonal=True)
        a[start:end, end:] = top
        if end < len(a):
            a[end:, end:] -= product(panel[block:], top, splits, bits)
    return a, order


def hpl_error(
    a: np.ndarray, b: np.ndarray, splits: tuple[int, int], block: int, bits: int
) -> float:
    """Return the natural logarithm of HPL's scaled residual."""
    factors, order = factorise(a, splits, block, bits)
    y = solve_triangular(factors, b[order], lower=True, unit_diagonal=True)
    x = solve_triangular(factors, y)
    norm = np.abs(a).sum(axis=1).max() * np.abs(x).max() + np.abs(b).max()
    return float(np.log(np.abs(a @ x - b).max() / (np.finfo(float).eps * norm * len(a))))


def compute(fast: bool, *, n: int = 500, block: int = 10, bits: int = 7) -> Results:
    """Return the error for each pair of slices, NaN where it was not computed.

    Parameters
    ----------
    fast : bool
        Whether to compute ten pairs, not all.
    n : int
        Order of the matrix, a multiple of `block`.
    block : int
        Columns of a panel.
    bits : int
        Of a slice.
    """
    if n % block:
        raise ValueError(f"n is {n}; allowed are multiples of block, {block}")
    a, b = blockhouse(n), rand(rng(0), n, 1)[:, 0]
    most = len(PUBLISHED["log error"])
    errors = np.full((most, most), np.nan)
    for i, j in FAST if fast else np.ndindex(most, most):
        pair = (i, j) if fast else (i + 1, j + 1)
        errors[pair[0] - 1, pair[1] - 1] = hpl_error(a, b, pair, block, bits)
    results: Results = {"n": np.array(n), "bits": np.array(bits)}
    return results | {"slices": np.arange(1, most + 1), "log error": errors}


def check(results: Results) -> list[Check]:
    """Compare every digit where few slices are kept, and within 0.5 elsewhere."""
    checks = []
    for (i, j), ours in np.ndenumerate(results["log error"]):
        if np.isnan(ours):
            continue
        theirs, label = PUBLISHED["log error"][i][j], f"{i + 1} slices of A, {j + 1} of B"
        if min(i, j) < SURE:
            checks.append(Check(label, theirs, float(ours), "digits", 6, "A"))
        else:
            checks.append(Check(label, theirs, float(ours), "absolute", 0.5, "B"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw the error against the slices of B, a curve for each number of slices of A."""
    count, errors = results["slices"], results["log error"] / np.log(10)
    computed = ~np.isnan(errors)
    curves = {}
    for k in range(len(count)):
        if computed[k].any():
            curves[f"{k + 1} of A"] = (count[computed[k]], errors[k][computed[k]])
    ps.plots.plot_curves(axes[0], curves)
    published = np.array(PUBLISHED["log error"]) / np.log(10)
    x = np.broadcast_to(count, published.shape)
    ps.plots.plot_published(axes[0], x[computed], published[computed])
    axes[0].set(xlabel="slices of B", ylabel="log10 of HPL's scaled residual")
    axes[0].set_title(f"LU of order {int(results['n'])}, slices of {int(results['bits'])} bits")
    ps.plots.finish(axes[0])
