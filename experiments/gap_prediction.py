"""Loss gaps predicted from one float32 run, before anything is trained in another format.

``python -m experiments.gap_prediction`` writes `gap_predictions.json`: what ten policies would cost
two networks. ``precsim sweep experiments/gap_prediction.toml`` trains them, and with ``--runs
FILE`` its losses are copied from the sweep's file to `gap_runs.json`.

A gap is the mean training loss over the last twentieth of the steps, above that of float32.
"""

import argparse
import json
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps

Weights: TypeAlias = dict[str, Any]
Model: TypeAlias = tuple[Callable[[Any], Weights], Callable[[Weights, Any], Any]]
"""The functions init(key) and apply(weights, inputs), which returns logits."""

HERE = Path(__file__).parent
PREDICTIONS, RUNS = HERE / "gap_predictions.json", HERE / "gap_runs.json"
TRAINED = 1200
"""Pictures of digits for training; the others test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedGap:
    """What a policy is predicted to cost, in nats of cross-entropy.

    Parameters
    ----------
    forward : float
        The error of the logits at the end of the float32 run, weighted with Fisher's matrix:
        ``sum(p * e**2) - sum(p * e)**2``, halved, of the probabilities p and the errors e of the
        logits of an example; a mean over all examples. To second order in e it is the divergence
        of Kullback and Leibler from the float32 model, with the errors of all tensors together.
    slowed : float
        The loss where the policy's run is on the float32 run's way, less that at its end. Of each
        step of the way it does the share that its own step has, by projection, and so it needs the
        inverse of it in steps.
    noise : float
        ``|n|**2 / (4 * learning_rate)``, n what the policy's step has besides that share: by how
        much noise n in each step raises the loss that gradient descent settles at. The noise is
        taken as independent from step to step, the loss as quadratic.
    """

    forward: float
    slowed: float
    noise: float

    @property
    def total(self) -> float:
        """All three together."""
        return self.forward + self.slowed + self.noise


def predict_gaps(
    config: ps.TrainConfig,
    policies: Sequence[str],
    *,
    model: Model,
    data: Sequence[Any],
    probes: int = 8,
) -> dict[str, PredictedGap]:
    """Train in float32 once, and return what policies would cost.

    Parameters
    ----------
    config : TrainConfig
        The run; optimizer "sgd". Its policy is not used.
    policies : sequence of str
        What is predicted.
    model : pair of functions
        ``init(key)`` and ``apply(weights, inputs)``, without a state; the weights are a dict of
        arrays, the outputs logits.
    data : sequence of two arrays
        Inputs and labels for training, at least `probes` batches.
    probes : int
        At how many times of the float32 run a step is made in each policy; at most its steps.

    Returns
    -------
    dict
        The parts of each prediction.

    Raises
    ------
    ValueError
        If the optimizer is another one, the weights are no dict of arrays, `probes` is out of
        range, or there are too few examples.
    TypeError
        If `policies` is one text, or `model` no pair of functions.

    Notes
    -----
    Where float32 makes no step at all, the share of a policy's is 1, and all of it is noise.
    Cost: for each policy a compilation of the training step and one of the forward pass; a step at
    each probe; the logits of all examples once. Nothing is trained in a policy.

    Examples
    --------
    >>> import precsim as ps
    >>> from experiments import gap_prediction as gp
    >>> config = ps.TrainConfig(policy="fp32", steps=20, learning_rate=0.1)
    >>> gaps = gp.predict_gaps(config, ["fp32"], model=gp.mlp(), data=gp.digits()[:2], probes=2)
    >>> gaps["fp32"].total
    0.0
    """
    if config.optimizer != "sgd":
        raise ValueError(f"optimizer is {config.optimizer!r}; allowed is 'sgd'")
    if isinstance(policies, str):
        raise TypeError(f"policies is {policies!r}; allowed are lists of policies")
    pair: Any = model
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(map(callable, pair))):
        raise TypeError(
            "model is no pair of functions; allowed is a pair of functions (init, apply)"
        )
    if isinstance(probes, bool) or probes not in range(1, config.steps + 1):
        raise ValueError(
            f"probes is {probes}; allowed are integers from 1 to {config.steps}, steps"
        )
    if len(data[0]) < probes * config.batch_size:
        raise ValueError(
            f"data has {len(data[0])} examples; allowed are {probes * config.batch_size} and more, "
            f"{probes} batches of {config.batch_size}"
        )
    init, apply = model
    weights = jax.eval_shape(init, jax.random.key(0))
    if not isinstance(weights, dict) or any(not hasattr(w, "shape") for w in weights.values()):
        raise ValueError("model has weights in another structure; allowed is a dict of arrays")
    x, y = np.asarray(data[0], np.float32), np.asarray(data[1])
    config = replace(config, policy=ps.Policy.parse("fp32"), snapshots=probes)
    run = ps.train(config, model=model, data=(x, y))
    steps = sorted(run.snapshots)
    plain = _batched(apply, x, config.batch_size)
    exact = [plain(run.snapshots[step]) for step in steps]
    losses = np.array([_cross_entropy(logits, y) for logits in exact])
    order = np.random.default_rng(config.seed).permutation(len(x))
    batches = [order[k * config.batch_size :][: config.batch_size] for k in range(len(steps) - 1)]

    def changes(policy: ps.Policy) -> list[np.ndarray]:
        """Return by how much a step of a policy changes the weights, at each probe."""
        once = replace(config, policy=policy, steps=1, snapshots=1)
        found = []
        for step, batch in zip(steps, batches, strict=False):
            given = (run.snapshots[step], apply)
            made = ps.train(once, model=given, data=(x[batch], y[batch])).snapshots
            found.append(_flat(made[1]) - _flat(made[0]))
        return found

    expected = changes(config.policy)
    gaps = {}
    for text in policies:
        policy = ps.Policy.parse(text)
        stored = {k: ps.round_to(w, policy.params) for k, w in run.weights.items()}
        emulated = _batched(ps.emulate(apply, policy), x, config.batch_size)(stored)
        shares, noises = [], []
        for ours, theirs in zip(expected, changes(policy), strict=True):
            share = (ours @ theirs) / (ours @ ours) if ours.any() else 1.0
            shares.append(share)
            noises.append(np.sum((theirs - share * ours) ** 2) / (4 * config.learning_rate))
        reached = np.interp(_reached(steps, np.array(shares)), steps, losses)
        gaps[text] = PredictedGap(
            forward=_fisher_weighted(exact[-1], emulated),
            slowed=float(reached - losses[-1]),
            noise=float(np.mean(noises[len(noises) // 2 :])),
        )
    return gaps


def _batched(apply: Any, x: np.ndarray, size: int) -> Callable[[Weights], np.ndarray]:
    """Return the function from weights to the logits of all inputs in whole batches."""
    compiled = jax.jit(apply)
    batches = [x[k : k + size] for k in range(0, len(x) - size + 1, size)]
    return lambda weights: np.concatenate([compiled(weights, batch) for batch in batches])


def _reached(steps: Sequence[int], shares: np.ndarray) -> float:
    """Return the step of the float32 run that a run is at after as many steps of its own.

    Where it does a share of each step it needs 1 / share steps for it. No run is beyond the end.
    """
    of_each = np.interp(np.arange(steps[-1]), steps[:-1], np.maximum(shares, 1e-9))
    needed = np.concatenate([[0.0], np.cumsum(1 / of_each)])
    return float(np.interp(steps[-1], needed, np.arange(needed.size)))


def _flat(weights: Weights) -> np.ndarray:
    return np.concatenate([np.ravel(weights[name]) for name in sorted(weights)]).astype(np.float64)


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True)))


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    found = _log_probabilities(logits)
    return float(-np.mean(found[np.arange(len(found)), labels[: len(found)]]))


def _fisher_weighted(exact: np.ndarray, logits: np.ndarray) -> float:
    """Return half the variance of the logits' errors under the model's own probabilities."""
    p = np.exp(_log_probabilities(exact))
    errors = logits.astype(np.float64) - exact
    mean = np.sum(p * errors, axis=1, keepdims=True)
    return float(np.mean(np.sum(p * (errors - mean) ** 2, axis=1)) / 2)


def digits() -> tuple[np.ndarray, ...]:
    """Return scikit-learn's digits: pictures and labels for training, and for testing."""
    from sklearn import datasets

    pictures, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(29).permutation(len(labels))
    x, y = (pictures[order] / 16).astype(np.float32), labels[order]
    return x[:TRAINED], y[:TRAINED], x[TRAINED:], y[TRAINED:]


