"""`train`: a whole run, in the style of a script that one can read."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.products.backends import resolve_backend
from precsim.training.config import TrainConfig
from precsim.training.data import digits, text
from precsim.training.data.dataset import Data
from precsim.training.layers import Layers
from precsim.training.models import cnn, mlp, transformer
from precsim.training.step import (
    Metrics,
    Step,
    TrainState,
    compile_step,
    initial_state,
    make_step,
)
from precsim.training.watched import NUM_EVENTS

_MODELS: dict[str, Any] = {"mlp": mlp, "cnn": cnn, "transformer": transformer}

Weights = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a run measured. Arrays are NumPy; events have the columns of `rounding.events.Events`.

    Parameters
    ----------
    config : TrainConfig
        The run's configuration.
    losses : np.ndarray
        Training loss of each step's batch, unscaled, shape (steps,).
    test_accuracy : float
        Fraction of test images classified correctly, by the policy's own forward pass.
    taken : np.ndarray
        Whether each step was taken (not skipped for an overflow), shape (steps,).
    loss_scales : np.ndarray
        Factor on the loss at each step, shape (steps,).
    nonzero_updates : np.ndarray
        Nonzero weight updates of each step, shape (steps,).
    swallowed_updates : np.ndarray
        Those among them that left their weight as it was, shape (steps,).
    forward_events : dict[str, np.ndarray]
        Place -> event counts of each step, shape (steps, 7).
    backward_events : dict[str, np.ndarray]
        The same for the backward pass.
    first_gradient : Weights
        Unscaled gradient at the initial weights, on the first batch.
    last_gradient : Weights
        The same at the last step.
    snapshots : dict[int, Weights]
        Step -> weights; 0 is the start, the last step is the end.
    backend : str
        Which backend ran the products.
    compile_seconds : float
        Time to compile the step.
    run_seconds : float
        Time of all steps.

    Examples
    --------
    >>> import precsim as ps
    >>> result = ps.train(ps.TrainConfig(policy="fp16", steps=2))
    >>> sorted(result.weights)
    ['hidden/b', 'hidden/w', 'output/b', 'output/w']
    """

    config: TrainConfig
    losses: np.ndarray
    test_accuracy: float
    taken: np.ndarray
    loss_scales: np.ndarray
    nonzero_updates: np.ndarray
    swallowed_updates: np.ndarray
    forward_events: dict[str, np.ndarray]
    backward_events: dict[str, np.ndarray]
    first_gradient: Weights
    last_gradient: Weights
    snapshots: dict[int, Weights]
    backend: str
    compile_seconds: float
    run_seconds: float

    @property
    def weights(self) -> Weights:
        """The final weights."""
        return self.snapshots[max(self.snapshots)]

    @property
    def skipped_steps(self) -> int:
        """Steps skipped because a gradient was not finite."""
        return int((~self.taken).sum())


def train(
    config: TrainConfig,
    *,
    on_step: Callable[[int, float], None] | None = None,
    on_state: Callable[[int, TrainState], None] | None = None,
) -> TrainResult:
    """Train a network by a policy and measure what its formats do.

    Parameters
    ----------
    config : TrainConfig
        The run.
    on_step : callable, optional
        Called as ``on_step(steps_done, latest_loss)``, a few times a second at most.
    on_state : callable, optional
        Called as ``on_state(steps_done, state)`` before the first step and after each; a run that has to be
        repeated starts again with 0. For example a `BitLog`.

    Returns
    -------
    TrainResult
        Losses, accuracy, weights along the run, and the events of every rounding.

    Raises
    ------
    ValueError
        If `backend="native"` and a product of the policy has no native kernel.

    Notes
    -----
    Data order, initial weights and random bits depend on `seed` only: runs that differ in their policy
    are comparable step by step. Softmax and cross-entropy are in float32, outside the policy. One
    compilation serves all steps.

    Examples
    --------
    >>> import precsim as ps
    >>> result = ps.train(ps.TrainConfig(policy="fp16", steps=3))
    >>> result.losses.shape, result.backend, result.skipped_steps
    ((3,), 'emulated', 0)
    """
    return train_on(load_data(config), config, on_step=on_step, on_state=on_state)


