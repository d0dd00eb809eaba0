"""``python -m experiments.summation_orders [FILE.svg]``: errors of orders against their bounds.

For each accumulator, order and length n: dot products of data made to build up errors (equal terms,
whose roundings go one way for long; uniform and normal numbers; growing terms), computed by
`ps.matmul`; the largest error found, as a multiple of the sum of magnitudes, must not exceed
`ps.errors.order_bound`. Draws both and prints a table.
"""

import math
import sys
from typing import Any

import numpy as np

import precsim as ps

ACCUMULATORS = ("fp32", "fp16", "bf16")
ORDERS = ("sequential", "blocked100", "pairwise", "kahan", "two_sum", "exact")
LENGTHS = (10, 100, 1000, 10_000)
SETS = 96
SEED = 1
BACKEND = "auto"


def data(n: int, accumulator: str) -> tuple[np.ndarray, np.ndarray]:
    """Return operands (SETS, n), (n, 1) in the accumulator's format; 3 sets of 4 have one sign."""
    rng = np.random.default_rng([SEED, n])
    a = np.empty((SETS, n), np.float32)
    a[0::4] = rng.uniform(0.5, 1, (len(a[0::4]), 1))
    a[1::4] = rng.uniform(0, 1, (len(a[1::4]), n))
    a[2::4] = rng.standard_normal((len(a[2::4]), n))
    a[3::4] = rng.uniform(0.5, 1, (len(a[3::4]), 1)) * np.sort(rng.uniform(0, 1, n))
    b = rng.uniform(0.5, 1, (n, 1)).astype(np.float32)
    b[:] = b[0]
    return tuple(np.asarray(ps.round_to(x, accumulator)) for x in (a, b))  # type: ignore[return-value]


def largest_error(order: str, n: int, accumulator: str) -> float:
    """Return the largest error over the sets, as a multiple of the sum of magnitudes."""
    a, b = data(n, accumulator)
    spec = f"raw_raw_{accumulator}:{order}"
    got = np.asarray(ps.matmul(a, b, spec, backend=BACKEND))[:, 0].astype(np.float64)
    # Products of float32 are exact in float64, and fsum is exact.
    products = a.astype(np.float64) * b[:, 0].astype(np.float64)
    return max(
        abs(math.fsum([*row, -value])) / math.fsum(abs(row))
        for row, value in zip(products, got, strict=True)
    )


def compute(lengths: tuple[int, ...] = LENGTHS) -> dict[tuple[str, str], np.ndarray]:
    """Return rows (n, largest error, bound) for each accumulator and order."""
    return {
        (accumulator, order): np.array(
            [
                (
                    n,
                    largest_error(order, n, accumulator),
                    ps.errors.order_bound(order, n, accumulator),
                )
                for n in lengths
            ]
        )
        for accumulator in ACCUMULATORS
        for order in ORDERS
    }


def plot(results: dict[tuple[str, str], np.ndarray], axes: list[Any]) -> None:
    """Draw errors as lines with markers and bounds as thin dotted lines of the same colour."""
    for panel, accumulator in zip(axes, ACCUMULATORS, strict=True):
        rows = {order: results[accumulator, order].T for order in ORDERS}
        bounds = {order: (n, bound) for order, (n, _, bound) in rows.items()}
        look: dict[str, Any] = {"linewidth": 0.8, "linestyle": ":", "marker": ""}
        ps.plots.plot_curves(panel, bounds, label="bound", **look)
        errors = {order: (n, np.where(e > 0, e, np.nan)) for order, (n, e, _) in rows.items()}
        ps.plots.plot_curves(panel, errors)
        panel.set(title=f"{accumulator} accumulator", xscale="log", yscale="log")
        panel.set(xlabel="n", ylabel="error / sum of magnitudes")
        ps.plots.finish(panel)


def main(arguments: list[str]) -> int:
    """Compute, print, draw; 1 if an error exceeds its bound."""
    results = compute()
    exceeded = 0
    for (accumulator, order), rows in results.items():
        for n, error, bound in rows:
            exceeded += error > bound
            ratio = bound / error if error else math.inf
            print(
                f"{accumulator:5} {order:11} n = {n:6.0f}  {error:8.2e} <= {bound:8.2e}  x {ratio:7.1f}"
            )
    if arguments:
        with ps.plots.figure(len(ACCUMULATORS), path=arguments[0]) as axes:
            plot(results, axes)
    return int(exceeded > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
