"""Small weight updates in bfloat16: to nearest they are cancelled; two remedies.

P. Zamirai et al., *Revisiting BFloat16 Training*, arXiv 2010.06192. The abstract: rounding to
nearest cancels small weight updates, which costs up to 7 % of accuracy; stochastic rounding or
Kahan summation of the updates brings it back. The toy here is least squares by gradient descent,
one example a step: y = x w* + noise, w* uniform in [0, 100), x normal. Between 64 and 128 half an
ulp of bfloat16 is 1/4: the update 0.01 (y - x w) x has to be larger than that to change a weight.
Last panel: 1.0 plus 1000 times 0.001.
"""

from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps
from experiments.check import Check, Grade, Results

TITLE = "Weight updates in bfloat16: to nearest, stochastic, with Kahan compensation"
CITATION = "Zamirai et al., arXiv 2010.06192: what is cancelled, and two remedies"
CLASS: Grade = "B"
PANELS = 4
SEED = 0
SECONDS = (23, 23)

PUBLISHED: dict[str, Any] = {
    "read in": "Zamirai et al.: the abstract, that is the order of the losses. All numbers: recomputed by an "
    "independent script of ours, one seed, mean loss of the last 2000 of 20000 steps, 300 sums.",
    "loss": {
        "fp32": 0.254,
        "Kahan": 0.56,
        "stochastic": 1.18,
        "nearest": 2.01,
        "nearest, update only": 3.01,
    },
    "from the best to the worst": ("fp32", "Kahan", "stochastic", "nearest"),
    "nearest over fp32, at least": 5.0,
    "cancelled, nearest": 0.89,
    "sum": {"nearest": 1.0, "stochastic, mean": 1.997, "stochastic, deviation": 0.087},
}
WINDOW = 500
"""Steps whose losses are drawn as one point."""
LAST = 2000
TERMS, DRAWN_PATHS, DRAWN_EVERY = 1000, 20, 10


def rules(fmt: str) -> dict[str, tuple[str, str, bool]]:
    """Return policy of the gradient, rounding of the new weights, and whether with compensation."""
    return {
        "fp32": ("fp32", "fp32", False),
        "Kahan": (fmt, fmt, True),
        "stochastic": (fmt, f"{fmt}:sr", False),
        "nearest": (fmt, fmt, False),
        "nearest, update only": ("fp32", fmt, False),
    }


@partial(jax.jit, static_argnames=("policy", "rounding", "is_compensated"))
@partial(jax.vmap, in_axes=(0, 0, 0, None, None, None, None))
def descend(
    x: Any, y: Any, key: Any, rate: Any, policy: str, rounding: str, is_compensated: bool
) -> tuple[Any, Any, Any]:
    """Return, for each seed and step, the squared error, and counts: updates, cancelled ones."""
    gradient = ps.emulate(jax.grad(lambda w, x, y: (x @ w - y) ** 2 / 2), policy)

    def step(state: Any, example: Any) -> Any:
        w, lost = state
        k, x, y = example
        update = -rate * gradient(w, x, y)
        change = partial(ps.apply_updates, w, update, rounding=rounding, key=key, step=k)
        new, lost = change(compensation=lost) if is_compensated else (change(), lost)
        is_update = update != 0
        counts = jnp.sum(is_update), jnp.sum(is_update & (new == w))
        return (new, lost), ((x @ w - y) ** 2, *counts)

    zeros = jnp.zeros(x.shape[1])
    squares: tuple[Any, Any, Any]
    _, squares = jax.lax.scan(step, (zeros, zeros), (jnp.arange(len(x)), x, y))
    return squares


