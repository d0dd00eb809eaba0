"""Flash attention in bf16: where several scores of a row tie for the maximum, rounding is biased.

H. Qiu, Q. Yao, *Why Low-Precision Transformer Training Fails: An Analysis on Flash Attention*,
arXiv 2510.04212, 3.3.2 and 4. A score that is the maximum of its row gets the weight exp(0) = 1, so
that its value v enters the sum P V as it is, a number of bf16. Two values of one binade add up to
a number with one bit too many for bf16: half of the sums are ties. The small terms of the other
keys, added in float32, break every tie, and in the same direction: away from zero, since the values
have one sign. With tail s, in ulps of the values, the mean error is s - 1/2 ulp for negative values
(0 < s < 1), by counting.

The authors' cure keeps all weights below 1: where the maximum r > 0 is reached more than once, beta
r is subtracted from the scores, not r. In the kernel here scores and weights are rounded to the
format. P V is added in float32, key by key and tile by tile, and rounded before the division. As in
the authors' code, each tile looks for ties by itself: maxima in two tiles go uncured.
"""

from fractions import Fraction
from typing import Any

import numpy as np

import precsim as ps
from experiments.check import Check, Grade, Results

TITLE = "Flash attention in bf16: tied maxima bias the rounding of P V, by half an ulp of V"
CITATION = "Qiu & Yao, arXiv 2510.04212, sections 3.3.2 and 4"
CLASS: Grade = "B"
PANELS = 2
SEED = 22

PUBLISHED: dict[str, Any] = {
    "read in": "arXiv 2510.04212v2, 'Analysis of Rounding Error in Fig. 6': one addition, all digits. s - 1/2 "
    "and 0 at s = 0 and 1: counting, as in the text above. The sign of the drift: their Fig. 6.",
    "before": -2.40625,
    "sum": -4.703990459442139,
    "sum, bits": 0b1_10000001_00101101000011100010111,
    "rounded": -4.71875,
    "rounded, bits": 0b1_10000001_0010111,
    "error": -0.014759540557861328,
    "tail, about": 0.00087,
}
SECOND = -2.296875  # the only number of bf16 with which the sum leaves a tail of about 0.00087
EIGHTHS = np.arange(9)
ARMS = {  # name: has ties, has the cure, is divided before it is rounded, keys in a tile
    "tied": (True, False, False, 0),
    "tied, small tiles": (True, False, False, 4),
    "one maximum": (False, False, False, 0),
    "tied, divided first": (True, False, True, 0),
    "tied, cured": (True, True, False, 0),
    "tied, cured, small tiles": (True, True, False, 4),
}


def one_addition() -> tuple[float, float, float]:
    """Return tail, float32 sum and bf16 result of the paper's example."""
    first, second, total = PUBLISHED["before"], SECOND, PUBLISHED["sum"]
    tail = total - first - second
    before = ps.add(np.float32(first), np.float32(tail), "fp32")
    found = ps.add(before, np.float32(second), "fp32")
    return tail, float(found), float(ps.round_to(found, "bf16"))


def mean_error(fmt: str, eighths: int) -> Fraction:
    """Return the mean error of -(x + y + s), rounded, over all x, y of the binade 2 ... 4, in ulp.

    s is `eighths` / 8 ulp of x. All numbers are integers of ulp / 8 here.
    """
    ulp = float(ps.ulp(np.float32(2), fmt))
    x = np.arange(2, 4, ulp)
    sums = -(x[:, None] + x + eighths * ulp / 8).astype(np.float32)
    errors = (ps.round_to(sums, fmt) - sums) / (ulp / 8)
    return Fraction(int(errors.sum()), 8 * errors.size)


