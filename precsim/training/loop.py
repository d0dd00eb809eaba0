"""`train`: a whole run, in the style of a script that one can read."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.formats.arguments import shown
from precsim.products.backends import resolve_backend
from precsim.training.config import TrainConfig
from precsim.training.data.dataset import Data, Problem
from precsim.training.data.registry import TASKS
from precsim.training.layers import Layers
from precsim.training.models.registry import MODELS
from precsim.training.result import TrainResult, stacked
from precsim.training.step import (
    Metrics,
    Step,
    TrainState,
    compile_step,
    initial_state,
    make_step,
)
from precsim.training.switches import with_default_switches
from precsim.training.watched import UNGUARDED
from precsim.transform.noise import fold_in


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
        Called as ``on_state(steps_done, state)`` before the first step and after each; a run that
        has to be repeated starts again with 0. For example a `BitLog`.

    Returns
    -------
    TrainResult
        Losses, accuracy, weights along the run, and the events of every rounding.

    Raises
    ------
    ValueError
        If `backend="native"` and a product of the policy has no native kernel, or if a rule of the
        policy decides nothing in the model.
    TypeError
        If `config` is no `TrainConfig`.

    Notes
    -----
    Data order, initial weights and random bits depend on `seed` only: runs that differ in their
    policy are comparable step by step. Softmax and cross-entropy are in float32, outside the
    policy. The places of the model are the scopes of the policy's rules. One compilation serves all
    steps. JAX's global switches (64-bit types, promotion of ranks and dtypes) change no bit.

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
    # Emulated products first run without their general branch, which is slow to compile. In the
    # rare run that leaves the range where they are exact, everything is repeated with it.
    for backend in (config.backend + UNGUARDED, config.backend):
        result = _run(data, config, on_step, on_state, backend)
        if result is not None:
            return result
    raise AssertionError("guarded products have no range to leave")


def load_data(config: TrainConfig) -> Data:
    """Return the data of a task."""
    if not isinstance(config, TrainConfig):
        raise TypeError(
            f"config is {shown(config)}; allowed is a TrainConfig, for example TrainConfig(policy='bf16')"
        )
    return TASKS[config.task].load(config.seed, config.data_dir)


@with_default_switches
def _run(
    data: Data,
    config: TrainConfig,
    on_step: Callable[[int, float], None] | None,
    on_state: Callable[[int, TrainState], None] | None,
    backend: str,
) -> TrainResult | None:
    """Train; None if the bits of a product cannot be trusted."""
    if not config.policy.rules:  # else tracing finds which products there are
        for spec in config.policy.products:
            resolve_backend(spec, config.backend)
    run = _prepared(data, config, backend)
    state = run.state

    start = time.perf_counter()
    snapshots = {0: _to_numpy(state.params)}
    step = _compiled_step(
        _without_schedule(config), *map(jax.typeof, run.batch(0)), data.problem, backend
    )
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
            if metrics.untrusted:
                return None
    done = jax.device_get(history)
    finished = time.perf_counter()
    score, untrusted = _test(data, config, state.params, backend)
    if untrusted or any(m.untrusted for m in done):
        return None
    used = {spec for place in done[0].forward_events for spec in config.policy.at(place).products}
    names = sorted({resolve_backend(spec, config.backend) for spec in used})
    return TrainResult(
        config=config,
        losses=np.array([m.loss for m in done]),
        test_accuracy=score,
        taken=np.array([m.finite for m in done]),
        loss_scales=np.array([m.factor for m in done]),
        nonzero_updates=np.array([m.nonzero_updates for m in done]),
        swallowed_updates=np.array([m.swallowed_updates for m in done]),
        forward_events=stacked([m.forward_events for m in done]),
        backward_events=stacked([m.backward_events for m in done]),
        first_gradient=first_gradient,
        last_gradient=_to_numpy(gradient),
        snapshots=snapshots,
        backend="+".join(names),
        compile_seconds=compiled - start,
        run_seconds=finished - compiled,
    )


def check_policy(data: Data, config: TrainConfig) -> None:
    """Refuse, by a pass over shapes, a policy that does not fit the model or the backend."""
    run = _prepared(data, config, config.backend + UNGUARDED)
    jax.eval_shape(run.step, run.state, *run.batch(0))


class PreparedRun(NamedTuple):
    """A run that one can take step by step.

    Parameters
    ----------
    state : pytree
        The state before the first step.
    step : callable
        ``step(state, *batch) -> (state, metrics)``, not compiled.
    batch : callable
        ``batch(k)`` gives the other arguments of the step after `k` steps.

    Examples
    --------
    >>> import precsim as ps
    >>> run = ps.replay.prepare_run(ps.TrainConfig(policy="fp32", batch_size=4))
    >>> [x.shape for x in run.batch(0)]
    [(4, 8, 8, 1), (4,)]
    """

    state: TrainState
    step: Step
    batch: Callable[[int], tuple[Array, Array]]


def prepare_run(config: TrainConfig, *, is_guarded: bool = True) -> PreparedRun:
    """Return the start of a run and its step, to stop anywhere and look inside.

    Parameters
    ----------
    config : TrainConfig
        The run that `train` would make.
    is_guarded : bool
        Whether emulated products have a branch for operands beyond the range where their short way
        is exact. Without it a step compiles faster, as in `train`; `metrics.untrusted` says whether
        a product has left that range, so that its bits may be wrong.

    Returns
    -------
    PreparedRun
        Its initial state, its step function and its batches.

    Examples
    --------
    >>> import jax, precsim as ps
    >>> run = ps.replay.prepare_run(ps.TrainConfig(policy="fp32", backend="native", batch_size=4))
    >>> state, metrics = jax.jit(run.step)(run.state, *run.batch(0))
    >>> int(state.step), ps.replay.hash_state(state)[""] != ps.replay.hash_state(run.state)[""]
    (1, True)
    """
    data = load_data(config)
    return _prepared(data, config, config.backend + ("" if is_guarded else UNGUARDED))


def _prepared(data: Data, config: TrainConfig, backend: str) -> PreparedRun:
    rng = np.random.default_rng([config.seed, 1])
    inputs, targets = data.train_inputs, data.train_targets
    weights = MODELS[config.model].load().init(rng, data.problem)
    order = batches(len(targets), config)
    return PreparedRun(
        initial_state(config, weights),
        _step(_without_schedule(config), backend),
        lambda k: (jnp.asarray(inputs[order[k]]), jnp.asarray(targets[order[k]])),
    )


def _without_schedule(config: TrainConfig) -> TrainConfig:
    """Forget what the compiled functions do not depend on."""
    return replace(config, steps=1, seed=0, snapshots=1)


@lru_cache(maxsize=64)
def _step(config: TrainConfig, backend: str) -> Step:
    """Return one function for all runs that differ in seed, steps and snapshots only.

    JAX compiles it once.
    """
    return make_step(config, MODELS[config.model].load().apply, backend)


@lru_cache(maxsize=64)
def _compiled_step(
    config: TrainConfig, inputs: Any, targets: Any, problem: Problem, backend: str
) -> Step:
    """Compile the step, for batches of these types, once for all such runs."""
    model = MODELS[config.model].load()
    weights = model.init(np.random.default_rng(0), problem)
    step = _step(config, backend)
    return compile_step(step, initial_state(config, weights), inputs, targets)


def batches(size: int, config: TrainConfig) -> np.ndarray:
    """Return indices of each step's batch, (steps, batch_size): a new permutation each epoch."""
    rng = np.random.default_rng([config.seed, 2])
    need = config.steps * config.batch_size
    epochs = -(-need // size)
    stream = np.concatenate([rng.permutation(size) for _ in range(epochs)])
    return stream[:need].reshape(config.steps, config.batch_size)


def _test(data: Data, config: TrainConfig, params: Any, backend: str) -> tuple[float, int]:
    """Return the fraction of test images classified correctly, and the untrusted products."""
    predict = _predictor(_without_schedule(config), backend)
    key = fold_in(jax.random.key(config.seed), config.steps)
    classes, untrusted = predict(params, data.test_inputs, key)
    return float(np.mean(np.asarray(classes) == data.test_targets)), int(untrusted)


@lru_cache(maxsize=64)
def _predictor(config: TrainConfig, backend: str) -> Callable[..., tuple[Any, Any]]:
    model = MODELS[config.model].load()

    @jax.jit
    @with_default_switches
    def predict(params: Any, images: Any, key: Any) -> tuple[Any, Any]:
        layers = Layers(policy=config.policy, backend=backend, key=key)
        classes = jnp.argmax(model.apply(params, images, layers), axis=-1)
        return classes, sum(watched.untrusted for watched in layers.events.values())

    return predict


def _to_numpy(tree: Any) -> Any:
    return {name: np.asarray(leaf).copy() for name, leaf in tree.items()}
