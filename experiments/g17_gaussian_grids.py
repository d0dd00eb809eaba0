"""Grids for Gaussian data: the least mean square error of N values, and of E2M1 with one scale.

R. L. Castro et al., *Quartet: Native FP4 Training Can Be Optimal for Large Language Models*, arXiv
2505.14669: the notebook on the fit of mean square errors (IST-DASLab/Quartet,
notebooks/mse_fitting.ipynb) scales N = 2^b equidistant values, and those of E2M1, to the least
error on standard normal numbers. Its optimiser stopped early at 6, 7, and 8 bits: the error at its
scale is the one it prints, but a larger scale is better. J. Max, *Quantizing for Minimum
Distortion*, IRE Trans. Inf. Theory 6(1), 1960: the best N values, equidistant or not.

Every error is an integral in closed form. The best scale is the zero of the error's derivative, and
the best values are those of Newton's method; the Gaussian has one optimum only. Max's errors for 8,
16, and 32 free values are below the least possible ones, by up to 0.25 %.
"""

from typing import Any

import numpy as np
from scipy.linalg import solve_banded
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

import precsim as ps
from experiments.check import Check, Grade, Results

TITLE = "Best grids for Gaussian data, 1 to 8 bits; E2M1 with its best scale"
CITATION = "Castro et al., arXiv 2505.14669 (notebook); Max, IRE Trans. Inf. Theory 1960"
CLASS: Grade = "A"
PANELS = 4
SECONDS = (1.5, 1.5)

PUBLISHED: dict[str, Any] = {
    "read in": "Quartet's notebook, output of its cells 3 and 8 (scale, error), and its cell on three values. "
    "Max's table: as quoted in the code of others (0.3634 to 0.002499).",
    "equidistant": {
        1: (0.7978845587140913, 0.3633802276324186),
        2: (1.493534520977036, 0.11884605038769407),
        3: (2.0510679063024964, 0.03743965939152373),
        4: (2.5139324513630887, 0.011542884500323213),
        5: (2.9160897658147453, 0.003495211376111403),
        6: (3.276597435983721, 0.0010400475795804263),
        7: (3.6010436416224247, 0.00030436603842457166),
        8: (3.884997364699907, 8.782117814336654e-05),
    },
    "e2m1": (0.487079483934662, 0.012684904138719949),
    "any values": {1: 0.3634, 2: 0.1175, 3: 0.03454, 4: 0.009497, 5: 0.002499},
    "digits at the optimum": {1: 12, 2: 10, 3: 12, 4: 7, 5: 8},
    "above the optimum": {6: "2e-6", 7: "1.1e-4", 8: "1.5e-3"},
}
NEAR, FAR = np.linspace(0.985, 1.015, 61), np.geomspace(0.8, 1.25, 91)
"""Factors of the best scale."""
QUANTILES = 1 << 16


