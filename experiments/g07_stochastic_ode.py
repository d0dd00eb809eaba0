"""Stochastic rounding rescues a stagnating integration, but does not always win.

M. Croci, M. Fasi, N. J. Higham, T. Mary, M. Mikaitis, *Stochastic Rounding: Implementation, Error
Analysis and Applications*, R. Soc. Open Sci. 9:211631, 2022, Figs. 8.3 and 8.4 (script
`ODE_tests.m` of north-numerical-computing/stochastic-rounding-survey-experiments). Euler's method y
<- fl(y - fl(h y)): case 0, y' = -y, y(0) = 1/64 on [0, 1]; case 1, y' = -y / 20, y(0) = 1 on [0,
1/64]. Then u' = v, v' = -u on the unit circle, N steps of h = fl(2 pi / N). The figures are
published without data.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps
from experiments.check import Check, Grade, Results

TITLE = "Euler's method with nearest and stochastic rounding: decay, and the unit circle"
CITATION = "Croci et al., R. Soc. Open Sci. 9:211631, 2022, Figs. 8.3-8.4"
CLASS: Grade = "B"
PANELS = 4
SECONDS = (14.3,)
SEED = 7

PUBLISHED: dict[str, Any] = {
    "read in": "an emulator independent of precsim with the loops of ODE_tests.m; the stalled errors in closed form",
    "decay": {
        "bf16": {10: 3.4650e-04, 100: 2.9436e-04, 464: 8.4120e-03},
        "fp16": {100: 2.6070e-05, 1000: 1.3415e-04, 2154: 2.5221e-03},
    },
    "decay, stalled from": {"bf16": 1000, "fp16": 4642},
    "decay, stalled": 9.876883732e-03,
    "slow decay, every n": 7.809449e-04,
    "circle": {
        "bf16": {
            32: (1.8515625, 0.15625),
            512: (1.0, -0.038330078125),
            2048: (0.90625, -0.734375),
            8192: (1.0, -0.25),
        },
        "fp16": {
            32: (1.82421875, 0.14990234375),
            512: (1.0380859375, 0.0022125244140625),
            16384: (0.8916015625, -0.74560546875),
            65536: (1.0, -0.25),
        },
    },
    "circle, nearer from, to": {"bf16": (2048, 8192), "fp16": (16384, 65536)},
    "stochastic": "10 times nearer on the decay wherever nearest has stalled; nearer on the circle as above",
}
FORMATS = ("bf16", "fp16")
STEPS = np.round(10 ** np.linspace(1, 6, 16)).astype(np.int32)
CIRCLE_STEPS = (2 ** np.arange(5, 17)).astype(np.int32)
DRAWN_STEPS = 2048
FAST_STEPS = 10**4  # longest stochastic integration in fast runs
RUNS = 10
CASES = {"decay": (1.0, 1.0, 1 / 64), "slow decay": (1 / 64, 1 / 20, 1.0)}  # end, rate, y(0)


def _noise(key: Any, k: Any, count: int, lanes: int) -> Any:
    """Return `count` random words for each lane in step k; None where rounding is to nearest."""
    if key is None:
        return [None] * count
    return jax.random.bits(jax.random.fold_in(key, k), (count, lanes), np.uint32)


@partial(jax.jit, static_argnames="spec")
def integrate(steps: Any, h: Any, rate: Any, start: Any, key: Any, spec: str) -> Any:
    """Return the last y of one lane per number of steps; `spec` rounds every operation."""

    def advance(state: tuple[Any, ...]) -> tuple[Any, ...]:
        k, y, _ = state
        bits = _noise(key, k, 3, len(y))
        slope = ps.multiply(rate, y, spec, random_bits=bits[0])
        change = ps.multiply(h, slope, spec, random_bits=bits[1])
        new = ps.subtract(y, change, spec, random_bits=bits[2])
        # A lane rounded to nearest that does not move once never moves again.
        moves = (k < steps) & ((new != y) if key is None else True)
        return k + 1, jnp.where(moves, new, y), jnp.any(moves)

    state = (jnp.int32(0), start, jnp.bool_(True))
    return jax.lax.while_loop(lambda state: state[2], advance, state)[1]


def errors(case: str, steps: np.ndarray, spec: str, mode: str, key: Any = None) -> np.ndarray:
    """Return y - y(end) in float64, one for each number of steps."""
    end, rate, start = CASES[case]
    h = ps.round_to(end / steps, spec).astype(np.float32)
    y0 = np.full(steps.shape, start, np.float32)
    fl_rate = np.float32(ps.round_to(rate, spec))
    y = integrate(steps, h, fl_rate, y0, key, spec=mode)
    return np.asarray(np.asarray(y, np.float64) - start * np.exp(-end * rate))


def _turn(point: Any, h: Any, bits: Any, spec: str) -> tuple[Any, Any]:
    """Return the next point: u + fl(h v), v - fl(h u), each rounded."""
    u, v = point
    du = ps.multiply(h, v, spec, random_bits=bits[0])
    dv = ps.multiply(h, u, spec, random_bits=bits[1])
    return (
        ps.add(u, du, spec, random_bits=bits[2]),
        ps.subtract(v, dv, spec, random_bits=bits[3]),
    )


@partial(jax.jit, static_argnames="spec")
def circle(steps: Any, h: Any, key: Any, spec: str) -> Any:
    """Return u and v after all steps of each lane, from u = 1, v = 0; shape (2, lanes)."""

    def advance(k: Any, point: Any) -> Any:
        new = _turn(point, h, _noise(key, k, 4, len(h)), spec)
        return tuple(jnp.where(k < steps, x, y) for x, y in zip(new, point, strict=True))

    start = (jnp.ones_like(h), jnp.zeros_like(h))
    return jnp.stack(jax.lax.fori_loop(0, jnp.max(steps), advance, start))


@partial(jax.jit, static_argnames="spec")
def orbit(h: Any, key: Any, spec: str) -> Any:
    """Return u and v after 0, 1, ..., DRAWN_STEPS steps, shape (2, DRAWN_STEPS + 1)."""

    def advance(point: Any, k: Any) -> tuple[Any, Any]:
        new = _turn(point, h, _noise(key, k, 4, 1), spec)
        return new, jnp.concatenate(new)

    start = (jnp.ones(1, np.float32), jnp.zeros(1, np.float32))
    rest = jax.lax.scan(advance, start, jnp.arange(DRAWN_STEPS))[1].T
    return jnp.concatenate([jnp.stack(start), rest], axis=1)


def _step_of_circle(steps: np.ndarray, spec: str) -> np.ndarray:
    return np.asarray(ps.round_to(2 * np.pi / steps, spec), np.float32)


def compute(
    fast: bool, *, formats: tuple[str, ...] = FORMATS, runs: int = RUNS, seed: int = SEED
) -> Results:
    """Return errors and end points to nearest, and those of some stochastic runs.

    Parameters
    ----------
    fast : bool
        Whether stochastic runs have at most 10,000 steps, not a million.
    formats : tuple of str
        Formats of every operation; the orbit is drawn for the first.
    runs : int
        How many stochastic runs there are.
    seed : int
        Of their random bits.
    """
    key = jax.random.key(seed)
    short = STEPS[STEPS <= FAST_STEPS] if fast else STEPS
    every = np.tile(short, runs)
    results: Results = {"n": STEPS, "stochastic n": short, "N": CIRCLE_STEPS}
    for fmt in formats:
        stochastic = f"{fmt}:sr"
        for case in CASES:
            results[f"{case}, {fmt}"] = errors(case, STEPS, fmt, fmt)
            found = errors(case, every, fmt, stochastic, key)
            results[f"{case}, {fmt}, stochastic"] = found.reshape(runs, -1)
        h = _step_of_circle(CIRCLE_STEPS, fmt)
        results[f"circle, {fmt}"] = np.asarray(circle(CIRCLE_STEPS, h, None, spec=fmt))
        found = circle(np.tile(CIRCLE_STEPS, runs), np.tile(h, runs), key, spec=stochastic)
        results[f"circle, {fmt}, stochastic"] = np.asarray(found).reshape(2, runs, -1)
    first = formats[0]
    h = _step_of_circle(np.array(DRAWN_STEPS), first)
    results[f"orbit, {first}"] = np.asarray(orbit(h, None, spec=first))
    results[f"orbit, {first}, stochastic"] = np.asarray(orbit(h, key, spec=f"{first}:sr"))
    return results


def distance(points: np.ndarray) -> np.ndarray:
    """Return the distance of (u, v) from (1, 0), over the first axis."""
    return np.asarray(np.hypot(points[0] - 1.0, points[1]))


def _ratio(results: Results, case: str, fmt: str) -> np.ndarray:
    """Return the error to nearest over the mean stochastic error, one for each stochastic n."""
    stochastic = np.abs(results[f"{case}, {fmt}, stochastic"]).mean(0)
    return np.asarray(np.abs(results[f"{case}, {fmt}"])[: stochastic.size] / stochastic)


def check(results: Results) -> list[Check]:
    """Compare errors to nearest by digits, end points exactly, stochastic errors by their trend."""
    checks = []
    at = {int(n): k for k, n in enumerate(STEPS)}
    for fmt in FORMATS:
        found = np.abs(results[f"decay, {fmt}"])
        first = PUBLISHED["decay, stalled from"][fmt]
        stalled = dict.fromkeys(STEPS[first <= STEPS].tolist(), PUBLISHED["decay, stalled"])
        for n, published in (PUBLISHED["decay"][fmt] | stalled).items():
            digits = 9 if n >= first else 4
            label = f"decay, {fmt}, n = {n}"
            checks.append(Check(label, published, float(found[at[n]]), "digits", digits, "B"))
        for n, ours in zip(STEPS, np.abs(results[f"slow decay, {fmt}"]), strict=True):
            published = PUBLISHED["slow decay, every n"]
            label = f"slow decay, {fmt}, n = {n}"
            checks.append(Check(label, published, float(ours), "digits", 6, "B"))
        for n, point in PUBLISHED["circle"][fmt].items():
            where = results[f"circle, {fmt}"][:, n == CIRCLE_STEPS].ravel()
            for name, published, ours in zip("uv", point, where, strict=True):
                label = f"circle, {fmt}, N = {n}, {name}"
                checks.append(Check(label, published, float(ours), grade="B"))
        better = _ratio(results, "decay", fmt)[results["stochastic n"] >= first]
        label = f"decay, {fmt}: stalled error / stochastic"
        checks.append(Check(label, (10, np.inf), float(better.min()), "range", grade="C"))
        low, high = PUBLISHED["circle, nearer from, to"][fmt]
        large = (low <= CIRCLE_STEPS) & (high >= CIRCLE_STEPS)
        mean = distance(results[f"circle, {fmt}, stochastic"]).mean(0)
        ratio = float((mean / distance(results[f"circle, {fmt}"]))[large].max())
        label = f"circle, {fmt}: stochastic is nearer"
        checks.append(Check(label, (0, 1), ratio, "range", grade="C"))
        runs = results[f"slow decay, {fmt}, stochastic"]
        score = float(abs(runs.mean()) / (runs.std() / np.sqrt(runs.size)))
        label = f"slow decay, {fmt}: mean error in standard errors"
        checks.append(Check(label, (0, 4), score, "range", grade="C"))
    worst = float(_ratio(results, "slow decay", "bf16").mean())
    label = "slow decay, bf16: stochastic is worse"
    checks.append(Check(label, (0, 1), worst, "range", grade="C"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw the errors of both decays, the ends of the circle, and one orbit."""
    circles = [key.split(", ") for key in results if key.startswith("circle, ")]
    formats = [parts[1] for parts in circles if len(parts) == 2]
    both = {f"{fmt}, {mode}": (fmt, mode) for fmt in formats for mode in ("nearest", "stochastic")}
    for panel, case in zip(axes, CASES, strict=False):
        curves = {}
        for label, (fmt, mode) in both.items():
            n, y = STEPS, np.abs(results[f"{case}, {fmt}"])
            if mode == "stochastic":
                y = np.abs(results[f"{case}, {fmt}, stochastic"]).mean(0)
                n = results["stochastic n"]
            curves[label] = n, y
        ps.plots.plot_curves(panel, curves)
        panel.set(xlabel="number of steps n", ylabel="absolute error at the end")
    for points in PUBLISHED["decay"].values():
        ps.plots.plot_published(axes[0], list(points), list(points.values()), "reference")
    stalled = [PUBLISHED["decay, stalled"]] * 2
    starts = list(PUBLISHED["decay, stalled from"].values())
    ps.plots.plot_published(axes[0], starts, stalled, "reference")
    slow = PUBLISHED["slow decay, every n"]
    ps.plots.plot_published(axes[1], [STEPS[0], STEPS[-1]], [slow, slow], "reference")
    axes[0].set_title("y' = -y, y(0) = 1/64, on [0, 1]")
    axes[1].set(title="y' = -y/20, y(0) = 1, on [0, 1/64]", ylim=(1e-4, 3e-3))
    ends = {label: results[f"circle, {fmt}"] for label, (fmt, mode) in both.items()}
    for label, (fmt, mode) in both.items():
        if mode == "stochastic":
            ends[label] = results[f"circle, {fmt}, stochastic"]
    away = {label: distance(end) for label, end in ends.items()}
    mean = {label: y if y.ndim == 1 else y.mean(0) for label, y in away.items()}
    ps.plots.plot_curves(axes[2], {label: (CIRCLE_STEPS, y) for label, y in mean.items()})
    for points in PUBLISHED["circle"].values():
        published = distance(np.array(list(points.values())).T)
        ps.plots.plot_published(axes[2], list(points), published, "reference")
    axes[2].set(xlabel="steps N of one turn", ylabel="distance of the end from (1, 0)")
    runs = results[f"circle, {formats[0]}, stochastic"].shape[1]
    axes[2].set(title=f"u' = v, v' = -u; stochastic: mean of {runs}")
    angle = np.linspace(0, 2 * np.pi, 200)
    axes[3].plot(
        np.cos(angle), np.sin(angle), color="black", linewidth=0.8, zorder=1, label="exact"
    )
    drawn = f"orbit, {formats[0]}"
    orbits = {f"{formats[0]}, nearest": drawn, f"{formats[0]}, stochastic": f"{drawn}, stochastic"}
    ps.plots.plot_curves(axes[3], {label: tuple(results[name]) for label, name in orbits.items()})
    end = PUBLISHED["circle"]["bf16"][DRAWN_STEPS]
    ps.plots.plot_published(axes[3], end[0], end[1], "reference")
    axes[3].set(xlabel="u", ylabel="v", aspect="equal", title=f"{formats[0]}, N = {DRAWN_STEPS}")
    for panel in axes[:3]:
        panel.set(xscale="log", yscale="log")
    for panel in axes:
        ps.plots.finish(panel)
