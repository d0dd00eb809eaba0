"""Is the loss that a format costs proportional to its mean square error? It depends on which error.

A. Panferov et al., *Quartet II*, arXiv 2601.22813, 2026, with the final losses of their runs
(IST-DASLab/Quartet-II, for_plots/runs.json): 21 pairs of model size and tokens, each trained in
bf16 and with the products of the forward pass in NVFP4 by several rules. A rule's gap is its loss
above that of bf16. If gaps are proportional to the error of the format, those of one rule give
those of the others.

The file's flags say how weights are rounded. By the error of that rule alone, the predictions are
worse than that all rules cost the same. But the script of the runs (scripts/forward_node.sh) rounds
activations in blocks of 1 x 16 always. A product has the errors of both operands, and by their mean
the four rules without rotations cost alike per error. This was found after looking at the numbers.
"""

from typing import Any

import numpy as np

import precsim as ps
from experiments.check import Check, Grade, Results
from experiments.g18_nvfp4_scale_rules import PUBLISHED as NVFP4

TITLE = "Loss gap against mean square error: 117 runs of Quartet II in NVFP4, and 21 in bf16"
CITATION = "Panferov et al., arXiv 2601.22813; IST-DASLab/Quartet-II, for_plots/runs.json"
CLASS: Grade = "B"
PANELS = 4
SECONDS = (0.1, 0.1)

# Parameters in millions, tokens in billions, and final losses, rounded to 6 decimals: bf16; 1 x 16,
# 16 x 16 (weights), both "4 over 6"; then 1 x 16 and 16 x 16 after a Hadamard rotation of 16.
_NONE = float("nan")
RUNS = (
    (30, 0.75, 3.422645, 3.463206, 3.471692, 3.460808, 3.467605, 3.466763, 3.476429),
    (30, 1.5, 3.300396, 3.351284, 3.357548, 3.347118, 3.356098, 3.359828, 3.371549),
    (30, 3.0, 3.211612, 3.272566, 3.281081, 3.267388, 3.277582, 3.281914, 3.288928),
    (30, 6.0, 3.145787, 3.217500, 3.228083, 3.208700, 3.223723, 3.226288, 3.235550),
    (30, 12.0, 3.094649, 3.177019, 3.188703, 3.166105, 3.183410, 3.185475, 3.195632),
    (30, 24.0, 3.057688, 3.140026, 3.153918, 3.129775, 3.148790, 3.150405, 3.160794),
    (50, 1.25, 3.236801, 3.281924, 3.287884, 3.276418, 3.283257, 3.281738, 3.289055),
    (50, 2.5, 3.141569, 3.194235, 3.201473, 3.187807, 3.198309, 3.198115, 3.205678),
    (50, 5.0, 3.069869, 3.128022, 3.140286, 3.121924, 3.135391, 3.133340, 3.142714),
    (50, 10.0, 3.014313, 3.078656, 3.092458, 3.072063, 3.087727, 3.086757, 3.096789),
    (50, 20.0, 2.969404, 3.038944, 3.054839, 3.032532, 3.049926, 3.049274, 3.061060),
    (50, 40.0, 2.934475, 3.005797, 3.020295, 2.997211, 3.014954, _NONE, _NONE),
    (100, 2.5, 3.029593, 3.071728, 3.077190, 3.065338, 3.073316, 3.077627, 3.083354),
    (100, 5.0, 2.941751, 2.992749, 2.997749, 2.984935, 2.992366, 2.997783, 3.003940),
    (100, 10.0, 2.875356, 2.931328, 2.940503, 2.923655, 2.934709, 2.937530, 2.946071),
    (100, 20.0, 2.826296, 2.886069, 2.896342, 2.877102, 2.892354, 2.893496, _NONE),
    (100, 40.0, 2.790503, 2.849040, 2.860636, 2.840884, 2.856023, 2.858516, 2.869314),
    (100, 80.0, 2.764166, 2.823546, 2.834258, 2.813694, 2.828746, 2.833904, 2.844684),
    (200, 5.0, 2.835095, 2.876657, 2.881878, 2.870791, 2.879243, _NONE, _NONE),
    (200, 10.0, 2.760396, 2.805667, 2.812971, 2.799315, 2.809888, _NONE, _NONE),
    (200, 20.0, 2.706198, 2.755525, 2.759416, 2.745162, 2.757283, _NONE, _NONE),
)
# Which rule of g18 rounds the weights, and which the activations.
PLAIN = {
    "1 x 16": ("1 x 16", "1 x 16"),
    "16 x 16": ("16 x 16", "1 x 16"),
    "4 over 6": ("4 over 6", "4 over 6"),
    "16 x 16, 4 over 6": ("16 x 16, 4 over 6", "4 over 6"),
}
ROTATED = {f"{rule}, rotated": PLAIN[rule] for rule in ("1 x 16", "16 x 16")}
SCHEMES = PLAIN | ROTATED
PREDICTORS = ("error of weights", "no difference", "error of both")
PUBLISHED: dict[str, Any] = {
    "read in": "Losses: Quartet II's runs.json (in RUNS). Errors of the rules: its notebook (see g18). Ratios and "
    "errors of predictions: an evaluation of the same file by a script independent of this one.",
    "gap / error": {
        "1 x 16": 6.50,
        "4 over 6": 6.64,
        "16 x 16": 6.28,
        "16 x 16, 4 over 6": 6.30,
    },
    "predictions": {"not rotated": 63, "all": 96},
    "error of weights": {"not rotated": 0.168, "all": 0.142},
    "no difference": {"not rotated": 0.120},
}


