"""What ten policies cost two networks, predicted from one float32 run and then measured.

Predictions, the null hypothesis and this way of scoring were committed before any of the runs. They
are in `gap_predictions.json`, written by `gap_prediction`; the losses of the runs (five other
seeds, `precsim sweep experiments/gap_prediction.toml`) are in `gap_runs.json`.

Null hypothesis: each network loses the same with every policy. Its level is fitted afterwards to
what was measured, so no other level could be nearer. The predictions are scored as they are, and
with one factor a network fitted in the same way: then both have one free number a network.

What had been seen before: one seed of two similar networks, with some of these policies, in a trial
of how long compiling takes. Among them was q3.8, which did not learn. No constant was fitted to it.
"""

import json
from typing import Any

import numpy as np

import precsim as ps
from experiments.check import Check, Grade, Results
from experiments.gap_prediction import MODELS, POLICIES, PREDICTIONS, RUNS

TITLE = "Loss gaps of ten policies, predicted from one float32 run before they were trained"
CITATION = "nothing is published; predictions committed before the runs"
CLASS: Grade = "C"
PANELS = 4
SECONDS = (3, 3)
INPUTS = ("gap_prediction.py", PREDICTIONS.name, RUNS.name)

PUBLISHED: dict[str, Any] = {
    "read in": "nothing is published: the predictions are experiments/gap_predictions.json, committed before the runs "
    "of experiments/gap_runs.json were made",
}
PREDICTORS = {"forward": ("forward",), "all parts": ("forward", "slowed", "noise")}
MEASURES = ("rank correlation", "log error", "fitted log error", "fitted, over null")
ALL = "both"
MARKERS = "o^vsDP*X<>"
NEAR, FAR = ("fp8_current", "mxfp8", "mxfp4"), ("q3.12", "q3.8")
"""Policies whose predictions were within a factor of 2, and those that were far too low."""