def mlp() -> Model:
    """Return a perceptron 64-48-48-10 with relu."""
    sizes = {"first": (64, 48), "second": (48, 48), "last": (48, 10)}

    def init(key: Any) -> Weights:
        keys = jax.random.split(key, len(sizes))
        weights = {
            name: jax.random.normal(k, (n, m)) * np.float32(np.sqrt((2 if m > 10 else 1) / n))
            for k, (name, (n, m)) in zip(keys, sizes.items(), strict=True)
        }
        return weights | {f"{name} bias": jnp.zeros(m) for name, (_, m) in sizes.items()}

    return init, _perceptron


def _perceptron(weights: Weights, x: Any) -> Any:
    for name in ("first", "second"):
        x = jax.nn.relu(x @ weights[name] + weights[f"{name} bias"])
    return x @ weights["last"] + weights["last bias"]


def cnn() -> Model:
    """Return two convolutions of 3 x 3 with stride 2, 8 channels each, and a linear layer."""

    def init(key: Any) -> Weights:
        keys = jax.random.split(key, 3)
        shapes = {"first": (3, 3, 1, 8), "second": (3, 3, 8, 8), "last": (32, 10)}
        scales = {"first": np.sqrt(2 / 9), "second": np.sqrt(2 / 72), "last": np.sqrt(1 / 32)}
        weights = {
            name: jax.random.normal(k, shape) * np.float32(scales[name])
            for k, (name, shape) in zip(keys, shapes.items(), strict=True)
        }
        return weights | {"last bias": jnp.zeros(10)}

    return init, _convolutions