def attention(
    q: Any, k: Any, v: Any, *, fmt: str, tile: int, beta: float = 1.0
) -> dict[str, np.ndarray]:
    """Return sums P V in float32, weights, and sums of weights of each row, by online softmax.

    Shapes: q (rows, 1, d), k (rows, keys, d), v (rows, keys, features). Each row is a problem of
    its own. With `beta` above 1, a maximum r > 0 that is reached more than once is subtracted
    beta times; one below 0 is not subtracted.
    """
    scores = ps.matmul(q, np.swapaxes(k, 1, 2), f"{fmt}_{fmt}_fp32", backend="reference")
    scores = np.asarray(ps.round_to(scores, fmt))[:, 0]
    largest = np.full(len(q), -np.inf, np.float32)
    total = np.zeros(len(q), np.float32)
    output = np.zeros((len(q), 1, v.shape[-1]), np.float32)
    weights: list[Any] = []
    for start in range(0, k.shape[1], tile):
        part = scores[:, start : start + tile]
        top = part.max(axis=1)
        if beta > 1:
            is_tied = (part == top[:, None]).sum(axis=1) > 1
            top = np.where(is_tied, np.where(top > 0, np.float32(beta) * top, 0), top)
        new = np.maximum(largest, top)
        p = ps.exp(part - new[:, None], "fp32")
        shrink = ps.exp(largest - new, "fp32")
        total = ps.add(ps.multiply(shrink, total, "fp32"), ps.accumulate(p, "fp32", axis=1), "fp32")
        output = ps.multiply(shrink[:, None, None], output, "fp32")
        p = ps.round_to(p, fmt)
        values = v[:, start : start + tile]
        output = ps.matmul(p[:, None], values, f"{fmt}_{fmt}_fp32", c=output, backend="reference")
        weights = [ps.multiply(shrink[:, None], old, "fp32") for old in weights] + [p]
        largest = new
    return {"sum": output[:, 0], "weights": np.concatenate(weights, axis=1), "total": total}


def problems(
    rows: int, keys: int, gap: float, ties: int, fmt: str, seed: int
) -> tuple[np.ndarray, ...]:
    """Return q, k, v: `ties` keys are the same, and score about `gap` more than the others.

    These keys are spread evenly, the values lie in -4 ... -2, one binade.
    """
    rng = np.random.default_rng(seed)
    d, features = 8, 8
    q = rng.normal(0, 0.25, (rows, 1, d))
    k = rng.normal(0, 0.25, (rows, keys, d))
    q[..., 0] = 2
    k[..., 0] -= gap / 4
    places = (2 * np.arange(ties) + 1) * keys // (2 * ties)
    k[:, places] = rng.normal(0, 0.25, (rows, 1, d)) + np.eye(d)[0] * gap / 4
    v = -rng.uniform(2, 4, (rows, keys, features))
    return tuple(np.asarray(ps.round_to(x, fmt), np.float32) for x in (q, k, v))


