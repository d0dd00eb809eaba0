"""NVFP4 by scale rule: what a second scale gains, what unbiased rounding costs, what averages gain.

A. Panferov et al., *Quartet II*, arXiv 2601.22813, 2026: the notebook on unbiased rounding
(IST-DASLab/Quartet-II, notebooks/unbiasedness.ipynb) prints mean square errors of normal numbers,
relative to their squares, and as bits: -log4 of the error. Rules: a scale for 16 numbers, or for 16
x 16 of them; "four over six" (J. Cook et al., arXiv 2512.02010), which takes the better one of two
scales. Then unbiased ones, with scales of 17/16 of the usual size, that no number saturates:
stochastic rounding of the elements; EDEN, which rounds elements of rotated vectors to nearest,
corrects their length, and rounds the corrected scales stochastically. Last, the error of a product
of two matrices averaged over N draws: of unbiased products it falls as 1 / N, log4(N) bits.

Blocks of 16 are formats of precsim; so are tiles, as blocks of 256 numbers of an array in whose
rows the tiles lie. The unbiased rules are put together from `round_to`.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.linalg import hadamard

import precsim as ps
from experiments.check import Check, Grade, Results

TITLE = "NVFP4: errors by scale rule, unbiased rounding, and averages of N products"
CITATION = "Panferov et al., arXiv 2601.22813 (notebook); Cook et al., arXiv 2512.02010"
CLASS: Grade = "B"
PANELS = 4
SECONDS = (25, 300)
SEED = 18

PUBLISHED: dict[str, Any] = {
    "read in": "Quartet II's notebook: the outputs of its cells (errors x 1e3, bits, and 1 - x.q / x.x). Bits of "
    "averaged stochastic products: an earlier version of it.",
    "rules": {
        "1 x 16": (9.0, 3.394),
        "4 over 6": (7.6, 3.524),
        "16 x 16": (12.4, 3.168),
        "16 x 16, 4 over 6": (12.4, 3.169),
    },
    "unbiased": {
        "nearest": (9.0, 3.40, 0.00790),
        "stochastic": (23.5, 2.71, 0.00002),
        "EDEN": (9.8, 3.34, 0.00055),
    },
    "bits of averages": {1: 2.197, 4: 3.196, 16: 4.196, 64: 5.197, 256: 6.197, 1024: 7.196},
}
TILE, ROTATION = 16, 128
WIDER = 17 / 16
SHRUNK = 0.93 * WIDER
"""Scales of the notebook's rules that do not have to avoid saturation."""
BINS = np.linspace(0, 1, 25)


