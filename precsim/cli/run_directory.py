"""The directory of a training run: written as the run goes on, never over another one."""

import csv
import io
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from precsim.analysis.comparison import event_rates, summarise, weight_drift
from precsim.rounding.events import Events
from precsim.sweeps.cell import versions
from precsim.training.config import TrainConfig
from precsim.training.replay.files import file_name, unwritten, write_whole
from precsim.training.replay.weights import save_weights
from precsim.training.result import TrainResult
from precsim.transform.policy import Policy

FILES = {
    "summary.json": "the numbers of the tables, and what made them",
    "metrics.csv": "loss and counts of each step",
    "weights": "the final weights of each policy (safetensors)",
}
"""What every finished run leaves, besides its pictures."""

OPTIONS = "run.json"
"""The first file of a run that can be resumed: what it was begun with."""
DRAFT = f"{OPTIONS}.tmp"
"""What is left of it, if the run is killed while it writes it."""

_COLUMNS = ("policy", "step", "loss", "taken", "loss_scale", "nonzero_updates", "swallowed_updates")


def check_place(path: Path) -> None:
    """Refuse a place where no new directory can be made; make nothing."""
    reason = None
    try:
        if path.exists():
            require_empty(path)
        above = next(folder for folder in path.absolute().parents if folder.exists())
    except OSError as error:
        if error.strerror is None:
            raise
        reason = error.strerror  # a name that is too long, say
    else:
        if not above.is_dir():
            reason = f"{above} is not a folder"
        elif not os.access(above, os.W_OK | os.X_OK):
            reason = f"{above} is read-only"
    if reason is not None:
        raise OSError(f"--out is {path}, which cannot be made: {reason}")


def create(path: Path) -> Path:
    """Make a new directory; its name gets a number if another run has taken it."""
    for k in count(1):
        new = path if k == 1 else path.with_name(f"{path.name}-{k}")
        with suppress(FileExistsError):
            return _made(new, exist_ok=False)
    raise AssertionError("numbers do not end")


def reuse(path: Path) -> Path:
    """Make the directory, or take one without files, such as a killed run leaves behind."""
    if not path.exists():
        _made(path, exist_ok=True)
    require_empty(path)
    return path


def _made(path: Path, *, exist_ok: bool) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=exist_ok)
    except FileExistsError:
        raise
    except OSError as error:
        raise OSError(f"--out is {path}, which cannot be made: {error.strerror}") from None
    return path


def require_empty(path: Path) -> None:
    """Refuse a directory that holds a file; one of empty directories, or a draft, holds none."""
    if not path.is_dir():
        raise FileExistsError(f"--out is {path}, which is a file; name a directory")
    if any(not found.is_dir() and found.name != DRAFT for found in path.rglob("*")):
        raise FileExistsError(f"--out is {path}, which holds files; name another directory")


def require_run(path: Path, argument: str) -> None:
    """Refuse a stored run where nothing is."""
    if not path.exists():
        raise FileNotFoundError(f"{argument} is {path}, which does not exist")


def require_device() -> None:
    """Refuse to begin where JAX has no device of the kind that it is told to use."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError):
        wanted = os.environ.get("JAX_PLATFORMS", "")
        raise ValueError(
            f"JAX has no device here; JAX_PLATFORMS is {wanted!r}, and cpu is always allowed"
        ) from None


def provenance(arguments: Sequence[str], seed: int) -> dict[str, Any]:
    """Return what made the run: command, versions, device, seed, time."""
    import jax

    return {
        "command": ["precsim", *arguments],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "versions": {**versions(), "python": platform.python_version()},
        "platform": platform.platform(),
        "device": str(jax.devices()[0].device_kind),
        "byte_order": sys.byteorder,
    }


def config_fields(config: TrainConfig) -> dict[str, Any]:
    """Return a config's settings besides the policy, by name."""
    fields = asdict(config)
    del fields["policy"]
    return fields


