"""The directory of a training run: written as the run goes on, never over another one."""

import csv
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from precsim import __version__
from precsim.analysis.comparison import event_rates, summarise, weight_drift
from precsim.rounding.events import Events
from precsim.training.config import TrainConfig
from precsim.training.replay.checkpoint import save_weights
from precsim.training.result import TrainResult

_PACKAGES = ("numpy", "jax", "jaxlib", "ml_dtypes", "optax", "scikit-learn")
_COLUMNS = ("policy", "step", "loss", "taken", "loss_scale", "nonzero_updates", "swallowed_updates")


def create(path: Path) -> Path:
    """Make the directory; refuse one that exists."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise FileExistsError(f"--out is {path}, which exists; name a new directory") from None
    except OSError as error:
        raise OSError(f"--out is {path}, which cannot be made: {error.strerror}") from None
    return path


def provenance(arguments: Sequence[str], seed: int) -> dict[str, Any]:
    """Say what made the run: command, versions, device, seed, time."""
    import jax

    return {
        "command": ["precsim", *arguments],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "versions": {"precsim": __version__, "python": platform.python_version()}
        | {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "device": str(jax.devices()[0].device_kind),
        "byte_order": sys.byteorder,
    }


def config_fields(config: TrainConfig) -> dict[str, Any]:
    """Return a config's settings besides the policy, by name."""
    fields = asdict(config)
    del fields["policy"]
    return fields


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def write_summary(
    path: Path, results: Sequence[TrainResult], about: Mapping[str, Any], *, complete: bool
) -> dict[str, Any]:
    """Write summary.json in one piece (an interruption leaves the former one); return its content.

    The first result is the reference. Without results nothing is written.
    """
    content = {
        "complete": complete,
        "policies": [
            summarise(result, results[0]).as_dict() | {"places": event_rates(result)}
            for result in results
        ],
        "provenance": about,
    }
    if results:
        draft = path / "summary.json.tmp"
        draft.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
        draft.replace(path / "summary.json")
    return content


def add_result(path: Path, result: TrainResult) -> None:
    """Append a finished run to metrics.csv and store its weights."""
    metrics = path / "metrics.csv"
    is_new = not metrics.exists()
    backward = np.sum(list(result.backward_events.values()), axis=0)
    with metrics.open("a", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow([*_COLUMNS, *(f"backward_{name}" for name in Events._fields)])
        for k in range(len(result.losses)):
            writer.writerow(
                [
                    result.config.policy.name,
                    k + 1,
                    repr(float(result.losses[k])),
                    int(result.taken[k]),
                    result.loss_scales[k],
                    int(result.nonzero_updates[k]),
                    int(result.swallowed_updates[k]),
                    *(int(count) for count in backward[k]),
                ]
            )
    (path / "weights").mkdir(exist_ok=True)
    name = result.config.policy.name.replace("/", "-")
    save_weights(path / "weights" / f"{name}.safetensors", result.weights)


def draw(path: Path, results: Sequence[TrainResult]) -> list[Path]:
    """Draw loss curves, exponents of the reference's gradients, and weight drift."""
    from precsim.analysis.plots import (
        PAGE_WIDTH,
        new_figure,
        plot_exponent_histogram,
        plot_loss_curves,
        plot_weight_drift,
        save_figure,
    )
    from precsim.analysis.ranges import exponent_histogram

    reference, *others = results
    figures = []
    figure, axes = new_figure(width=PAGE_WIDTH, height=4.2)
    plot_loss_curves(axes[0, 0], {r.config.policy.name: r.losses for r in results})
    figures.append(save_figure(figure, path / "loss_curves"))

    gradients = {"first step": reference.first_gradient, "last step": reference.last_gradient}
    histograms = {}
    for label, gradient in gradients.items():
        flat = np.concatenate([g.ravel() for g in gradient.values()])
        histogram = exponent_histogram(flat)
        histograms[f"fp32 gradient, {label}"] = (histogram.exponents, histogram.counts)
    formats = list(dict.fromkeys(_gradient_format(r) for r in results))
    figure, axes = new_figure(width=PAGE_WIDTH, height=4.2)
    plot_exponent_histogram(axes[0, 0], histograms, formats)
    figures.append(save_figure(figure, path / "gradient_exponents"))

    if others:
        figure, axes = new_figure(width=PAGE_WIDTH, height=4.2)
        drifts = {r.config.policy.name: weight_drift(r, reference) for r in others}
        plot_weight_drift(axes[0, 0], drifts)
        figures.append(save_figure(figure, path / "weight_drift"))
    return [png for png, _ in figures]


def _gradient_format(result: TrainResult) -> Any:
    """Return the format that cotangents are rounded to in a run."""
    operand = result.config.policy.dgrad.lhs
    return (result.config.policy.elementwise if operand is None else operand).format
