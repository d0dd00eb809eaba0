"""Losses and measures of outputs against targets, by name; always in float32."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.formats.arguments import not_allowed, shown
from precsim.training.functions import portable

Loss = Callable[[Any, Any], Array]
Metric = Callable[[Any, Any], Any]


def cross_entropy(outputs: Array, targets: Array) -> Array:
    """Return the mean cross-entropy of logits (..., classes) and classes (...).

    In stated arithmetic: the same bits on each device.
    """
    logits, labels = outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
    return portable.cross_entropy(logits, labels)


def masked_cross_entropy(outputs: Array, targets: Array) -> Array:
    """Return the mean cross-entropy over the places whose class is not below 0."""
    counts = targets >= 0
    logs = jax.nn.log_softmax(outputs)
    chosen = jnp.take_along_axis(logs, jnp.maximum(targets, 0)[..., None], -1)[..., 0]
    return -jnp.sum(jnp.where(counts, chosen, 0)) / jnp.maximum(jnp.sum(counts), 1)


def mean_squared_error(outputs: Array, targets: Array) -> Array:
    """Return the mean of the squared differences."""
    return jnp.mean(jnp.square(outputs.reshape(targets.shape) - targets))


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "masked_cross_entropy": masked_cross_entropy,
    "mse": mean_squared_error,
}


def accuracy(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Return the fraction of places where the largest output is that of the class."""
    counts = targets >= 0
    return float(np.mean((np.argmax(outputs, -1) == targets)[counts]))


def perplexity(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Return e to the mean cross-entropy, computed in float64."""
    with np.errstate(over="ignore"):
        return float(np.exp(np.mean(_surprises(outputs, targets))))


def _surprises(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    counts = targets >= 0
    logits, classes = outputs[counts].astype(np.float64), targets[counts]
    logits = logits - logits.max(-1, keepdims=True)
    chosen = np.take_along_axis(logits, classes[:, None], -1)[:, 0]
    surprises: np.ndarray = np.log(np.sum(np.exp(logits), -1)) - chosen
    return surprises


def root_mean_squared_error(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Return the root of the mean squared difference, computed in float64."""
    difference = outputs.reshape(targets.shape).astype(np.float64) - targets
    return float(np.sqrt(np.mean(difference**2)))


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "perplexity": perplexity,
    "rmse": root_mean_squared_error,
}


OF_CLASSES = ("cross_entropy", "masked_cross_entropy", "accuracy", "perplexity")
"""Losses and measures whose targets are classes."""


def check_targets(argument: str, given: str | Loss | Metric, classes: int) -> None:
    """Refuse a loss or measure of classes where targets are numbers."""
    if given in OF_CLASSES and not classes:
        other = "mse" if argument == "loss" else "rmse"
        raise ValueError(
            f"{argument} is {given!r}, of classes, and the targets are numbers; allowed are {other!r} "
            "and a function of (outputs, targets)"
        )


def check_outputs(loss: str | Loss, outputs: Any, targets: Any, classes: int) -> None:
    """Refuse outputs of a model that a loss of this file cannot compare with targets."""
    if callable(loss):
        return
    if not hasattr(outputs, "shape"):
        raise TypeError(
            f"the outputs of the model are a {type(outputs).__name__}; allowed for loss {loss!r} is "
            "one array"
        )
    shape, goal = outputs.shape, targets.shape
    if loss in OF_CLASSES:
        is_fitting = shape[:-1] == goal and shape[-1] >= classes
        goal = (*goal, classes)
    else:  # a last axis of one number may be left out
        is_fitting = shape in (goal, (*goal, 1)) or goal == (*shape, 1)
    if not is_fitting:
        raise ValueError(
            f"the outputs of the model have shape {shape}; allowed for loss {loss!r} and these targets "
            f"is {goal}"
        )


def checked_loss(value: Any) -> Array:
    """Return a loss; refuse what is no real number."""
    if not jax.tree_util.all_leaves([value]) or value is None:
        raise TypeError(f"loss returned a {type(value).__name__}; allowed is one real number")
    if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise TypeError(
            f"loss returned shape {jnp.shape(value)} of {jnp.result_type(value)}; allowed is one "
            "real number"
        )
    return jnp.asarray(value)


def checked_score(value: Any) -> float:
    """Return the measure of outputs; refuse what is no number."""
    if isinstance(value, (bool, int, float)) or getattr(value, "shape", None) == ():
        return float(value)
    raise TypeError(f"metric returned {shown(value)}; allowed is one number")


def loss_named(loss: str | Loss) -> Loss:
    """Return a loss as it is, or that of a name."""
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise _refused("loss", loss, LOSSES)
    return LOSSES[loss]


def metric_named(metric: str | Metric) -> Metric:
    """Return a measure as it is, or that of a name."""
    if callable(metric):
        return metric
    if metric not in METRICS:
        raise _refused("metric", metric, METRICS)
    return METRICS[metric]


def _refused(argument: str, given: Any, named: dict[str, Any]) -> Exception:
    if isinstance(given, str):
        return not_allowed(argument, given, tuple(named))
    names = ", ".join(map(repr, named))
    return TypeError(
        f"{argument} is {shown(given)}; allowed are {names}, and a function of (outputs, targets)"
    )