def train_on(
    data: Data,
    config: TrainConfig,
    *,
    on_step: Callable[[int, float], None] | None = None,
    on_state: Callable[[int, TrainState], None] | None = None,
) -> TrainResult:
    """Train as `train` does, on the data of `load_data`, which several runs may share."""
    # Products first run without their general branch, which is slow to compile; in the rare run that
    # leaves the range where that is exact, everything is repeated with it.
    for is_guarded in (False, True):
        result = _run(data, config, on_step, on_state, is_guarded=is_guarded)
        if result is not None:
            return result
    raise AssertionError("guarded products have no range to leave")


def load_data(config: TrainConfig) -> Data:
    """Return the data of a task."""
    match config.task:
        case "text":
            return text.load(config.data_dir)
        case "mnist5k":
            return digits.load_mnist5k(config.seed)
        case _:
            return digits.load(config.seed)


def _run(
    data: Data,
    config: TrainConfig,
    on_step: Callable[[int, float], None] | None,
    on_state: Callable[[int, TrainState], None] | None,
    *,
    is_guarded: bool,
) -> TrainResult | None:
    """Train; None if a product's bits could not be vouched for."""
    policy = config.policy
    products = (policy.forward, policy.dgrad, policy.wgrad)
    backend = "+".join(sorted({resolve_backend(spec, config.backend) for spec in products}))
    run = _prepared(data, config)
    state = run.state

    start = time.perf_counter()
    snapshots = {0: _to_numpy(state.params)}
    shape = data.train_images.shape[1:]
    step = _compiled_step(_without_schedule(config), shape, data.classes, is_guarded)
    compiled = time.perf_counter()

    if on_state is not None:
        on_state(0, state)
    keep = set(np.unique(np.linspace(0, config.steps, config.snapshots + 1).astype(int)))
    history: list[Metrics] = []
    last_report = compiled
    for k in range(config.steps):
        state, metrics = step(state, *run.batch(k))
        if k == 0:
            first_gradient = _to_numpy(metrics.gradient)
        gradient = metrics.gradient
        history.append(metrics._replace(gradient={}))
        if on_state is not None:
            on_state(k + 1, state)
        if k + 1 in keep:
            snapshots[k + 1] = _to_numpy(state.params)
        if on_step is not None and time.perf_counter() - last_report > 0.2:
            on_step(k + 1, float(metrics.loss))
            last_report = time.perf_counter()
            if float(metrics.untrusted):
                return None
    done = jax.device_get(history)
    finished = time.perf_counter()
    test = (data.test_images, data.test_labels)
    score, untrusted = accuracy(config, state.params, *test, is_guarded=is_guarded)
    if untrusted or any(m.untrusted for m in done):
        return None
    return TrainResult(
        config=config,
        losses=np.array([m.loss for m in done]),
        test_accuracy=score,
        taken=np.array([m.finite for m in done]),
        loss_scales=np.array([m.factor for m in done]),
        nonzero_updates=np.array([m.nonzero_updates for m in done]),
        swallowed_updates=np.array([m.swallowed_updates for m in done]),
        forward_events=_stack([m.forward_events for m in done]),
        backward_events=_stack([m.backward_events for m in done]),
        first_gradient=first_gradient,
        last_gradient=_to_numpy(gradient),
        snapshots=snapshots,
        backend=backend,
        compile_seconds=compiled - start,
        run_seconds=finished - compiled,
    )


class PreparedRun(NamedTuple):
    """A run that one can take step by step.

    Parameters
    ----------
    state : pytree
        The state before the first step.
    step : callable
        ``step(state, *batch) -> (state, metrics)``, not compiled; its products check their range.
    batch : callable
        ``batch(k)`` gives the other arguments of the step after `k` steps.

    Examples
    --------
    >>> import precsim as ps
    >>> run = ps.prepare_run(ps.TrainConfig(policy="fp32", batch_size=4))
    >>> [x.shape for x in run.batch(0)]
    [(4, 8, 8, 1), (4,)]
    """

    state: TrainState
    step: Step
    batch: Callable[[int], tuple[Array, Array]]