def summary(
    results: Sequence[TrainResult], weights: Mapping[str, str], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of summary.json; the first result is the reference."""
    return {
        "complete": False,
        "policies": [
            summarise(result, results[0]).as_dict() | {"places": event_rates(result)}
            for result in results
        ],
        "weights": weights,
        "failures": {},
        "provenance": about,
    }


def write_summary(path: Path, content: Mapping[str, Any]) -> None:
    """Write summary.json in one piece: an interruption leaves the former one."""
    write_whole(path / "summary.json", json.dumps(content, indent=2, allow_nan=False) + "\n")


def weights_file(policy: Policy) -> str:
    """Return where the weights of a run are, below its directory."""
    return f"weights/{file_name(policy.name)}.safetensors"


def add_result(path: Path, result: TrainResult) -> None:
    """Append a finished run to metrics.csv and store its weights."""
    _add_metrics(path / "metrics.csv", result)
    (path / "weights").mkdir(exist_ok=True)
    save_weights(path / weights_file(result.config.policy), result.weights)


def arrange_metrics(path: Path, results: Sequence[TrainResult]) -> None:
    """Write metrics.csv anew, in the order of the results, where they finished in another one."""
    text = io.StringIO(newline="")
    _write_metrics(text, results, has_header=True)
    write_whole(path / "metrics.csv", text.getvalue())


def _add_metrics(metrics: Path, result: TrainResult) -> None:
    is_new = not metrics.exists()
    try:
        with metrics.open("a", newline="", encoding="utf-8") as file:
            _write_metrics(file, [result], has_header=is_new)
    except OSError as error:
        raise unwritten(metrics, error) from None


def _write_metrics(file: Any, results: Sequence[TrainResult], *, has_header: bool) -> None:
    writer = csv.writer(file)
    if has_header:
        counts = (f"backward_{name}" for name in Events._fields)
        writer.writerow([*_COLUMNS, *counts, "layer_scales"])
    for result in results:
        none = np.zeros((len(result.losses), len(Events._fields)), np.int64)
        backward = sum(result.backward_events.values(), none)
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
                    " ".join(f"{name}={float(x[k])!r}" for name, x in result.layer_scales.items()),
                ]
            )


def pictures(results: Sequence[TrainResult]) -> dict[str, str]:
    """Return the pictures that can be drawn, and what they show; a drift needs two runs."""
    said = {
        "loss_curves": "the loss along the steps",
        "gradient_exponents": "how large the gradients are, over each format's range",
        "weight_drift": "how far the weights are from those of fp32",
    }
    return {n: t for n, t in said.items() if len(results) > 1 or n != "weight_drift"}


def draw(path: Path, name: str, results: Sequence[TrainResult]) -> Path:
    """Draw one of the `pictures`; return the PNG file, beside which an SVG file is."""
    from precsim.analysis.plots.figures import figure

    panels, drawn = _DRAWN[name]
    with figure(panels, height=6.5, path=path / name) as axes:
        drawn(axes, results)
    return path / f"{name}.png"


def _draw_losses(axes: Sequence[Any], results: Sequence[TrainResult]) -> None:
    """Draw the losses of the reference, and the gaps of the others to them."""
    from precsim.analysis.plots.runs import plot_loss_curves, plot_loss_gaps

    losses = dict(zip(_labels(results), (r.losses for r in results), strict=True))
    plot_loss_curves(axes[0], dict(list(losses.items())[:1]))
    if len(losses) > 1:
        plot_loss_gaps(axes[1], losses)


def _draw_exponents(axes: Sequence[Any], results: Sequence[TrainResult]) -> None:
    """Draw the gradients of the reference, and the formats that cotangents are rounded to."""
    from precsim.analysis.plots.exponents import has_range, plot_exponent_histogram
    from precsim.analysis.ranges import exponent_histogram

    gradients = {"first step": results[0].first_gradient, "last step": results[0].last_gradient}
    histograms = {}
    for label, gradient in gradients.items():
        histogram = exponent_histogram(np.concatenate([g.ravel() for g in gradient.values()]))
        histograms[f"fp32 gradient, {label}"] = (histogram.exponents, histogram.counts)
    formats = dict.fromkeys(_gradient_format(r) for r in results)
    plot_exponent_histogram(axes[0], histograms, [fmt for fmt in formats if has_range(fmt)])


def _draw_drift(axes: Sequence[Any], results: Sequence[TrainResult]) -> None:
    from precsim.analysis.plots.runs import plot_weight_drift

    drifts = (weight_drift(r, results[0]) for r in results[1:])
    plot_weight_drift(axes[0], dict(zip(_labels(results)[1:], drifts, strict=True)))


_DRAWN: dict[str, tuple[int, Callable[[Any, Sequence[TrainResult]], None]]] = {
    "loss_curves": (2, _draw_losses),
    "gradient_exponents": (1, _draw_exponents),
    "weight_drift": (1, _draw_drift),
}


def _labels(results: Sequence[TrainResult]) -> list[str]:
    """Return the names of the runs; a long one is cut and numbered."""
    names = [r.config.policy.name for r in results]
    return [n if len(n) <= 40 else f"{n[:34]}... ({k})" for k, n in enumerate(names, 1)]


def _gradient_format(result: TrainResult) -> Any:
    """Return the format that cotangents are rounded to in a run."""
    operand = result.config.policy.dgrad.lhs
    return (result.config.policy.elementwise if operand is None else operand).format
