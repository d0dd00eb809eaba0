"""How many random bits stochastic rounding needs: about half the bits of the number of terms.

E.-M. El Arar, M. Fasi, S.-I. Filip, M. Mikaitis, *Probabilistic Error Analysis of Limited-Precision
Stochastic Rounding*, arXiv 2408.03069, 2024; *Limited-Precision Stochastic Rounding*, arXiv
2603.06060, 2026. With r random bits a number is rounded right in the mean only after it is
truncated to precision p + r: the mean error is half a u_{p+r} = 2^(1-p-r) of its binade, downward.
The random part of a sum's error grows as sqrt(n) u_p and this bias as n u_{p+r}, so that r =
ceil(log2(n) / 2) bits keep the bias below the noise. More of them gain little.

Means over random words are exact, by enumeration of every word. Sums are of n uniform numbers from
[0, 1]; r random bits are 16 random bits whose others are 0.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps
from experiments.check import Check, Grade, Results

TITLE = "Stochastic rounding with r random bits: its bias, and how many bits a sum of n terms needs"
CITATION = "El Arar et al., arXiv 2408.03069 (2024), arXiv 2603.06060 (2026)"
CLASS: Grade = "B"
PANELS = 4
SECONDS = (5, 9)
SEED = 21

PUBLISHED: dict[str, Any] = {
    "read in": "Both papers: the bias depends on r as u_{p+r}, bounds are O(sqrt(n) u_p) + O(n u_{p+r}), and "
    "r = ceil(log2(n) / 2) suffices. They give curves without numbers.",
    "mean error in u_{p+r}": -0.5,
    "at the stated r": (0.0, 0.3),  # below the bound sqrt(n) u_p
    "three bits fewer": (1.0, 2.0),
}
DEEP = 8  # bits of an input beyond the target's ulp
FEW = range(1, 7)
WORD = 16
RANDOM_BITS = np.arange(WORD + 1)


def truncated(r: int) -> tuple[int, float]:
    """Return how many inputs have the mean of their truncation to p + r bits; the mean error.

    The target has 4 significant bits and an ulp of 1/8 at 1; the inputs are all numbers from 1 on
    with `DEEP` bits more. The error is in u_{p+r}, over all inputs and all words of r bits.
    """
    parts = np.arange(2**DEEP)
    x = 1 + parts.astype(np.float32) * np.float32(2.0 ** -(DEEP + 3))
    grid, words = np.meshgrid(x, np.arange(2**r, dtype=np.uint32), indexing="ij")
    found = np.asarray(ps.round_to(grid, f"float(e=5,p=4):sr{r}", random_bits=words))
    # In parts of 2**-DEEP of an ulp, all of this is integers.
    total = np.sum((found.astype(np.float64) - 1) * 2 ** (DEEP + 3), axis=1)
    lost = parts % 2 ** (DEEP - r)
    right = int(np.count_nonzero(total == (parts - lost) * 2**r))
    return right, float((total - parts * 2**r).sum() / 2**DEEP / 2**r / 2 ** (DEEP - r))


def mean_error(r: np.ndarray) -> np.ndarray:
    """Return the mean error in u_{p+r} of inputs with `DEEP` bits, for r below."""
    return np.asarray(PUBLISHED["mean error in u_{p+r}"] * (1 - 2.0 ** (r - DEEP)))


def suffices(n: int) -> int:
    """Return the number of random bits that is said to suffice for n terms."""
    return int(np.ceil(np.log2(n) / 2))


@partial(jax.jit, static_argnames="spec")
def running_sums(terms: Any, words: Any, spec: str) -> Any:
    """Return all partial sums of terms (n, seeds) for each number of bits, (n, bits, seeds)."""
    masks = jnp.asarray((2**WORD - 2 ** (WORD - RANDOM_BITS)).astype(np.uint32))

    def step(total: Any, item: Any) -> tuple[Any, Any]:
        term, word = (jnp.broadcast_to(part, total.shape) for part in item)
        total = ps.add(total, term, spec, random_bits=word & masks[:, None])
        return total, total

    start = jnp.zeros((RANDOM_BITS.size, terms.shape[1]), jnp.float32)
    return jax.lax.scan(step, start, (terms, words))[1]


def noise(results: Results) -> np.ndarray:
    """Return sqrt(n) u_p for each number of terms."""
    return np.asarray(results["u_p"] * np.sqrt(results["n"]))


def compute(
    fast: bool,
    *,
    format_: str = "fp16",
    n: int = 0,
    seeds: int = 32,
    seed: int = SEED,
) -> Results:
    """Return mean errors by enumeration, and errors of sums by number of random bits.

    Parameters
    ----------
    fast : bool
        Whether sums are short.
    format_ : str
        A floating-point format with at least n as its largest value.
    n : int
        Terms of the longest sum, at least 64; 0 for 2**12, or 2**16 if not fast.
    seeds : int
        How many sums there are of each length.
    seed : int
        Of terms and random bits.
    """
    if n and not 64 <= n <= 2**20:
        raise ValueError(f"n is {n}; allowed are 0 and integers from 64 to 2**20")
    results: Results = {"few": np.array(FEW), "random bits": RANDOM_BITS}
    found = [truncated(r) for r in FEW]
    results["inputs with the mean of the truncation"] = np.array([count for count, _ in found])
    results["mean error"] = np.array([error for _, error in found])
    n = n or (2**12 if fast else 2**16)
    rng = np.random.default_rng(seed)
    terms = np.asarray(ps.round_to(rng.random((n, seeds), np.float32), format_))
    words = rng.integers(2**WORD, size=(n, seeds), dtype=np.uint32)
    sums = np.asarray(running_sums(terms, words, spec=f"{format_}:sr{WORD}"))
    lengths = 2 ** np.arange(6, int(np.log2(n)) + 1, 2)
    exact = np.cumsum(terms, axis=0, dtype=np.float64)[lengths - 1]
    errors = sums[lengths - 1].astype(np.float64) / exact[:, None] - 1
    results["n"] = lengths
    results["u_p"] = np.asarray(ps.ulp(1.0, format_))
    results["root mean square error"] = np.sqrt(np.mean(errors**2, axis=2))
    return results


def check(results: Results) -> list[Check]:
    """Compare means exactly, and errors at the stated number of bits with sqrt(n) u_p."""
    checks = []
    for k, r in enumerate(results["few"].tolist()):
        right = float(results["inputs with the mean of the truncation"][k])
        checks.append(Check(f"r = {r}, inputs with that mean", float(2**DEEP), right, grade="B"))
        expected = float(mean_error(np.asarray(r)))
        ours = float(results["mean error"][k])
        checks.append(Check(f"r = {r}, mean error in u_(p+r)", expected, ours, grade="B"))
    relative = results["root mean square error"] / noise(results)[:, None]
    for n, ratio in zip(results["n"].tolist(), relative.tolist(), strict=True):
        for label, fewer in (("at the stated r", 0), ("three bits fewer", 3)):
            r = max(suffices(n) - fewer, 0)
            name = f"n = {n}, r = {r}, error / (sqrt(n) u_p)"
            checks.append(Check(name, PUBLISHED[label], ratio[r], "range", grade="C"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw the mean error by r; errors of sums by r, by r beyond log2(n) / 2, and by n."""
    few, bits, n = results["few"], results["random bits"], results["n"]
    errors = results["root mean square error"]
    ps.plots.plot_curves(axes[0], {"all inputs, all words": (few, results["mean error"])})
    ps.plots.plot_published(axes[0], few, mean_error(few), "formula")
    axes[0].set(xlabel="random bits r", ylabel="mean error in $u_{p+r}$", ylim=(-0.6, 0))
    names = [f"n = {terms}" for terms in n.tolist()]
    curves = {name: (bits, row) for name, row in zip(names, errors, strict=True)}
    ps.plots.plot_curves(axes[1], curves, markersize=3)
    stated = [suffices(terms) for terms in n.tolist()]
    heights = errors[np.arange(n.size), stated]
    ps.plots.plot_published(axes[1], stated, heights, r"r = $\lceil\log_2(n)/2\rceil$")
    axes[1].set(xlabel="random bits r", ylabel="relative error of the sum", yscale="log")
    axes[1].set_xticks(bits[::4])
    shifted = {
        name: (bits - np.log2(terms) / 2, row / scale)
        for name, terms, row, scale in zip(names, n, errors, noise(results), strict=True)
    }
    ps.plots.plot_curves(axes[2], shifted, markersize=3)
    axes[2].axvline(0, color="black", linewidth=0.8)
    axes[2].set(xlabel="r - log$_2$(n) / 2", ylabel=r"error / ($\sqrt{n}\ u_p$)", yscale="log")
    by_length = {f"r = {r}": (n, errors[:, r]) for r in (0, 2, 4, 6, WORD)}
    ps.plots.plot_curves(axes[3], by_length)
    axes[3].set(xlabel="terms n", ylabel="relative error of the sum", yscale="log")
    axes[3].set_xscale("log", base=2)
    titles = ("one rounding", "sums of n terms", "from the stated r on", "by length")
    for panel, title in zip(axes, titles, strict=True):
        panel.set_title(title)
        ps.plots.finish(panel)
