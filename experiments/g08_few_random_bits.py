"""Stochastic rounding with few random bits is biased, by exactly known rationals.

A. Fitzgibbon, S. Felix, *On Stochastic Rounding with Few Random Bits*, ARITH 2025, arXiv 2504.20634
(notebooks of graphcore-research/arith25-stochastic-rounding). An input with D bits beyond the
target's ulp is rounded with N random bits; the bias is the mean of (rounded - input) in ulp over
all 2**D inputs and all 2**N random words. Their three rules are variants of a spec: SRFF (truncate
to N bits, then add) is "a", SRF (add half a random ulp too, so that ties go up) is "b", SRC (round
to N bits to nearest even, then add) is "c". Second panel: the drift of a sum of 1024 terms in
bfloat16.
"""

from fractions import Fraction
from functools import partial
from typing import Any

import jax
import numpy as np

import precsim as ps
from experiments.check import Check, Grade, Results

TITLE = "Bias of stochastic rounding with N random bits: exact rationals; drift of a bf16 sum"
CITATION = "Fitzgibbon & Felix, ARITH 2025, arXiv 2504.20634"
CLASS: Grade = "A"
PANELS = 2
SECONDS = (3.8, 3.8)
SEED = 8

RULES = {"SRFF": "a", "SRF": "b", "SRC": "c"}
SIZES = [(1, 3), (2, 4), (3, 4), (3, 8), (4, 8)]
PUBLISHED: dict[str, Any] = {
    "read in": "SRFF, closed form 2**-(D + 1) - 2**-(N + 1): derivations.ipynb. SRF 2**-(D + 1) and SRC 0 for "
    "D > N: an emulator independent of precsim, exact; the notebook gives SRF 0 in the limit of D",
    "SRFF": ["-3/16", "-3/32", "-1/32", "-31/512", "-15/512"],
    "SRF": ["1/16", "1/32", "1/32", "1/512", "1/512"],
    "SRC": ["0", "0", "0", "0", "0"],
}
DEEP = 10  # bits D of the curve's inputs
RANDOM_BITS = range(1, 9)
TERMS, LANES, DRIFT_BITS = 1024, 512, 4
START = 416.0  # the binade of bf16 that begins at 256 has ulp 2


def bias(rule: str, n: int, d: int) -> Fraction:
    """Return the mean error in ulp of numbers 1 + k ulp / 2**d, over all k and all random words.

    The format has 4 significant bits, an ulp of 1/8 at 1; every number here is a multiple of 2**-(d
    + 3) below 2, exact in float32.
    """
    spec = f"float(e=5,p=4):sr{n}:{RULES[rule]}"
    x = 1 + np.arange(2**d, dtype=np.float32) * np.float32(2.0 ** -(d + 3))
    words = np.arange(2**n, dtype=np.uint32)
    grid, bits = np.meshgrid(x, words, indexing="ij")
    errors = (ps.round_to(grid, spec, random_bits=bits) - grid) * np.float32(8 * 2**d)
    return Fraction(int(errors.astype(np.int64).sum()), errors.size * 2**d)


@partial(jax.jit, static_argnames=("lanes", "spec"))
def _walk(terms: Any, bits: Any, lanes: int, spec: str) -> Any:
    def step(total: Any, item: Any) -> tuple[Any, Any]:
        total = ps.add(total, item[0], spec, random_bits=item[1])
        return total, total

    start = jax.numpy.full(lanes, START, np.float32)
    return jax.lax.scan(step, start, (terms, bits))[1]