def cells(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return edges of the cells, density there, and probability and first moment of the cells."""
    edges = np.concatenate([[-np.inf], (grid[1:] + grid[:-1]) / 2, [np.inf]])
    density = np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi)
    tail = ndtr(-np.abs(edges))  # of the nearer side, so that small probabilities keep their digits
    inside = np.where(edges[:-1] >= 0, tail[:-1] - tail[1:], tail[1:] - tail[:-1])
    crossing = (edges[:-1] < 0) & (edges[1:] > 0)
    inside = np.where(crossing, 1 - tail[:-1] - tail[1:], inside)
    return edges, density, inside, -np.diff(density)


def mean_square_error(grid: np.ndarray) -> float:
    """Return the mean of (x - nearest value)^2 for standard normal x."""
    _, _, probability, moment = cells(grid)
    return float(1 + np.sum(grid * (grid * probability - 2 * moment)))


def best_scale(grid: np.ndarray) -> float:
    """Return the factor of a symmetric grid with the least error."""

    def slope(scale: float) -> float:
        _, _, probability, moment = cells(scale * grid)
        return float(np.sum(grid * (scale * grid * probability - moment)))

    return float(brentq(slope, 0.1 / grid.max(), 10 / grid.max(), xtol=1e-15, rtol=1e-15))


def best_values(count: int) -> np.ndarray:
    """Return the values with the least error: each is the mean of its cell."""
    grid = ndtri(np.arange(1, count + 1) / (count + 1)) * np.sqrt(3)  # near enough for Newton
    for _ in range(20):
        _, density, probability, moment = cells(grid)
        # An edge moves half as far as each of its two values.
        flow = density[1:-1] * np.diff(grid) / 4
        bands = np.zeros((3, count))
        bands[0, 1:] = bands[2, :-1] = -flow
        bands[1] = probability - np.append(0, flow) - np.append(flow, 0)
        grid = grid - solve_banded((1, 1), bands, grid * probability - moment)
    return np.asarray((grid - grid[::-1]) / 2)


def values_of(element: str) -> np.ndarray:
    """Return the finite values of a format, ascending."""
    codes = np.arange(1 << (ps.get_format(element).width or 0), dtype=np.uint16)
    values = ps.decode(codes, element).astype(np.float64)
    return np.unique(values[np.isfinite(values)])


def compute(fast: bool, *, bits: int = 8, element: str = "e2m1") -> Results:
    """Return best scales and errors by bits and for a format, and errors around.

    Parameters
    ----------
    fast : bool
        Not used: it takes seconds.
    bits : int
        The most bits of a grid, 1 to 12.
    element : str
        A signed format of at most 16 bits, with one scale for all numbers.
    """
    if not 1 <= bits <= 12:
        raise ValueError(f"bits is {bits}; allowed are integers from 1 to 12")
    widths = np.arange(1, bits + 1)
    results: Results = {"bits": widths, "element": np.asarray(element)}
    grids = [np.linspace(-1, 1, 1 << b) for b in widths]
    scales = np.array([best_scale(grid) for grid in grids])
    results["scale"] = scales
    results["equidistant"] = np.array(
        [mean_square_error(a * grid) for a, grid in zip(scales, grids, strict=True)]
    )
    results["any values"] = np.array(
        [mean_square_error(best_values(1 << b)) for b in widths.tolist()]
    )
    results["near"], results["far"] = NEAR, FAR
    for b, scale, grid in zip(widths, scales, grids, strict=True):
        around = [mean_square_error(a * scale * grid) for a in NEAR]
        results[f"around, {b} bits"] = np.array(around)
        if b in PUBLISHED["equidistant"]:
            there = mean_square_error(PUBLISHED["equidistant"][b][0] * grid)
            results[f"at the published scale, {b} bits"] = np.asarray(there)
    values = values_of(element)
    scale = best_scale(values)
    results["element, scale"] = np.asarray(scale)
    results["element, error"] = np.asarray(mean_square_error(scale * values))
    results["element, around"] = np.array([mean_square_error(a * scale * values) for a in FAR])
    x = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
    rounded = ps.round_to(x / scale, element, overflow="saturate") * scale
    results["element, rounded"] = np.asarray(np.mean((rounded - x) ** 2))
    nearest = int(np.argmin(abs(widths - np.log2(values.size))))
    results["grid, equidistant"] = scales[nearest] * grids[nearest]
    results["grid, any values"] = best_values(1 << int(widths[nearest]))
    results["grid, element"] = scale * values
    return results


def check(results: Results) -> list[Check]:
    """Compare errors at the published scale and at the optimum, and how far the two are apart."""
    checks = []
    ours, scales = (
        dict(zip(results["bits"].tolist(), results[name].tolist(), strict=True))
        for name in ("equidistant", "scale")
    )
    for b, (_, error) in PUBLISHED["equidistant"].items():
        there = float(results[f"at the published scale, {b} bits"])
        checks.append(Check(f"{b} bits, at the published scale", error, there, "digits", 8))
    for b, digits in PUBLISHED["digits at the optimum"].items():
        error = PUBLISHED["equidistant"][b][1]
        checks.append(Check(f"{b} bits, optimum", error, ours[b], "digits", digits - 1))
    for b, text in PUBLISHED["above the optimum"].items():
        above = PUBLISHED["equidistant"][b][1] / ours[b] - 1
        digits = len(text.split("e")[0].replace(".", "")) - 1
        label = f"{b} bits, published error above the optimum"
        checks.append(Check(label, float(text), above, "digits", digits))
        short = 1 - PUBLISHED["equidistant"][b][0] / scales[b]
        label = f"{b} bits, published scale below the best"
        checks.append(Check(label, (0, 0.01), short, "range", grade="B"))
    scale, error = PUBLISHED["e2m1"]
    checks.append(Check("E2M1, scale", scale, float(results["element, scale"]), "digits", 5))
    checks.append(Check("E2M1, error", error, float(results["element, error"]), "digits", 11))
    best = dict(zip(results["bits"].tolist(), results["any values"].tolist(), strict=True))
    for b, published in PUBLISHED["any values"].items():
        label = f"{b} bits, any values"
        if b <= 2:
            checks.append(Check(label, published, best[b], "digits", 3))
        else:
            label += ", published error above the least"
            above = published / best[b] - 1
            checks.append(Check(label, (-2.5e-3, 0), above, "range", grade="B"))
    most = results["bits"][-1]
    limit = np.pi * np.sqrt(3) / 2
    label = f"{most} bits, any values, times 4^bits"
    checks.append(Check(label, limit, best[most] * 4.0**most, "relative", 0.01, "C"))
    ratio = float(results["element, rounded"] / results["element, error"])
    checks.append(Check("E2M1, round_to against the integral", 1.0, ratio, "absolute", 1e-3, "B"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw errors by bits, errors by scale, the error of the format by scale, and the grids."""
    bits, element = results["bits"], str(results["element"])
    limit = 4.0 ** -bits.astype(float)
    curves = {name: (bits, results[name] / limit) for name in ("equidistant", "any values")}
    ps.plots.plot_curves(axes[0], curves)
    width = np.log2(results["grid, element"].size)
    error = float(results["element, error"])
    best = {f"{element}, best scale": ([width], [error * 4**width])}
    ps.plots.plot_curves(axes[0], best, linestyle="none")
    for name in ("equidistant", "any values"):
        published = PUBLISHED[name]
        shown = [b for b in bits.tolist() if b in published]
        errors = [np.atleast_1d(published[b])[-1] * 4.0**b for b in shown]
        ps.plots.plot_published(axes[0], shown, errors, "published")
    axes[0].set(xlabel="bits b", ylabel="mean square error x $4^b$", title="Gaussian data")
    for b in bits.tolist()[-3:]:
        excess = results[f"around, {b} bits"] / results["equidistant"][b - 1] - 1
        axes[1].plot(results["near"], excess, label=f"{b} bits")
        if b in PUBLISHED["equidistant"]:
            scale, error = PUBLISHED["equidistant"][b]
            point = scale / results["scale"][b - 1], error / results["equidistant"][b - 1] - 1
            ps.plots.plot_published(axes[1], [point[0]], [point[1]], "published")
    axes[1].set(xlabel="scale / best scale", ylabel="relative error above optimum")
    axes[1].set_title("equidistant values")
    scales = results["far"] * results["element, scale"]
    ps.plots.plot_curves(axes[2], {element: (scales, results["element, around"])}, marker="")
    if element == "e2m1":
        scale, error = PUBLISHED["e2m1"]
        ps.plots.plot_published(axes[2], [scale], [error], "published")
    axes[2].set(xlabel="scale", ylabel="mean square error", title=f"{element}, one scale for all")
    names = {"equidistant": "equidistant", "any values": "any values", "element": element}
    for height, name in enumerate(names):
        grid = results[f"grid, {name}"]
        axes[3].plot(grid, np.full(grid.size, height), "|", markersize=10, color="black")
    axes[3].set_yticks(range(len(names)), list(names.values()))
    axes[3].set(ylim=(-0.5, len(names) - 0.5), xlabel="value, in standard deviations")
    axes[3].set_title(f"best grids of about {width:.1f} bits")
    for panel in axes:
        ps.plots.finish(panel)