def errors_of(
    inputs: tuple[np.ndarray, ...], *, fmt: str, tile: int, beta: float, divided: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return errors of the rounded results, tails, and the number of weights of 1 in each row.

    Errors and tails, shape (rows, features), are in ulps of the values times the largest weight.
    """
    q, k, v = inputs
    found = attention(q, k, v, fmt=fmt, tile=tile, beta=beta)
    weights, total = found["weights"].astype(np.float64), found["sum"]
    largest = weights.max(axis=1)[:, None]
    unit = float(ps.ulp(np.float32(2), fmt)) * largest
    others = np.where(weights == largest, 0, weights)
    tails = np.abs((others[..., None] * v).sum(axis=1)) / unit
    if divided:
        total = ps.divide(total, found["total"][:, None], "fp32")
        unit = unit / found["total"][:, None]
    errors = (ps.round_to(total, fmt).astype(np.float64) - total) / unit
    return errors, tails, (weights == 1).sum(axis=1)


def compute(
    fast: bool,
    *,
    format_: str = "bf16",
    rows: int = 256,
    keys: int = 16,
    ties: int = 2,
    gap: float = 11.0,
    beta: float = 2.0,
    seed: int = SEED,
) -> Results:
    """Return the paper's addition, the exact mean errors, and those of attention, by arm.

    Parameters
    ----------
    fast : bool
        Whether not to take 16 times as many rows.
    format_ : str
        Format of scores, weights, values and results.
    rows, keys : int
        Queries, each a problem of its own, and keys.
    ties : int
        Keys that are the same, and score highest.
    gap : float
        How much more they score than the others, about.
    beta : float
        Factor of the cure.
    seed : int
        Of queries, keys and values.
    """
    if not 1 <= ties <= keys:
        raise ValueError(f"ties is {ties}; allowed are integers from 1 to keys, {keys}")
    rows = rows if fast else 16 * rows
    tail, total, rounded = one_addition()
    results: Results = {"tail": np.array(tail), "sum": np.array(total)}
    results["rounded"] = np.array(rounded)
    results["ties"], results["eighths"] = np.array(ties), EIGHTHS
    means = [mean_error(format_, int(eighths)) for eighths in EIGHTHS]
    results["mean error, numerator"] = np.array([x.numerator for x in means])
    results["mean error, denominator"] = np.array([x.denominator for x in means])
    tied = problems(rows, keys, gap, ties, format_, seed)
    alone = problems(rows, keys, gap, 1, format_, seed)
    for name, (has_ties, has_cure, divided, tile) in ARMS.items():
        errors, tails, ones = errors_of(
            tied if has_ties else alone,
            fmt=format_,
            tile=tile or keys,
            beta=beta if has_cure else 1.0,
            divided=divided,
        )
        results[f"{name}, errors"] = errors
        results[f"{name}, mean tail"] = np.array(tails.mean())
        results[f"{name}, weights of 1"] = ones
    return results


def closed_form(eighths: int) -> Fraction:
    """Return the mean error in ulp of two negative values and a tail of `eighths` / 8 ulp."""
    tail = Fraction(eighths, 8)
    return Fraction(0) if tail in (0, 1) else tail - Fraction(1, 2)


def check(results: Results) -> list[Check]:
    """Compare the addition, the mean errors as fractions, and the bias of attention by arm."""
    total, rounded = results["sum"].astype(np.float32), results["rounded"].astype(np.float32)
    error, tail = float(results["rounded"] - results["sum"]), -float(results["tail"])
    checks = [
        Check("tail of the example", PUBLISHED["tail, about"], tail, "digits", 1, "B"),
        Check("sum in float32", PUBLISHED["sum"], float(total), grade="B"),
        Check("sum, bits", PUBLISHED["sum, bits"], int(total.view(np.uint32)), grade="B"),
        Check("rounded", PUBLISHED["rounded"], float(rounded), grade="B"),
        Check(
            "rounded, bits",
            PUBLISHED["rounded, bits"],
            int(rounded.view(np.uint32) >> 16),
            grade="B",
        ),
        Check("error", PUBLISHED["error"], error, grade="B"),
    ]
    for k, eighths in enumerate(results["eighths"].tolist()):
        for part in ("numerator", "denominator"):
            theirs = getattr(closed_form(eighths), part)
            label = f"mean error, tail of {eighths}/8 ulp, {part}"
            checks.append(Check(label, theirs, int(results[f"mean error, {part}"][k]), grade="B"))
    for name, (has_ties, has_cure, divided, tile) in ARMS.items():
        is_cured = has_cure and not tile  # a tile with one of the maxima sees no tie
        count = 0 if is_cured else int(results["ties"]) if has_ties else 1
        for kind, ours in (("fewest", np.min), ("most", np.max)):
            ones = int(ours(results[f"{name}, weights of 1"]))
            checks.append(Check(f"{name}, {kind} weights of 1 in a row", count, ones, grade="B"))
        errors, mean_tail = results[f"{name}, errors"], float(results[f"{name}, mean tail"])
        mean, label = float(errors.mean()), f"{name}, mean error in ulp"
        if not has_ties:
            # Nothing but the tail is lost. The float32 sum is off by some 1e-5 ulp.
            checks.append(Check(label, mean_tail, mean, "absolute", 1e-4, "B"))
            continue
        expected = 0.0 if is_cured or divided else mean_tail - 0.5
        tolerance = round(4 * float(errors.std()) / np.sqrt(errors.size), 4)
        checks.append(Check(label, expected, mean, "absolute", tolerance, "C"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw the mean error against the tail, and the errors of attention, added up."""
    tails = results["eighths"] / 8
    means = results["mean error, numerator"] / results["mean error, denominator"]
    axes[0].plot([0, 1], [-0.5, 0.5], color="black", linewidth=0.8, label="s − 1/2")
    axes[0].plot(tails, means, "o", label="all pairs, counted")
    axes[0].set(xlabel="tail s in ulp", ylabel="mean error in ulp")
    axes[0].set_title("−(x + y + s) rounded, x and y in 2 … 4")
    curves = {}
    for name in ARMS:
        if not name.endswith("small tiles"):
            added = np.cumsum(results[f"{name}, errors"].mean(axis=1))
            curves[name] = (np.arange(1, added.size + 1), added)
    ps.plots.plot_curves(axes[1], curves)
    rows = results["tied, errors"].shape[0]
    end = rows * (float(results["tied, mean tail"]) - 0.5)
    ps.plots.plot_published(axes[1], [rows], [end], "rows (s − 1/2)")
    axes[1].set(xlabel="rows", ylabel="sum of errors in ulp of V", title="P V in attention")
    for panel in axes:
        ps.plots.finish(panel)