def error_of(rule: str) -> float:
    """Return a rule's relative mean square error on normal numbers, as published."""
    return float(NVFP4["rules"][rule][0]) * 1e-3


def factor(predictor: str, scheme: str) -> float:
    """Return what a scheme's gap is proportional to."""
    weights, activations = map(error_of, SCHEMES[scheme])
    return {
        "error of weights": weights,
        "no difference": 1.0,
        "error of both": (weights + activations) / 2,
    }[predictor]


def compute(fast: bool, *, reference: str = "1 x 16") -> Results:
    """Return gaps, and the relative errors of predictions from the gaps of one scheme.

    Parameters
    ----------
    fast : bool
        Not used: it takes no time.
    reference : str
        The scheme whose gaps predict those of the others, for example "4 over 6".
    """
    if reference not in SCHEMES:
        raise ValueError(f"reference is {reference!r}; allowed are {', '.join(map(repr, SCHEMES))}")
    runs = np.array(RUNS)
    results: Results = {"parameters": runs[:, 0], "tokens": runs[:, 1]}
    results["reference"] = np.asarray(reference)
    for k, scheme in enumerate(SCHEMES):
        results[f"gap, {scheme}"] = runs[:, 3 + k] - runs[:, 2]
    for scheme in SCHEMES:
        gap = results[f"gap, {scheme}"]
        for predictor in PREDICTORS:
            ratio = factor(predictor, scheme) / factor(predictor, reference)
            predicted = results[f"gap, {reference}"] * ratio
            results[f"{predictor}, {scheme}"] = predicted / gap - 1
        mean = np.nanmean(gap) / factor("error of both", scheme)
        results[f"gap / error, {scheme}"] = np.asarray(mean)
    return results


def missed(results: Results, predictor: str, which: str) -> np.ndarray:
    """Return the magnitudes of the relative errors of all predictions."""
    reference = str(results["reference"])
    names = [name for name in (SCHEMES if which == "all" else PLAIN) if name != reference]
    found = np.abs(np.concatenate([results[f"{predictor}, {name}"] for name in names]))
    return np.asarray(found[np.isfinite(found)])