def compute(
    fast: bool, *, floor: float = 1e-4, level: float = 0.95, resamples: int = 2000, seed: int = 29
) -> Results:
    """Return predictions, measured gaps by seed, and scores with their intervals.

    Parameters
    ----------
    fast : bool
        Not used: it takes no time.
    floor : float
        Logarithms are taken of gaps not below this one, in nats, nor above that of guessing.
    level : float
        Of the intervals, over seeds drawn again with replacement.
    resamples : int
        How often they are drawn.
    seed : int
        Decides what is drawn.
    """
    for name, value, low, high in (
        ("floor", floor, 1e-12, 1.0),
        ("level", level, 0.5, 0.999),
        ("resamples", resamples, 1, 100_000),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; allowed are numbers from {low:g} to {high:g}")
    predictions, runs = (json.loads(path.read_text("utf-8")) for path in (PREDICTIONS, RUNS))
    return score(predictions, runs, floor=floor, level=level, resamples=resamples, seed=seed)


def score(
    predictions: dict[str, Any],
    runs: dict[str, Any],
    *,
    floor: float,
    level: float,
    resamples: int,
    seed: int,
) -> Results:
    """Return what `compute` does, of predictions and losses by model, policy (and seed)."""
    gaps: list[np.ndarray] = []
    results: Results = {"floor": np.asarray(floor)}
    guessing = float(np.log(10))
    for model, losses in runs.items():
        names = [name for name in POLICIES if name in losses]
        seeds = sorted(losses["fp32"], key=int)
        found = [
            [
                guessing if (loss := losses[name][s]) is None else loss - losses["fp32"][s]
                for s in seeds
            ]
            for name in names
        ]
        gaps.append(np.array(found))
        results[f"{model}, policies"] = np.array(names)
        results[f"{model}, gaps"] = gaps[-1]
        for predictor, parts in PREDICTORS.items():
            predicted = [sum(predictions[model][name][part] for part in parts) for name in names]
            results[f"{model}, {predictor}"] = np.nan_to_num(np.array(predicted), nan=guessing)
    count = gaps[0].shape[1]
    draws = np.random.default_rng(seed).integers(count, size=(resamples, count))
    everything = np.vstack([np.arange(count), draws])
    for predictor in PREDICTORS:
        guess = [results[f"{model}, {predictor}"] for model in runs]
        for name, chosen in [*((m, [k]) for k, m in enumerate(runs)), (ALL, range(len(runs)))]:
            values = np.array(
                [
                    _scores(
                        [guess[k] for k in chosen],
                        [gaps[k][:, seeds].mean(axis=1) for k in chosen],
                        (floor, guessing),
                    )
                    for seeds in everything
                ]
            )
            ends = np.nanquantile(values[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
            results[f"{name}, {predictor}, scores"] = np.column_stack([values[0], *ends])
    return results


def _scores(
    guess: list[np.ndarray], gaps: list[np.ndarray], limits: tuple[float, float]
) -> list[float]:
    """Return `MEASURES` of predictions and mean gaps, a list with an array for each model."""
    from scipy.stats import spearmanr

    ours, theirs = ([np.log10(np.clip(x, *limits)) for x in each] for each in (guess, gaps))
    errors = [a - b for a, b in zip(ours, theirs, strict=True)]
    fitted = _root_mean_square([error - error.mean() for error in errors])
    null = _root_mean_square([each - each.mean() for each in theirs])
    rank = spearmanr(np.concatenate(guess), np.concatenate(gaps)).statistic
    return [float(rank), _root_mean_square(errors), fitted, fitted / null]


def _root_mean_square(errors: list[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def check(results: Results) -> list[Check]:
    """Return what the predictions reach, and where they fail: ranges, as nothing is published."""
    rank, _, _, over_null = results[f"{ALL}, all parts, scores"]
    ranges = [
        ("rank correlation", (0.8, 1.0), rank[0]),
        ("fitted log error over that of the null", (0.0, 1.0), over_null[0]),
        ("the same, upper end of its interval", (0.0, 1.0), over_null[2]),
    ]
    for model in MODELS:
        names = results[f"{model}, policies"].tolist()
        ratios = results[f"{model}, gaps"].mean(axis=1) / results[f"{model}, all parts"]
        for name, limits in (*((x, (0.5, 2.0)) for x in NEAR), *((x, (10.0, 1e4)) for x in FAR)):
            ranges.append(
                (f"{model}, {name}: measured / predicted", limits, ratios[names.index(name)])
            )
    return [Check(label, limits, float(x), "range", grade="C") for label, limits, x in ranges]


def plot(results: Results, axes: list[Any]) -> None:
    """Draw measured gaps over predicted ones, of each network, then the scores."""
    floor = float(results["floor"])
    for panel, model in zip(axes, MODELS, strict=False):
        names = results[f"{model}, policies"].tolist()
        means = np.maximum(results[f"{model}, gaps"].mean(axis=1), floor)
        seeds = np.maximum(results[f"{model}, gaps"], floor)
        predicted = np.maximum(results[f"{model}, all parts"], floor)
        forward = np.maximum(results[f"{model}, forward"], floor)
        ends = [min(predicted.min(), forward.min()) / 2, max(predicted.max(), means.max()) * 2]
        panel.plot(ends, ends, color="0.6", linewidth=0.8)
        for k, (name, x) in enumerate(zip(names, predicted, strict=True)):
            panel.plot([x, x], [seeds[k].min(), seeds[k].max()], color="0.6", linewidth=1)
            ps.plots.plot_curves(panel, {name: ([x], [means[k]])}, marker=MARKERS[k], linestyle="")
        panel.plot(forward, means, "x", color="0.5", markersize=4, label="forward only")
        panel.set(xscale="log", yscale="log", xlabel="predicted gap (nats)", ylabel="measured gap")
        panel.set_title(f"{model}: means and range of seeds")
        ps.plots.finish(panel)
    for panel, measure in zip(axes[2:], ("rank correlation", "fitted, over null"), strict=True):
        column = MEASURES.index(measure)
        rows = [(name, predictor) for name in (*MODELS, ALL) for predictor in PREDICTORS]
        for place, (name, predictor) in enumerate(rows):
            mean, low, high = results[f"{name}, {predictor}, scores"][column]
            panel.plot([low, high], [-place, -place], color="0.3", linewidth=1.2)
            panel.plot([mean], [-place], "o", color="black", markersize=3.5)
        panel.set_yticks(-np.arange(len(rows)), [f"{name}, {how}" for name, how in rows])
        panel.set_xlabel(measure)
        if measure != "rank correlation":
            panel.axvline(1, color="0.3", linewidth=0.8, linestyle="--")
        panel.set_title({"rank correlation": "order of policies"}.get(measure, "log error"))
        ps.plots.finish(panel)