def problem(seed: int, steps: int, dimension: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 examples x, shape (steps, dimension), and y, shape (steps,)."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0, 100, dimension)
    x = rng.standard_normal((steps, dimension))
    y = x @ weights + noise * rng.standard_normal(steps)
    return x.astype(np.float32), y.astype(np.float32)


@partial(jax.jit, static_argnames=("spec", "lanes"))
def running_sums(term: Any, key: Any, spec: str, lanes: int) -> Any:
    """Return 1, 1 + term, 1 + term + term, ..., each sum rounded, shape (TERMS + 1, lanes)."""

    def step(total: Any, k: Any) -> tuple[Any, Any]:
        bits = jax.random.bits(jax.random.fold_in(key, k), (lanes,), np.uint32)
        noise = bits if spec.endswith(":sr") else None
        total = ps.add(total, jnp.broadcast_to(term, total.shape), spec, random_bits=noise)
        return total, total

    first = jnp.ones(lanes, np.float32)
    return jnp.concatenate([first[None], jax.lax.scan(step, first, jnp.arange(TERMS))[1]])


def compute(
    fast: bool,
    *,
    format_: str = "bf16",
    steps: int = 20_000,
    seeds: int = 8,
    learning_rate: float = 0.01,
    dimension: int = 10,
    noise: float = 0.5,
    sums: int = 3000,
) -> Results:
    """Return losses and cancelled updates along the descents, and sums of 1000 small terms.

    Parameters
    ----------
    fast : bool
        Changes nothing.
    format_ : str
        Format of weights and gradients, and of the sums.
    steps : int
        Steps of each descent, of one example each.
    seeds : int
        Draws of weights and examples.
    learning_rate : float
        Step size.
    dimension : int
        Number of weights.
    noise : float
        Deviation of the noise in y.
    sums : int
        Stochastic sums of 1.0 and 1000 times 0.001.
    """
    drawn = [problem(SEED + k, steps, dimension, noise) for k in range(seeds)]
    x, y = (np.stack(parts) for parts in zip(*drawn, strict=True))
    key = jax.random.key(SEED)
    rate = np.float32(learning_rate)
    window = min(WINDOW, steps)
    points = steps // window

    def of_windows(array: np.ndarray) -> np.ndarray:
        """Sum over all seeds and the steps of each window."""
        return np.asarray(
            array[:, : points * window].reshape(seeds, points, window).sum(axis=(0, 2))
        )

    results: Results = {"format": np.array(format_), "steps": window * np.arange(1, points + 1)}
    for label, (policy, rounding, is_compensated) in rules(format_).items():
        found = descend(x, y, jax.random.split(key, seeds), rate, policy, rounding, is_compensated)
        errors, updates, cancelled = (np.asarray(array, np.float64) for array in found)
        results[f"loss, {label}"] = of_windows(errors) / (seeds * window)
        results[f"last losses, {label}"] = errors[:, -LAST:].mean(axis=1)
        results[f"cancelled, {label}"] = of_windows(cancelled) / np.maximum(of_windows(updates), 1)
        results[f"all cancelled, {label}"] = np.asarray(cancelled.sum() / updates.sum())
    term = ps.round_to(np.float32(0.001), format_)
    results["term"] = np.asarray(term)
    drawn_terms = np.arange(0, TERMS + 1, DRAWN_EVERY)
    stochastic = np.asarray(running_sums(term, key, f"{format_}:sr", sums))
    results["terms"] = drawn_terms
    results["sum, nearest"] = np.asarray(running_sums(term, key, format_, 1))[drawn_terms, 0]
    results["sums, stochastic"] = stochastic[drawn_terms, :DRAWN_PATHS]
    results["last sums, stochastic"] = stochastic[-1]
    return results


def check(results: Results) -> list[Check]:
    """Compare the sums, the order of the losses, and the losses within the spread of seeds."""
    published, last = PUBLISHED["sum"], results["last sums, stochastic"].astype(np.float64)
    ours = float(results["sum, nearest"][-1])
    checks = [Check("1 + 1000 x 0.001, nearest", published["nearest"], ours, grade="B")]
    for name, ours, tolerance in (("mean", last.mean(), 0.015), ("deviation", last.std(), 0.01)):
        label, theirs = f"1 + 1000 x 0.001, stochastic, {name}", published[f"stochastic, {name}"]
        checks.append(Check(label, theirs, float(ours), "absolute", tolerance, "B"))
    losses = {name: float(results[f"last losses, {name}"].mean()) for name in PUBLISHED["loss"]}
    for name, theirs in PUBLISHED["loss"].items():
        checks.append(Check(f"loss, {name}", theirs, losses[name], "relative", 0.3, "C"))
    order = PUBLISHED["from the best to the worst"]
    for better, worse in pairwise(order):
        ratio = losses[worse] / losses[better]
        checks.append(Check(f"loss, {worse} over {better}", (1.2, np.inf), ratio, "range", 0, "B"))
    ratio, least = losses["nearest"] / losses["fp32"], PUBLISHED["nearest over fp32, at least"]
    checks.append(Check("loss, nearest over fp32", (least, np.inf), ratio, "range", 0, "B"))
    ours = float(results["all cancelled, nearest"])
    theirs = PUBLISHED["cancelled, nearest"]
    checks.append(Check("updates cancelled, nearest", theirs, ours, "absolute", 0.1, "C"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw losses, the spread of their ends, cancelled updates, and the sums of small terms."""
    fmt, steps = str(results["format"]), results["steps"]
    names = list(rules(fmt))
    styles = ps.plots.line_styles(names)
    ps.plots.plot_curves(axes[0], {name: (steps, results[f"loss, {name}"]) for name in names})
    axes[0].set(yscale="log", xlabel="step", ylabel="mean squared error")
    axes[0].set_title(f"least squares, weights in {fmt}")
    for k, name in enumerate(names):
        ends = results[f"last losses, {name}"]
        look = {"color": styles[name]["color"], "marker": styles[name]["marker"]}
        axes[1].plot(np.full(ends.size, k), ends, linestyle="none", markersize=4, alpha=0.6, **look)
    published = list(PUBLISHED["loss"].values())
    ps.plots.plot_published(axes[1], range(len(published)), published, "reference, one seed")
    short = [name.replace(", ", ",\n").replace(" only", "\nonly") for name in names]
    axes[1].set_xticks(range(len(names)), short)
    axes[1].set(yscale="log", ylabel="squared error of the last steps")
    axes[1].set_title("one point for each seed")
    shares = {name: (steps, 100 * results[f"cancelled, {name}"]) for name in names}
    ps.plots.plot_curves(axes[2], shares)
    axes[2].set(xlabel="step", ylabel="nonzero updates cancelled (%)", ylim=(-4, 104))
    axes[2].set_title("updates that change no weight")
    terms, term = results["terms"], float(results["term"])
    axes[3].plot(terms, results["sums, stochastic"], color="0.75", linewidth=0.5, zorder=0)
    means = results["sums, stochastic"].mean(axis=1)
    look = {name: styles[name] | {"markevery": 10} for name in ("nearest", "stochastic")}
    axes[3].plot(terms, results["sum, nearest"], label="nearest", **look["nearest"])
    axes[3].plot(terms, means, label="stochastic, mean of those in grey", **look["stochastic"])
    axes[3].plot(terms, 1 + term * terms, color="black", linewidth=0.8, label="exact")
    sums = [PUBLISHED["sum"][name] for name in ("nearest", "stochastic, mean")]
    ps.plots.plot_published(axes[3], [terms[-1]] * len(sums), sums, "reference")
    axes[3].set(
        xlabel="additions of 0.001 to 1.0",
        ylabel="sum",
        title=f"a small update, repeated, in {fmt}",
    )
    for panel in axes:
        ps.plots.finish(panel)
