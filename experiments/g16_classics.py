"""Classics of rounding errors, for teaching: each shows one effect in a few operations.

N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd edition, SIAM, 2002: Table 1.1
(one rounding error spoils (1 + 1/n)**n), 1.9 (variance in one pass), 1.12.2 (60 square roots, 60
squarings), 1.12.3 (sum of 1/k**2), 1.14.1 ((exp(x) - 1) / x). J.-M. Muller's recurrence u <- 111 -
1130/u + 3000/(u v) with limit 6, which every precision takes to 100. A quadratic equation. The
index of the Vancouver Stock Exchange, truncated to three decimals after each of 2800 trades a day
for 462 days: it lost 574 of its points (524.811 where 1098.892 was right).
"""

from functools import partial
from typing import Any

import jax
import numpy as np

import precsim as ps
from experiments.check import Check, Grade, Results

TITLE = "Classics: (1 + 1/n)^n, variance, exp(x) - 1, Muller's recurrence, a stock index (teaching)"
CITATION = "Higham, Accuracy and Stability, 2nd ed., 2002, ch. 1; Muller; Vancouver Stock Exchange, 1982-83"
CLASS: Grade = "A"
PANELS = 4
SECONDS = (2.5, 2.5)
SEED = 16

POWERS = 10 ** np.arange(1, 8)
_E_TABLE = (2.593743, 2.704811, 2.717051, 2.718597, 2.721962, 2.595227, 3.293968)
PUBLISHED: dict[str, Any] = {
    "read in": "the book: Table 1.1 and sections 1.9, 1.12.2, 1.12.3, 1.14.1; published index: several accounts of "
    "the Vancouver case. Class B: an emulator independent of precsim. For exp(x) - 1 the book does not round the "
    "last quotient to fp32 and prints 1.32454766, 1.00000006",
    "(1 + 1/n)**n": dict(zip(POWERS.tolist(), _E_TABLE, strict=True)),
    "variance": {"one pass": 0.0, "two passes": 1.0},
    "(exp(x) - 1) / x at 9e-8": {"naive": 1.3245476, "by log": 1.0000001},
    "60 roots, 60 squarings of 100": 1.0,
    "sum of 1 / k**2": (1.64472532, 4096),
    "Muller, index of 100": {"bf16": 6, "fp16": 11, "fp32": 16, "fp64": 23},
    "0.1 added 10 times": {"fp16": 1.0, "bf16": 1.0078125, "fp32": 1.0000001192},
    "small root of x**2 + 56 x + 1": {"bf16": 0.0, "fp16": -0.015625, "exact": -0.0178628},
    "index lost": 574.081,
}
FORMATS = {"bf16": "bf16", "fp16": "fp16", "fp32": "fp32", "fp64": "float(e=11,p=53)"}
LANES, TRADES, ALL_TRADES = 200, 5600, 2800 * 462
_MULLER = "Muller, "
POINT = "q21.0:rtn"  # the index in units of 0.001, truncated to a whole number


def _value(x: float, name: str) -> Any:
    """Return a number in a carrier that has the format."""
    return np.asarray(x, np.float64 if name == "fp64" else np.float32)


def towards_e() -> np.ndarray:
    """Return fl((1 + 1/n)**n) in fp32; the power itself is computed in float64, then rounded."""
    n = POWERS.astype(np.float32)
    base = ps.add(np.float32(1), ps.divide(np.float32(1), n, "fp32"), "fp32")
    return np.asarray(ps.round_to(base.astype(np.float64) ** n, "fp32"))


def variances(x: np.ndarray, spec: str) -> list[float]:
    """Return the sample variance by one-pass sums of x, x**2, and by deviations from the mean."""
    n = np.float32(x.size)
    total = ps.accumulate(x, spec)
    squares = ps.accumulate(ps.multiply(x, x, spec), spec)
    spread = ps.subtract(squares, ps.divide(ps.multiply(total, total, spec), n, spec), spec)
    away = ps.subtract(x, ps.divide(total, n, spec), spec)
    sums = (spread, ps.accumulate(ps.multiply(away, away, spec), spec))
    return [ps.divide(y, n - np.float32(1), spec).item() for y in sums]


