"""Error growth: like n u to nearest, like sqrt(n) u stochastically, none for mixed signs.

M. Croci, M. Fasi, N. J. Higham, T. Mary, M. Mikaitis, *Stochastic Rounding: Implementation, Error
Analysis and Applications*, R. Soc. Open Sci. 9:211631, 2022, Fig. 8.2 (script `test_matvec.m`, no
data); M. P. Connolly, N. J. Higham, T. Mary, SIAM J. Sci. Comput. 43(1), 2021; N. J. Higham, T.
Mary, SIAM J. Sci. Comput. 41(5), 2019. A is 1e-3 rand(100, n), x is rand(n, 1), and y <- fl(y +
fl(A(:, i) x_i)) for i = 1, 2, ...; the error is the largest |y - A x| / (|A| |x|). MATLAB's stream
after rng(1) is NumPy's ``RandomState(1)``: A column by column, then x, for all n, first in
bfloat16, then in binary16.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps
from experiments.check import Check, Grade, Results

TITLE = "Matrix times vector: error against length, nearest and stochastic rounding"
CITATION = "Croci et al., R. Soc. Open Sci. 9:211631, 2022, Fig. 8.2; Connolly et al. 2021; Higham & Mary 2019"
CLASS: Grade = "B"
PANELS = 2
SECONDS = (11.7, 200)
SEED = 1

LENGTHS = np.round(np.logspace(1, 6, 20)).astype(int)
FAST_LENGTH, FULL_LENGTH = 14384, 10**6
ROWS, RUNS, BLOCK = 100, 10, 1024
PUBLISHED: dict[str, Any] = {
    "read in": "an emulator independent of precsim, with the loops of test_matvec.m; 6 decimals",
    "bf16": {10: 0.008778, 113: 0.026507, 1274: 0.284097, 14384: 0.930306, 48329: 0.978597},
    "fp16": {10: 0.001045, 113: 0.004389, 1274: 0.024989, 14384: 0.445469, 48329: 0.834035},
    "stochastic": "in fp16 below sqrt(n) u from n = 10**4 on, growing like n**0.5 between 10**2 and 10**4",
    "nearest, exponent in fp16 between n = 2000 and 10**4": "about 1",
    "entries of both signs": (4e-4, 9e-4),
}
FORMATS = ("bf16", "fp16")
SIGNED = ", nearest, both signs"


def blocks(stream: Any, n: int, *, is_signed: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield up to BLOCK columns of A, shape (BLOCK, ROWS), and entries of x; zeros at the end.

    x comes after A in the stream, hence a second stream that runs ahead. Added zeros change no sum.
    """
    ahead = np.random.RandomState()
    ahead.set_state(stream.get_state())
    skip(ahead, ROWS * n)
    x = ahead.random_sample(n)
    for first in range(0, n, BLOCK):
        count = min(BLOCK, n - first)
        a, part = np.zeros((BLOCK, ROWS)), np.zeros(BLOCK)
        a[:count] = stream.random_sample(ROWS * count).reshape(count, ROWS)
        part[:count] = x[first : first + count]
        if is_signed:
            a[:count], part[:count] = 2 * a[:count] - 1, 2 * part[:count] - 1
        yield 1e-3 * a, part
    skip(stream, n)


def skip(stream: Any, count: int) -> None:
    """Draw numbers and forget them."""
    for first in range(0, count, 1 << 16):
        stream.random_sample(min(1 << 16, count - first))


@partial(jax.jit, static_argnames="spec")
def _add(total: Any, columns: Any, x: Any, bits: Any, spec: str) -> Any:
    """Add fl(columns[i] x[i]) to the total for each i, rounding each sum; total is (..., ROWS).

    The product of two float64 numbers is rounded once; from there on a float32 carrier is exact.
    """

    def step(total: Any, item: Any) -> tuple[Any, None]:
        column, entry, noise = item
        column = jnp.broadcast_to(column, total.shape)
        term = ps.multiply(column, entry, spec, random_bits=noise[0]).astype(np.float32)
        return ps.add(total, term, spec, random_bits=noise[1]), None

    return jax.lax.scan(step, total, (columns, x, bits))[0]


def error(
    stream: Any, n: int, spec: str, *, noise: Any = None, is_signed: bool = False, runs: int = RUNS
) -> tuple[float, float]:
    """Return the largest relative error rounded by `spec`, and the mean of stochastic ones."""
    total: Any = np.zeros(ROWS, np.float32)
    totals: Any = np.zeros((runs, ROWS), np.float32)
    exact, size = np.zeros(ROWS), np.zeros(ROWS)
    for a, x in blocks(stream, n, is_signed=is_signed):
        exact += x @ a
        size += np.abs(x) @ np.abs(a)
        with jax.enable_x64(True):
            total = _add(total, a, x, (None, None), spec=spec)
            if noise is not None:
                shape = (BLOCK, runs, ROWS)
                bits = [noise.integers(2**32, size=shape, dtype=np.uint32) for _ in range(2)]
                totals = _add(totals, a, x, tuple(bits), spec=f"{spec}:sr")
    nearest, stochastic = (
        np.abs(np.asarray(y, np.float64) - exact) / size for y in (total, totals)
    )
    return float(nearest.max()), float(stochastic.max(axis=-1).mean())