def _convolutions(weights: Weights, x: Any) -> Any:
    x = x.reshape(-1, 8, 8, 1)
    for name in ("first", "second"):
        layout = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, weights[name], (2, 2), "SAME", dimension_numbers=layout)
        x = jax.nn.relu(x)
    return x.reshape(x.shape[0], -1) @ weights["last"] + weights["last bias"]


MODELS: dict[str, Callable[[], Model]] = {"mlp": mlp, "cnn": cnn}
POLICIES = (
    *("bf16_mixed", "bf16", "bf16_sr", "fp16", "fp8_current"),
    *("mxfp8", "mxfp4", "int8", "q3.12", "q3.8"),
)
SETTINGS: dict[str, Any] = {"steps": 400, "batch_size": 32, "learning_rate": 0.1}
SEED = 0
"""Of the float32 runs that predict; the sweep has other seeds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the predictions, or copy the losses of a sweep."""
    parser = argparse.ArgumentParser(prog="python -m experiments.gap_prediction")
    parser.add_argument("--runs", type=Path, help="file of `precsim sweep` (default: predict)")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    args = parser.parse_args(arguments)
    if args.runs is not None:
        _write(RUNS, measured(args.runs))
        return 0
    found = json.loads(PREDICTIONS.read_text("utf-8")) if PREDICTIONS.exists() else {}
    for name in args.models:
        config = ps.TrainConfig(policy=ps.Policy.parse("fp32"), seed=SEED, **SETTINGS)
        for policy in POLICIES:
            gaps = predict_gaps(config, [policy], model=_model(name), data=digits()[:2])
            gap = gaps[policy]
            parts = {"forward": gap.forward, "slowed": gap.slowed, "noise": gap.noise}
            found.setdefault(name, {})[policy] = parts
            print(f"{name:4} {policy:12} {gap.total:.3e} {parts}", flush=True)
            _write(PREDICTIONS, found)
    return 0


@cache
def _model(name: str) -> Model:
    """Return a model once, so that its steps are compiled once."""
    return MODELS[name]()


def measured(file: Path) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return the final losses in a file of `precsim sweep`, by model, policy and seed."""
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as runs:
        query = "SELECT model, policy, seed, result FROM results WHERE state = 'done'"
        for model, policy, seed, result in runs.execute(query):
            of_model = found.setdefault(model.rpartition(":")[2], {})
            loss = json.loads(result)["metrics"]["final_loss"]
            of_model.setdefault(policy, {})[str(seed)] = loss
    return found


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