def relative_exponential(x: np.ndarray, spec: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (exp(x) - 1) / x, and (y - 1) / log(y) with y = exp(x)."""
    y = ps.exp(x, spec)
    above = ps.subtract(y, np.float32(1), spec)
    by_log = np.where(y == 1, np.float32(1), ps.divide(above, ps.log(y, spec), spec))
    return np.asarray(ps.divide(above, x, spec)), by_log


def muller(name: str, steps: int) -> np.ndarray:
    """Return u_0, u_1, ... of Muller's recurrence from 2, -4."""
    spec = FORMATS.get(name, name)
    a, b, c, *u = (_value(x, name) for x in (111, 1130, 3000, 2, -4))
    for _ in range(steps):
        first = ps.subtract(a, ps.divide(b, u[-1], spec), spec)
        u.append(ps.add(first, ps.divide(c, ps.multiply(u[-1], u[-2], spec), spec), spec))
    return np.array(u, np.float64)


def roots_and_squarings(name: str) -> float:
    """Return 100 after 60 square roots and 60 squarings."""
    x: Any = _value(100, name)
    for _ in range(60):
        x = ps.sqrt(x, FORMATS.get(name, name))
    for _ in range(60):
        x = ps.multiply(x, x, FORMATS.get(name, name))
    return float(x)


def small_root(name: str) -> float:
    """Return (-b + sqrt(b**2 - 4)) / 2 for b = 56, which cancels."""
    spec, b = FORMATS[name], _value(56, name)
    inside = ps.subtract(ps.multiply(b, b, spec), _value(4, name), spec)
    return float(ps.divide(ps.add(-b, ps.sqrt(inside, spec), spec), _value(2, name), spec))


@partial(jax.jit, static_argnames="spec")
def running_sums(start: Any, terms: Any, spec: str) -> Any:
    """Return start + terms[0], + terms[1], ..., every sum rounded."""

    def step(total: Any, term: Any) -> tuple[Any, Any]:
        total = ps.add(total, term, spec)
        return total, total

    return jax.lax.scan(step, start, terms)[1]


def inverse_squares() -> tuple[float, int]:
    """Return the fp32 sum of 1 / k**2 where it stops, and the k at which it reaches that value."""
    k = np.arange(1, 5000, dtype=np.float32)
    terms = ps.divide(np.float32(1), ps.multiply(k, k, "fp32"), "fp32")
    sums = np.asarray(running_sums(np.float32(0), terms, spec="fp32"))
    return float(sums[-1]), int((sums == sums[-1]).argmax()) + 1


def lost_points(seed: int) -> np.ndarray:
    """Return the points lost by truncating after each trade: mean of LANES indices from 1000."""
    size = (TRADES, LANES)
    changes = np.random.default_rng(seed).integers(-1024, 1024, size).astype(np.float32) / 64
    start = np.full(LANES, 1e6, np.float32)
    found = np.asarray(running_sums(start, changes, spec=POINT), np.float64)
    exact = start + np.cumsum(changes, axis=0, dtype=np.float64)
    return np.asarray((exact - found).mean(1) / 1000)


def compute(
    fast: bool, *, formats: tuple[str, ...] = tuple(FORMATS), steps: int = 28, seed: int = SEED
) -> Results:
    """Return the results of all classics.

    Parameters
    ----------
    fast : bool
        Not used: it takes seconds.
    formats : tuple of str
        Formats of Muller's recurrence, and of the 60 roots and squarings.
    steps : int
        Of Muller's recurrence.
    seed : int
        Of the trades.
    """
    results: Results = {"power of n": POWERS, "(1 + 1/n)**n": towards_e()}
    results["variance"] = np.array(variances(np.array([10000, 10001, 10002], np.float32), "fp32"))
    x = np.append(np.float32(9e-8), np.logspace(-8, -4, 161).astype(np.float32))
    results["x"] = x
    results["naive"], results["by log"] = relative_exponential(x, "fp32")
    results["60 roots"] = np.array([roots_and_squarings(name) for name in formats])
    results["1 / k**2"] = np.array(inverse_squares())
    for name in formats:
        results[_MULLER + name] = muller(name, steps)
    results["0.1 added"] = np.array(
        [
            ps.accumulate(np.full(10, ps.round_to(_value(0.1, name), name)), name).item()
            for name in PUBLISHED["0.1 added 10 times"]
        ]
    )
    results["small root"] = np.array([small_root(name) for name in ("bf16", "fp16", "fp64")])
    results["points lost"] = lost_points(seed)
    return results


def check(results: Results) -> list[Check]:
    """Compare what is printed by all digits (class A), the rest with the emulator (class B)."""
    checks = [
        Check(f"(1 + 1/n)**n, n = {n}", published, float(ours), "digits", 6)
        for (n, published), ours in zip(
            PUBLISHED["(1 + 1/n)**n"].items(), results["(1 + 1/n)**n"], strict=True
        )
    ]
    for (name, published), ours in zip(
        PUBLISHED["variance"].items(), results["variance"], strict=True
    ):
        checks.append(Check(f"variance, {name}", published, float(ours)))
    for name, published in PUBLISHED["(exp(x) - 1) / x at 9e-8"].items():
        label = f"(exp(x) - 1) / x, {name}"
        checks.append(Check(label, published, float(results[name][0]), "digits", 7, "B"))
    for name, ours in zip(FORMATS, results["60 roots"], strict=True):
        label = f"60 roots, 60 squarings, {name}"
        checks.append(Check(label, PUBLISHED["60 roots, 60 squarings of 100"], float(ours)))
    (total, k), (our_total, our_k) = PUBLISHED["sum of 1 / k**2"], results["1 / k**2"].tolist()
    checks.append(Check("sum of 1 / k**2", total, our_total, "digits", 8))
    checks.append(Check("sum of 1 / k**2, last k", k, our_k))
    for name, published in PUBLISHED["Muller, index of 100"].items():
        near = np.abs(results[f"Muller, {name}"] - 100) < 5e-5
        checks.append(
            Check(f"Muller, {name}, index of 100", published, float(near.argmax()), grade="B")
        )
    for (name, published), ours in zip(
        PUBLISHED["0.1 added 10 times"].items(), results["0.1 added"], strict=True
    ):
        label = f"0.1 added 10 times, {name}"
        checks.append(Check(label, published, float(ours), "digits", 10, "B"))
    for (name, published), ours in zip(
        PUBLISHED["small root of x**2 + 56 x + 1"].items(), results["small root"], strict=True
    ):
        label = f"small root, {name}"
        checks.append(Check(label, published, float(ours), "digits", 5, "B"))
    lost = float(results["points lost"][-1] * ALL_TRADES / TRADES)
    near_published = (0.9 * PUBLISHED["index lost"], 1.2 * PUBLISHED["index lost"])
    checks.append(Check("index lost in 462 days", near_published, lost, "range", grade="C"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw four of the classics."""
    error = np.abs(results["(1 + 1/n)**n"] - np.e)
    ps.plots.plot_curves(axes[0], {"fp32": (POWERS, error)})
    exact = np.abs(np.exp(POWERS * np.log1p(1 / POWERS)) - np.e)
    axes[0].plot(POWERS, exact, color="black", linewidth=0.8, zorder=1, label="exact")
    ps.plots.plot_published(axes[0], POWERS, np.abs(np.array(_E_TABLE) - np.e))
    axes[0].set(xlabel="n", ylabel="|(1 + 1/n)$^n$ - e|", title="one rounding error (Table 1.1)")
    axes[0].set(xscale="log", yscale="log")
    x = results["x"][1:]
    curves = {f"fp32, {name}": (x, results[name][1:]) for name in ("naive", "by log")}
    ps.plots.plot_curves(axes[1], curves)
    points = list(PUBLISHED["(exp(x) - 1) / x at 9e-8"].values())
    ps.plots.plot_published(axes[1], [9e-8, 9e-8], points)
    axes[1].set(xlabel="x", ylabel="(exp(x) - 1) / x", title="errors that cancel (1.14.1)")
    axes[1].set_xscale("log")
    found = {k.removeprefix(_MULLER): u for k, u in results.items() if k.startswith(_MULLER)}
    ps.plots.plot_curves(axes[2], {name: (np.arange(len(u)), u) for name, u in found.items()})
    ends = list(PUBLISHED["Muller, index of 100"].values())
    ps.plots.plot_published(axes[2], ends, [100] * len(ends), "reference")
    axes[2].axhline(6, color="black", linewidth=0.8, label="exact limit")
    axes[2].set(xlabel="index n", ylabel="u$_n$", title="Muller's recurrence", ylim=(-10, 130))
    days = np.arange(1, TRADES + 1) / 2800
    curves = {f"q21.0:rtn, mean of {LANES}": (days, results["points lost"])}
    ps.plots.plot_curves(axes[3], curves)
    rate = PUBLISHED["index lost"] / 462
    axes[3].plot(days, rate * days, label="published loss / 462 days", color="black", linewidth=0.9)
    axes[3].set(xlabel="days of 2800 trades", ylabel="points lost", title="Vancouver's index")
    for panel in axes:
        ps.plots.finish(panel)