def check(results: Results) -> list[Check]:
    """Compare the ratios of gap and error, and the mean errors of predictions."""
    checks = []
    for scheme, theirs in PUBLISHED["gap / error"].items():
        ours = float(results[f"gap / error, {scheme}"])
        label = f"{scheme}, mean gap / error"
        checks.append(Check(label, theirs, ours, "relative", 0.025, "B"))
    for which, count in PUBLISHED["predictions"].items():
        ours = float(missed(results, "no difference", which).size)
        checks.append(Check(f"predictions, {which}", float(count), ours, grade="B"))
    for predictor in PREDICTORS[:2]:
        for which, theirs in PUBLISHED[predictor].items():
            ours = float(missed(results, predictor, which).mean())
            label = f"{which}: mean miss by {predictor}"
            checks.append(Check(label, theirs, ours, "absolute", 0.003, "B"))
    worse, nothing, better = (
        float(missed(results, predictor, "not rotated").mean()) for predictor in PREDICTORS
    )
    label = "not rotated: miss by error of weights over that by no difference"
    checks.append(Check(label, (1.0, 2.0), worse / nothing, "range", grade="C"))
    ratios = [results[f"gap, {scheme}"] / factor("error of both", scheme) for scheme in PLAIN]
    for label, limits, ours in (
        ("least gap / error of a run", (0.0, 5.0), np.min(ratios)),
        ("largest gap / error of a run", (9.0, 12.0), np.max(ratios)),
    ):
        checks.append(Check(label, limits, float(ours), "range", grade="C"))
    label = "not rotated: mean miss by error of both"
    checks.append(Check(label, (0.0, 0.05), better, "range", grade="C"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw gaps by tokens, gaps over errors, predicted gaps, and by how much they miss."""
    size = 100
    chosen = results["parameters"] == size
    tokens = results["tokens"]
    curves = {s: (tokens[chosen], results[f"gap, {s}"][chosen] * 1e3) for s in SCHEMES}
    ps.plots.plot_curves(axes[0], curves)
    axes[0].set_xscale("log", base=2)
    axes[0].set_xticks(tokens[chosen], [f"{t:g}" for t in tokens[chosen]], minor=False)
    axes[0].set(xlabel="tokens, billions", ylabel="loss gap x 1e3")
    axes[0].set_title(f"{size} million parameters")
    per_token = tokens / results["parameters"] * 1e3
    order = np.argsort(per_token)
    ratios = {
        s: (per_token[order], (results[f"gap, {s}"] / factor("error of both", s))[order])
        for s in PLAIN
    }
    ps.plots.plot_curves(axes[1], ratios, linestyle="none")
    axes[1].set(xlabel="tokens a parameter", ylabel="gap / mean error", xscale="log")
    axes[1].set_title("divided by the error of both operands")
    reference = str(results["reference"])
    for predictor, marker in zip(PREDICTORS, ("x", "+", "."), strict=True):
        names = [scheme for scheme in PLAIN if scheme != reference]
        actual = np.concatenate([results[f"gap, {scheme}"] for scheme in names])
        ratio = np.concatenate([results[f"{predictor}, {scheme}"] for scheme in names]) + 1
        axes[2].plot(actual * 1e3, actual * ratio * 1e3, marker, markersize=4, label=predictor)
    ends = [actual.min() * 1e3, actual.max() * 1e3]
    axes[2].plot(ends, ends, color="black", linewidth=0.8)
    axes[2].set(xlabel="loss gap x 1e3", ylabel="predicted from " + reference)
    axes[2].set_title("not rotated, gap proportional to")
    for k, which in enumerate(PUBLISHED["predictions"]):
        lengths = [100 * missed(results, p, which).mean() for p in PREDICTORS]
        heights = -np.arange(len(PREDICTORS)) - 0.36 * k
        look = {"facecolor": ("0.35", "0.75")[k], "hatch": ("", "///")[k]}
        label = f"{which}: {missed(results, PREDICTORS[0], which).size} predictions"
        axes[3].barh(heights, lengths, 0.34, label=label, **look)
        shown = [n for n, p in enumerate(PREDICTORS) if which in PUBLISHED.get(p, {})]
        points = [100 * PUBLISHED[PREDICTORS[n]][which] for n in shown]
        ps.plots.plot_published(axes[3], points, heights[shown], "independent script")
    axes[3].set_yticks(-np.arange(len(PREDICTORS)) - 0.18, PREDICTORS)
    axes[3].set(xlabel="mean miss of the predicted gap, %", title="gap proportional to")
    for panel in axes:
        ps.plots.finish(panel)