def compute(
    fast: bool, *, formats: tuple[str, ...] = FORMATS, runs: int = RUNS, seed: int = SEED
) -> Results:
    """Return the errors of all lengths, in both formats, and those of entries of both signs.

    Parameters
    ----------
    fast : bool
        Whether to stop at lengths of 14,384, not a million.
    formats : tuple of str
        One or two formats of products and sums; the last one gets entries of both signs too.
    runs : int
        How many stochastic runs are averaged.
    seed : int
        Of the data and of the random bits.
    """
    if len(formats) > PANELS:
        raise ValueError(f"formats are {len(formats)}; allowed are one or two")
    longest = FAST_LENGTH if fast else FULL_LENGTH
    stream: Any = np.random.RandomState(seed)
    noise = np.random.default_rng(seed)
    results: Results = {"n": LENGTHS[longest >= LENGTHS]}
    for name in formats:
        found = [error(stream, n, name, noise=noise, runs=runs) for n in results["n"].tolist()]
        skip(stream, (ROWS + 1) * int(LENGTHS[longest < LENGTHS].sum()))
        nearest, stochastic = np.array(found).T
        results |= {f"{name}, nearest": nearest, f"{name}, stochastic": stochastic}
    results["signed n"] = LENGTHS[(LENGTHS >= 100) & (LENGTHS <= 10**4)]
    stream = np.random.RandomState(seed + 1)  # these data are ours
    last = formats[-1]
    signed = [error(stream, n, last, is_signed=True)[0] for n in results["signed n"]]
    results[last + SIGNED] = np.array(signed)
    return results


def _unit_roundoff(name: str) -> float:
    found = ps.get_format(name)
    assert isinstance(found, ps.FloatFormat)
    return found.unit_roundoff


def _exponent(n: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """Return the exponent of growth, y ~ n**exponent, between two lengths."""
    inside = (n >= low) & (n <= high)
    return float(np.polyfit(np.log(n[inside]), np.log(y[inside]), 1)[0])


def check(results: Results) -> list[Check]:
    """Compare errors to nearest to 1e-6, growth and bounds by range."""
    checks = []
    n = results["n"]
    for name in FORMATS:
        for length, published in PUBLISHED[name].items():
            if length in n:
                ours = float(results[f"{name}, nearest"][n == length][0])
                label = f"{name}, n = {length}"
                checks.append(Check(label, published, ours, "absolute", 1e-6, "B"))
    stochastic = results["fp16, stochastic"]
    ratio = stochastic / (np.sqrt(n) * _unit_roundoff("fp16"))
    shapes = {
        "fp16, stochastic / (sqrt(n) u)": ((0, 1), float(ratio[n >= 10**4].max())),
        "fp16, stochastic, exponent": ((0.35, 0.65), _exponent(n, stochastic, 1e2, 1e4)),
        "fp16, nearest, exponent": (
            (0.7, 1.5),
            _exponent(n, results["fp16, nearest"], 2e3, 1e4),
        ),
    }
    low, high = PUBLISHED["entries of both signs"]
    signed = results["fp16" + SIGNED]
    shapes["fp16, both signs, smallest"] = ((low / 2, high), float(signed.min()))
    shapes["fp16, both signs, largest"] = ((low, 2 * high), float(signed.max()))
    return checks + [
        Check(label, limits, ours, "range", grade="C") for label, (limits, ours) in shapes.items()
    ]


def plot(results: Results, axes: list[Any]) -> None:
    """Draw error against length beside the bounds n u and sqrt(n) u."""
    n = results["n"]
    names = [key.removesuffix(", stochastic") for key in results if key.endswith(", stochastic")]
    for panel, name in zip(axes, names, strict=False):
        u = _unit_roundoff(name)
        modes = [f"{name}, {mode}" for mode in ("nearest", "stochastic")]
        curves = {mode: (n, results[mode]) for mode in modes}
        signed = name + SIGNED
        if signed in results:
            curves[signed] = results["signed n"], results[signed]
        ps.plots.plot_curves(panel, curves)
        panel.plot(n, np.minimum(1, n * u), "k--", linewidth=0.9, label="min(1, n u)")
        panel.plot(n, np.sqrt(n) * u, "k:", linewidth=1.2, label="sqrt(n) u")
        points = {x: y for x, y in PUBLISHED.get(name, {}).items() if x <= n[-1]}
        ps.plots.plot_published(panel, list(points), list(points.values()), "reference")
        panel.set(xlabel="length n", ylabel="largest relative error", title=name)
        panel.set(xscale="log", yscale="log", ylim=(2e-4, 10))
        ps.plots.finish(panel)