def relative_errors(found: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the squared error of each row, relative to its square."""
    x = x.astype(np.float64)
    return np.asarray(np.sum((found - x) ** 2, axis=-1) / np.sum(x**2, axis=-1))


def bits_of(error: float) -> float:
    """Return the bits of an error: half the negative logarithm to base 2."""
    return float(-np.log2(error) / 2)


def tiles(x: np.ndarray) -> np.ndarray:
    """Return the 16 x 16 tiles of a matrix, each as a row."""
    rows, columns = x.shape
    cut = x.reshape(rows // TILE, TILE, columns // TILE, TILE)
    return cut.swapaxes(1, 2).reshape(-1, TILE * TILE)


def from_tiles(cut: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Undo `tiles`."""
    rows, columns = shape
    blocks = cut.reshape(rows // TILE, columns // TILE, TILE, TILE)
    return blocks.swapaxes(1, 2).reshape(shape)


def by_rule(x: np.ndarray, rule: str) -> np.ndarray:
    """Return a matrix rounded by one of the deterministic rules."""
    name = "nvfp4_four_over_six" if "4 over 6" in rule else "nvfp4"
    if not rule.startswith("16 x 16"):
        return np.asarray(ps.round_to(x, name))
    tile = replace(ps.get_format(name), name="tile", block_size=TILE * TILE)
    return from_tiles(np.asarray(ps.round_to(tiles(x), tile)), x.shape)


def scaled(
    x: np.ndarray, factor: float, largest: float = 448.0
) -> tuple[np.ndarray, np.ndarray, np.float32]:
    """Return blocks over their scales, the E4M3 scales, and the scale of the array.

    The amax of a block lies at 6 / factor; `largest` is the largest scale of a block.
    """
    blocks = x.reshape(-1, TILE)
    amax = np.abs(blocks).max(axis=1, keepdims=True) * np.float32(factor / 6)
    whole = np.float32(amax.max() / largest)
    scale = np.asarray(ps.round_to(amax / whole, "e4m3:saturate"))
    scale = np.where(scale == 0, np.float32(1), scale)
    return blocks / (scale * whole), scale, whole


def words(like: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return 32 random bits for each element."""
    return rng.integers(2**32, size=like.shape, dtype=np.uint32)


def nearest(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Round to nearest."""
    blocks, scale, whole = scaled(x, SHRUNK)
    return np.asarray(ps.round_to(blocks, "e2m1:saturate") * scale * whole).reshape(x.shape)


def stochastic(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Round elements stochastically: in the mean they are x, as none saturates."""
    blocks, scale, whole = scaled(x, WIDER)
    elements = ps.round_to(blocks, "e2m1:sr:saturate", random_bits=words(blocks, rng))
    return np.asarray(elements * scale * whole).reshape(x.shape)


def eden(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Round to nearest, correct the length of vectors of 128, round scales stochastically."""
    blocks, scale, whole = scaled(x, SHRUNK, 256.0)  # room for the correction
    elements = np.asarray(ps.round_to(blocks, "e2m1:saturate"))
    vectors, rounded = blocks.reshape(-1, ROTATION), elements.reshape(-1, ROTATION)
    correction = np.sum(vectors**2, axis=1) / np.sum(vectors * rounded, axis=1)
    wanted = scale * np.repeat(correction, ROTATION // TILE)[:, None]
    corrected = np.asarray(ps.round_to(wanted, "e4m3:sr:saturate", random_bits=words(wanted, rng)))
    return np.asarray(elements * corrected * whole).reshape(x.shape)


UNBIASED = {"nearest": nearest, "stochastic": stochastic, "EDEN": eden}


def rotation(rng: np.random.Generator) -> np.ndarray:
    """Return an orthogonal matrix: Hadamard's, with random signs."""
    signs = rng.integers(2, size=ROTATION) * 2 - 1
    return np.asarray(hadamard(ROTATION) * signs / np.sqrt(ROTATION), np.float32)


def averaged(rule: str, count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return relative squared errors of the mean of 1, 4, ... `count` products of matrices."""
    x, y = rng.standard_normal((2, size, 4 * ROTATION), np.float32)
    exact = x.astype(np.float64) @ y.T.astype(np.float64)
    total, errors = np.zeros_like(exact), []

    for step in range(1, count + 1):
        turn = rotation(rng)
        turned = [(z.reshape(-1, ROTATION) @ turn.T).reshape(z.shape) for z in (x, y)]
        left, right = (UNBIASED[rule](z, rng).astype(np.float64) for z in turned)
        total += left @ right.T
        if step & (step - 1) == 0 and step.bit_length() % 2:
            errors.append(np.mean((total / step - exact) ** 2) / np.mean(exact**2))
    return np.array(errors)


def compute(fast: bool, *, size: int = 0, products: int = 0, seed: int = SEED) -> Results:
    """Return errors by rule on size x size numbers, by unbiased rule, and of averages.

    Parameters
    ----------
    fast : bool
        Whether the last rule is left out, whose compilation takes long.
    size : int
        The rules round size x size numbers, a multiple of 16; 0 for 512, or 2048 if not fast.
    products : int
        How many products are averaged; 0 for 64, or 1024 if not fast.
    seed : int
        Of all random numbers.
    """
    if size < 0 or size % TILE:
        raise ValueError(f"size is {size}; allowed are 0 and multiples of {TILE}")
    if products and products < 4:
        raise ValueError(f"products is {products}; allowed are 0 and integers from 4 on")
    size, products = size or (512 if fast else 2048), products or (64 if fast else 1024)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((size, size), np.float32)
    results: Results = {"fraction of amax": (BINS[1:] + BINS[:-1]) / 2}
    amax = np.repeat(np.abs(x.reshape(-1, TILE)).max(axis=1), TILE).reshape(x.shape)
    place = np.minimum((np.abs(x) / amax * (BINS.size - 1)).astype(int), BINS.size - 2)
    rules = list(PUBLISHED["rules"])[: 3 if fast else 4]
    for rule in rules:
        found = by_rule(x, rule)
        results[rule] = np.asarray(relative_errors(found, x).mean())
        if not rule.startswith("16"):
            squares = (((found - x) / amax) ** 2).astype(np.float64)
            totals, counts = (
                np.bincount(place.ravel(), weights, BINS.size - 1)
                for weights in (squares.ravel(), None)
            )
            results[f"by place, {rule}"] = np.sqrt(totals / counts)
    rows = 8 * size
    wide = np.logspace(0, 8, rows, base=2, dtype=np.float32)[:, None]
    x = rng.standard_normal((rows, ROTATION), np.float32) * wide

    for rule, function in UNBIASED.items():
        found = function(x, rng).astype(np.float64)
        results[f"{rule}, error"] = np.asarray(relative_errors(found, x).mean())
        length = np.sum(found * x, axis=1) / np.sum(x.astype(np.float64) ** 2, axis=1)
        results[f"{rule}, shrinkage"] = np.asarray(1 - length.mean())
        results[f"{rule}, averages"] = averaged(rule, products, 128, rng)
    results["products"] = 4 ** np.arange(results["EDEN, averages"].size)
    return results


def check(results: Results) -> list[Check]:
    """Compare errors and bits within what random numbers allow, and the gain by averaging."""
    checks = []
    rules = {rule: row for rule, row in PUBLISHED["rules"].items() if rule in results}
    for rule, (error, bits) in rules.items():
        ours = float(results[rule])
        checks.append(Check(f"{rule}, error x 1e3", error, ours * 1e3, "absolute", 0.1, "B"))
        checks.append(Check(f"{rule}, bits", bits, bits_of(ours), "absolute", 0.005, "B"))
    for rule, (error, bits, shrinkage) in PUBLISHED["unbiased"].items():
        ours = float(results[f"{rule}, error"])
        checks.append(Check(f"{rule}, error x 1e3", error, ours * 1e3, "absolute", 0.15, "B"))
        checks.append(Check(f"{rule}, bits", bits, bits_of(ours), "absolute", 0.01, "B"))
        ours = float(results[f"{rule}, shrinkage"])
        checks.append(Check(f"{rule}, 1 - x.q / x.x", shrinkage, ours, "absolute", 8e-4, "B"))
    products = results["products"].tolist()
    for count, error in zip(products, results["stochastic, averages"].tolist(), strict=True):
        if (bits := PUBLISHED["bits of averages"].get(count)) is not None:
            label = f"mean of {count} stochastic products, bits"
            checks.append(Check(label, bits, bits_of(error), "absolute", 0.05, "B"))
    full = float(np.log2(products[-1]) / 2)
    for rule in UNBIASED:
        first, *_, last = map(bits_of, results[f"{rule}, averages"])
        limits = (0.0, min(3.2, 0.9 * full)) if rule == "nearest" else (0.95 * full, 1.05 * full)
        label = f"{rule}, bits gained by {products[-1]} products"
        checks.append(Check(label, limits, last - first, "range", grade="C"))
    return checks


def bars(panel: Any, names: list[str], lengths: list[float]) -> None:
    """Draw horizontal bars from the top."""
    panel.barh(-np.arange(len(names)), lengths, 0.6, color="0.6")
    panel.set_yticks(-np.arange(len(names)), names)


def plot(results: Results, axes: list[Any]) -> None:
    """Draw errors by rule, errors by place in the block, shrinkage, and bits of averages."""
    rules = {rule: row for rule, row in PUBLISHED["rules"].items() if rule in results}
    errors = [float(results[rule]) for rule in rules]
    errors += [float(results[f"{rule}, error"]) for rule in UNBIASED]
    bars(axes[0], [*rules, *UNBIASED], [error * 1e3 for error in errors])
    points = [row[0] for row in (*rules.values(), *PUBLISHED["unbiased"].values())]
    ps.plots.plot_published(axes[0], points, -np.arange(len(points)))
    axes[0].set(xlabel="relative mean square error x 1e3", title="normal numbers")
    place = results["fraction of amax"]
    curves = {rule: (place, results[f"by place, {rule}"]) for rule in ("1 x 16", "4 over 6")}
    ps.plots.plot_curves(axes[1], curves)
    axes[1].set(xlabel="|x| / amax of its block", ylabel="root mean square error / amax")
    axes[1].set(title="where the error is", ylim=(0, None))
    bars(axes[2], list(UNBIASED), [float(results[f"{rule}, shrinkage"]) for rule in UNBIASED])
    theirs = [PUBLISHED["unbiased"][rule][2] for rule in UNBIASED]
    ps.plots.plot_published(axes[2], theirs, -np.arange(len(theirs)))
    axes[2].set(xlabel="1 - x.q / x.x", title="bias: vectors become shorter")
    products = results["products"]
    bits = {
        rule: (products, [bits_of(e) for e in results[f"{rule}, averages"]]) for rule in UNBIASED
    }
    ps.plots.plot_curves(axes[3], bits)
    shown = [n for n in products.tolist() if n in PUBLISHED["bits of averages"]]
    ps.plots.plot_published(axes[3], shown, [PUBLISHED["bits of averages"][n] for n in shown])
    axes[3].set_xscale("log", base=2)
    axes[3].set_xticks(products, products.tolist(), minor=False)
    axes[3].set(xlabel="products averaged", ylabel="bits", title="mean of N products")
    for panel in axes:
        ps.plots.finish(panel)