def prepare_run(config: TrainConfig) -> PreparedRun:
    """Return the start of a run and its step, to stop anywhere and look inside.

    Parameters
    ----------
    config : TrainConfig
        The run that `train` would make.

    Returns
    -------
    PreparedRun
        Its initial state, its step function and its batches.

    Examples
    --------
    >>> import jax, precsim as ps
    >>> run = ps.prepare_run(ps.TrainConfig(policy="fp32", backend="native", batch_size=4))
    >>> state, metrics = jax.jit(run.step)(run.state, *run.batch(0))
    >>> int(state.step), ps.hash_state(state)[""] != ps.hash_state(run.state)[""]
    (1, True)
    """
    return _prepared(load_data(config), config)


def _prepared(data: Data, config: TrainConfig) -> PreparedRun:
    rng = np.random.default_rng([config.seed, 1])
    images, labels = data.train_images, data.train_labels
    weights = _MODELS[config.model].init(rng, images.shape[1:], data.classes)
    order = batches(len(labels), config)
    return PreparedRun(
        initial_state(config, weights),
        _step(_without_schedule(config), True),
        lambda k: (jnp.asarray(images[order[k]]), jnp.asarray(labels[order[k]])),
    )


def _without_schedule(config: TrainConfig) -> TrainConfig:
    """Forget what the compiled functions do not depend on."""
    return replace(config, steps=1, seed=0, snapshots=1)


@lru_cache(maxsize=64)
def _step(config: TrainConfig, is_guarded: bool) -> Step:
    """Return one function for all runs that differ in seed, steps and snapshots only: JAX compiles it once."""
    model = _MODELS[config.model]
    return make_step(config, model.apply, model.PLACES, is_guarded=is_guarded)


@lru_cache(maxsize=64)
def _compiled_step(
    config: TrainConfig, image_shape: tuple[int, ...], classes: int, is_guarded: bool
) -> Step:
    """Compile the step once for all runs that differ in seed, steps and snapshots only."""
    model = _MODELS[config.model]
    state = initial_state(config, model.init(np.random.default_rng(0), image_shape, classes))
    is_text = config.task == "text"
    images = jnp.zeros((config.batch_size, *image_shape), jnp.int32 if is_text else jnp.float32)
    labels = jnp.zeros((config.batch_size, *(image_shape if is_text else ())), jnp.int32)
    return compile_step(_step(config, is_guarded), state, images, labels)


def batches(size: int, config: TrainConfig) -> np.ndarray:
    """Return indices of each step's batch, (steps, batch_size): a new permutation each epoch."""
    rng = np.random.default_rng([config.seed, 2])
    need = config.steps * config.batch_size
    epochs = -(-need // size)
    stream = np.concatenate([rng.permutation(size) for _ in range(epochs)])
    return stream[:need].reshape(config.steps, config.batch_size)


def accuracy(
    config: TrainConfig, params: Any, images: np.ndarray, labels: np.ndarray, *, is_guarded: bool
) -> tuple[float, float]:
    """Return the fraction of images classified correctly, and the number of untrusted products."""
    predict = _predictor(_without_schedule(config), is_guarded)
    key = jax.random.fold_in(jax.random.key(config.seed), config.steps)
    classes, untrusted = predict(params, images, key)
    return float(np.mean(np.asarray(classes) == labels)), float(untrusted)


@lru_cache(maxsize=64)
def _predictor(config: TrainConfig, is_guarded: bool) -> Callable[..., tuple[Any, Any]]:
    model = _MODELS[config.model]

    @jax.jit
    def predict(params: Any, images: Any, key: Any) -> tuple[Any, Any]:
        layers = Layers(
            policy=config.policy,
            backend=config.backend,
            is_guarded=is_guarded,
            key=key,
            probes={},
        )
        classes = jnp.argmax(model.apply(params, images, layers), axis=-1)
        return classes, sum(events[-1] for events in layers.events.values())

    return predict


def _to_numpy(tree: Any) -> Any:
    return {name: np.asarray(leaf).copy() for name, leaf in tree.items()}


def _stack(steps: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {place: np.stack([s[place][:NUM_EVENTS] for s in steps]) for place in steps[0]}