def drift(rule: str, terms: np.ndarray, n: int, lanes: int, seed: int) -> np.ndarray:
    """Return the error of the running sum in ulp of every lane, shape (TERMS, lanes)."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(2**32, size=(TERMS, lanes), dtype=np.uint32)
    sums = np.asarray(_walk(terms, bits, lanes, spec=f"bf16:sr{n}:{RULES[rule]}"), np.float64)
    exact = START + np.cumsum(terms, dtype=np.float64)
    return (sums - exact[:, None]) / 2


def terms_of_every_fraction(seed: int = SEED) -> np.ndarray:
    """Return float32 terms below an ulp that add up to 0, each fraction k / 256 equally often.

    A term f and the term f' - 1 take turns, so that the exact sum stays near its start.
    """
    rng = np.random.default_rng(seed)
    fractions = np.arange(256) / 256
    below = np.where(fractions == 0, 0, fractions - 1)
    pairs = [(rng.permutation(fractions), rng.permutation(below)) for _ in range(TERMS // 512)]
    ulps = np.concatenate([np.stack(pair, axis=1).reshape(-1) for pair in pairs])
    return (2 * ulps).astype(np.float32)


def compute(
    fast: bool,
    *,
    depth: int = DEEP,
    drift_bits: int = DRIFT_BITS,
    lanes: int = LANES,
    seed: int = SEED,
) -> Results:
    """Return all biases (numerators and denominators), the curve over N, and the drifts.

    Parameters
    ----------
    fast : bool
        Not used: it takes seconds.
    depth : int
        Bits D of the inputs of the curve beyond the target's ulp, at most 20.
    drift_bits : int
        Random bits N of the sum in bf16.
    lanes : int
        How many sums are averaged.
    seed : int
        Of the terms and of the random bits.
    """
    if not 1 <= depth <= 20:
        raise ValueError(f"depth is {depth}; allowed are integers from 1 to 20")
    results: Results = {"N": np.array([n for n, _ in SIZES]), "D": np.array([d for _, d in SIZES])}
    results["random bits"] = np.array(RANDOM_BITS)
    terms = terms_of_every_fraction(seed)
    results["term"] = np.arange(1, TERMS + 1)
    for rule in RULES:
        found = [bias(rule, n, d) for n, d in SIZES]
        results[f"{rule}, numerator"] = np.array([x.numerator for x in found])
        results[f"{rule}, denominator"] = np.array([x.denominator for x in found])
        curve = [float(bias(rule, n, depth)) for n in RANDOM_BITS]
        results[f"{rule}, D = {depth}"] = np.array(curve)
        errors = drift(rule, terms, drift_bits, lanes, seed)
        results[f"{rule}, mean error"] = errors.mean(1)
        results[f"{rule}, last errors"] = errors[-1]
    return results


def closed_form(rule: str, n: int, d: int) -> Fraction:
    """Return the published bias of a rule for d > n."""
    half_last = Fraction(1, 2 ** (d + 1))
    return {"SRFF": half_last - Fraction(1, 2 ** (n + 1)), "SRF": half_last, "SRC": Fraction(0)}[
        rule
    ]


def check(results: Results) -> list[Check]:
    """Compare numerators and denominators, the curve, and the drift within its sampling error."""
    checks = []
    for rule in RULES:
        for k, (n, d) in enumerate(SIZES):
            published = Fraction(PUBLISHED[rule][k])
            for part in ("numerator", "denominator"):
                ours = float(results[f"{rule}, {part}"][k])
                label = f"{rule}, N = {n}, D = {d}, {part}"
                checks.append(Check(label, getattr(published, part), ours))
        for n, ours in zip(RANDOM_BITS, results[f"{rule}, D = {DEEP}"], strict=True):
            formula = float(closed_form(rule, n, DEEP))
            checks.append(Check(f"{rule}, N = {n}, D = {DEEP}", formula, float(ours)))
        last = results[f"{rule}, last errors"]
        expected = float(TERMS * closed_form(rule, DRIFT_BITS, 8))
        tolerance = round(4 * float(last.std()) / np.sqrt(last.size), 3)
        label = f"{rule}, drift after {TERMS} terms, ulp"
        checks.append(Check(label, expected, float(last.mean()), "absolute", tolerance, "C"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw bias against the number of random bits, and the mean error of the running sum."""
    depth = int(results.get("parameter depth", DEEP))
    drift_bits = int(results.get("parameter drift_bits", DRIFT_BITS))
    names = {f"{rule} (variant {variant})": rule for rule, variant in RULES.items()}
    biases = {label: results[f"{rule}, D = {depth}"] for label, rule in names.items()}
    ps.plots.plot_curves(axes[0], {label: (RANDOM_BITS, y) for label, y in biases.items()})
    errors = {label: results[f"{rule}, mean error"] for label, rule in names.items()}
    ps.plots.plot_curves(axes[1], {label: (results["term"], y) for label, y in errors.items()})
    for rule in RULES:
        points = [float(closed_form(rule, n, DEEP)) for n in RANDOM_BITS]
        ps.plots.plot_published(axes[0], RANDOM_BITS, points, "closed form")
        end = float(TERMS * closed_form(rule, DRIFT_BITS, 8))
        ps.plots.plot_published(axes[1], [TERMS], [end], f"{TERMS} x bias")
    axes[0].set_yscale("symlog", base=2, linthresh=2.0 ** -(depth + 1), linscale=0.5)
    ticks = [-(2.0**-2), -(2.0**-5), -(2.0**-8), 0, 2.0 ** -(depth + 1)]
    axes[0].set_yticks(ticks, ["$-2^{-2}$", "$-2^{-5}$", "$-2^{-8}$", "0", f"$2^{{-{depth + 1}}}$"])
    title = f"inputs with D = {depth}"
    axes[0].set(xlabel="random bits N", ylabel="mean error in ulp", title=title)
    lanes = results["SRC, last errors"].size
    title = f"sum in bf16 with N = {drift_bits}, mean of {lanes} runs"
    axes[1].set(xlabel="terms added", ylabel="mean error of the sum in ulp", title=title)
    for panel in axes:
        ps.plots.finish(panel)
