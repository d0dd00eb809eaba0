"""Swamping: a long sum in few bits stops; sums of chunks, or stochastic rounding, go on.

N. Wang et al., *Training Deep Neural Networks with 8-bit Floating Point Numbers*, NeurIPS 2018,
arXiv 1812.08011, Fig. 3(b): sums of n numbers of mean 1 and standard deviation 1, uniform on [1 -
sqrt 3, 1 + sqrt 3], in their FP16 of 6 exponent and 9 fraction bits. Between 4096 and 8192 half an
ulp is 4 and no number exceeds 2.74: rounded to nearest, the sum can never pass 4096. In chunks of N
numbers, each chunk is summed by itself and added to the total. The paper gives no numbers beside
its curves. Second panel: 0.01 added 1000 times (Stanford CS336, lecture on mixed precision).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps
from experiments.check import Check, Grade, Results

TITLE = "Sums of n numbers of mean 1 in 10 significant bits: swamping, chunks, stochastic rounding"
CITATION = "Wang et al., NeurIPS 2018, arXiv 1812.08011, Fig. 3(b); Stanford CS336"
CLASS: Grade = "B"
PANELS = 2
SECONDS = (9.2, 9.2)
SEED = 0

FORMAT = "float(e=6,p=10)"
LONGEST = 2**16
SEEDS = 5
CHUNKS = (8, 32, 64, 128, 256, 1024, 4096)
SMALL_STEPS = {  # format of the numbers, format of the sum
    "fp32": ("fp32", "fp32"),
    "fp16": ("fp16", "fp16"),
    "bf16": ("bf16", "bf16"),
    "fp16 in fp32": ("fp16", "fp32"),
}
PUBLISHED: dict[str, Any] = {
    "read in": "4096: the mechanism, and as the paper is quoted. Chunks (n = 65536, first seed) and 0.01 added "
    "1000 times: an emulator independent of precsim.",
    "nearest": 4096.0,
    "chunks": {8: 16800.0, 32: 64960.0, 128: 65664.0, 256: 65152.0, 4096: 60096.0},
    "0.01": {"fp32": 10.0001335, "fp16": 9.953125, "bf16": 4.0, "fp16 in fp32": 10.002136},
    "within 2 % of the exact sum": "chunks of 32 to 256",
    "within 10 %": "stochastic rounding",
}


def numbers(n: int, fmt: str, seed: int) -> np.ndarray:
    """Return float32 numbers of the format, shape (n, SEEDS)."""
    half = np.sqrt(3.0)
    draws = [np.random.default_rng(seed + k).uniform(1 - half, 1 + half, n) for k in range(SEEDS)]
    return np.asarray(ps.round_to(np.stack(draws, axis=1), fmt), np.float32)


@partial(jax.jit, static_argnames=("lengths", "spec", "order"))
def sums(x: Any, bits: Any, lengths: tuple[int, ...], spec: str, order: str) -> Any:
    """Return the sums of the first n numbers, n in `lengths`, shape (lengths, SEEDS).

    All lengths at once: every lane goes on with zeros, which change nothing.
    """
    inside = jnp.arange(len(x))[:, None] < np.array(lengths)
    lanes = jnp.where(inside[:, :, None], x[:, None, :], 0)
    if bits is not None:
        bits = jnp.broadcast_to(bits[:, None, :], lanes.shape)
    return ps.accumulate(lanes, spec, axis=0, order=order, random_bits=bits)


@partial(jax.jit, static_argnames="spec")
def running_sum(x: Any, spec: str) -> Any:
    """Return all partial sums."""

    def step(total: Any, term: Any) -> tuple[Any, Any]:
        total = ps.add(total, term, spec)
        return total, total

    return jax.lax.scan(step, np.float32(0), x)[1]


def compute(
    fast: bool,
    *,
    format_: str = FORMAT,
    n: int = LONGEST,
    chunks: tuple[int, ...] = CHUNKS,
    seed: int = SEED,
) -> Results:
    """Return the sums of all lengths and orders, and those of 1000 times 0.01.

    Parameters
    ----------
    fast : bool
        Not used: it takes seconds.
    format_ : str
        Format of the numbers, and of their sums.
    n : int
        How many numbers are added: powers of two from 64 to n.
    chunks : tuple of int
        Lengths of chunks.
    seed : int
        Of the first of five sets of numbers.
    """
    if not 64 <= n <= 2**30:
        raise ValueError(f"n is {n}; allowed are integers from 64 to 2**30")
    powers = 2 ** np.arange(6, 31)
    ends = np.unique(np.append(powers[powers <= n], n))
    lengths = tuple(ends.tolist())
    x = numbers(n, format_, seed)
    bits = np.random.default_rng(seed).integers(2**32, size=x.shape, dtype=np.uint32)
    results: Results = {"n": ends}
    results["exact"] = np.cumsum(x, axis=0, dtype=np.float64)[ends - 1]
    results["nearest"] = np.asarray(sums(x, None, lengths, spec=format_, order="sequential"))
    stochastic = sums(x, bits, lengths, spec=f"{format_}:sr", order="sequential")
    results["stochastic"] = np.asarray(stochastic)
    for chunk in chunks:
        found = sums(x, None, lengths, spec=format_, order=f"blocked{chunk}")
        results[f"chunks of {chunk}"] = np.asarray(found)
    results["steps"] = np.arange(0, 1001, 20)
    for label, (numbers_in, spec) in SMALL_STEPS.items():
        step = ps.round_to(np.float32(0.01), numbers_in)
        path = np.append(0, running_sum(np.full(1000, step), spec=spec))
        results[f"0.01 added, {label}"] = path[results["steps"]]
    return results


def check(results: Results) -> list[Check]:
    """Compare stalled and reference sums exactly, and the others by the stated ranges."""
    checks = []
    for k in range(SEEDS):
        is_long = results["n"] >= 8192
        stalled = results["nearest"][is_long, k]
        for n, ours in zip(results["n"][is_long], stalled, strict=True):
            label = f"nearest, seed {k}, n = {n}"
            checks.append(Check(label, PUBLISHED["nearest"], float(ours), grade="B"))
    for chunk, published in PUBLISHED["chunks"].items():
        ours = float(results[f"chunks of {chunk}"][-1, 0])
        checks.append(Check(f"chunks of {chunk}, seed 0", published, ours, grade="B"))
    for label, published in PUBLISHED["0.01"].items():
        ours = float(results[f"0.01 added, {label}"][-1])
        digits = 8 if label == "fp32" else 7
        checks.append(Check(f"0.01, {label}", published, ours, "digits", digits, "B"))
    good = {f"chunks of {chunk}": 0.02 for chunk in CHUNKS if 32 <= chunk <= 256}
    for label, tolerance in (good | {"stochastic": 0.10}).items():
        errors = np.abs(results[label] / results["exact"] - 1)[-1]
        name = f"{label}, largest relative error"
        checks.append(Check(name, (0, tolerance), float(errors.max()), "range", grade="C"))
    ratio = float((results["chunks of 8"] / results["exact"])[-1].max())
    checks.append(Check("chunks of 8 are too short", (0, 0.5), ratio, "range", grade="C"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw sums against length for the first seed, and the sums of 0.01."""
    n = results["n"]
    chunks = [name for name in results if name.startswith("chunks of ")]
    names = ["nearest", *chunks[:2], "stochastic"]
    fmt = str(results.get("parameter format_", FORMAT))
    precision = getattr(ps.get_format(fmt), "precision", None)
    ps.plots.plot_curves(axes[0], {name: (n, results[name][:, 0]) for name in names})
    axes[0].plot(n, results["exact"][:, 0], color="black", linewidth=0.8, zorder=1, label="exact")
    points = [PUBLISHED["nearest"], *(PUBLISHED["chunks"][chunk] for chunk in (8, 32))]
    ps.plots.plot_published(axes[0], [n[-1]] * len(points), points, "reference")
    axes[0].set_xscale("log", base=2)
    axes[0].set_yscale("log", base=2)
    axes[0].set(
        xlabel="numbers added n", ylabel="sum", title=f"mean 1, p = {precision} (Wang et al. 2018)"
    )
    paths = {label: results[f"0.01 added, {label}"] for label in SMALL_STEPS}
    ps.plots.plot_curves(axes[1], {label: (results["steps"], y) for label, y in paths.items()})
    ends = list(PUBLISHED["0.01"].values())
    ps.plots.plot_published(axes[1], [1000] * len(ends), ends, "reference")
    axes[1].set(xlabel="additions of 0.01", ylabel="sum", title="0.01 added 1000 times")
    for panel in axes:
        ps.plots.finish(panel)
