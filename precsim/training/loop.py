"""`train`: a whole run, in the style of a script that one can read."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from precsim.products.backends import resolve_backend
from precsim.training.config import TrainConfig
from precsim.training.control.carried import carried_over
from precsim.training.control.control import Control
from precsim.training.control.controller import Controller, begin, controlled
from precsim.training.data.dataset import Data
from precsim.training.data.stream import Stream
from precsim.training.gradients import first_tensor_scales, refuse_idle_scales
from precsim.training.losses import Loss, Metric
from precsim.training.parallel.devices import Devices
from precsim.training.prepared import PreparedRun, compiled_for, placed, prepared, source_of
from precsim.training.recipes.leaves import by_name
from precsim.training.replay.progress import Checkpoints, Progress, load_progress, run_identity
from precsim.training.result import TrainResult, result_of
from precsim.training.scores import check_metric, test_score
from precsim.training.setup import Layered, Setup, backends_of, check_classes, setup_of
from precsim.training.step import (
    Metrics,
    TrainState,
)
from precsim.training.switches import with_default_switches
from precsim.training.watched import UNGUARDED


def train(
    config: TrainConfig,
    *,
    model: Any = None,
    data: Any = None,
    test: Any = None,
    classes: int | None = None,
    loss: str | Loss | None = None,
    metric: str | Metric | None = None,
    optimizer: Any = None,
    control: str | Control | None = None,
    checkpoints: Checkpoints | None = None,
    devices: int | str | Devices = 1,
    on_step: Callable[[int, float], None] | None = None,
    on_state: Callable[[int, TrainState], None] | None = None,
) -> TrainResult:
    """Train a network by a policy and measure what its formats do.

    Parameters
    ----------
    config : TrainConfig
        The run. What is given besides replaces its model, its task, its optimizer.
    model : optional
        A model of your own: a pair (init, apply) of functions, a pair (weights, apply), a module of
        Flax (Linen or NNX) or Equinox, or what Haiku's `transform` returns. ``init(key, inputs)``
        makes the weights, ``apply(weights, inputs)`` the outputs of a batch. Equinox modules are
        called once per example.
    data : optional
        Data of your own: (inputs, targets), (inputs, targets, test inputs, test targets), a dict
        with "train" and "test", or batches (inputs, targets): an iterable, or a function that
        returns one.
    test : pair, optional
        (inputs, targets) for testing, where `data` has none.
    classes : int, optional
        How many classes the targets of `data` have, where they are integers; by default one more
        than the largest.
    loss : {"cross_entropy", "masked_cross_entropy", "mse"} or callable, optional
        ``loss(outputs, targets)`` returns one number, computed in float32, outside the policy. By
        default the cross-entropy for targets that are integers (over those that are not -1), the
        mean squared error for others.
    metric : {"accuracy", "perplexity", "rmse"} or callable, optional
        ``metric(outputs, targets)`` of all test examples, in NumPy, at the end (tried before, too).
    optimizer : optax.GradientTransformation, optional
        Any optimizer of optax, with any schedule, that needs gradients, weights and, as `value`,
        the loss of the step at most.
    control : str, Schedule, Feedback or alike, optional
        What decides the policy of each step, instead of the config's: a schedule or its string,
        such as "bf16@0,fp32@500", or what the steps before measured.
    checkpoints : ps.replay.Checkpoints, optional
        A folder for the state and everything measured. A run that was killed goes on from there
        when it is called again, and ends with the same bits.
    devices : int or str
        How many devices share out each step, of all processes: ``2`` for the config's `shards`,
        ``"4x2"`` for the shards and, in pairs, the columns of each product. The number of devices
        changes no bit where the policy's functions are portable.
    on_step : callable, optional
        Called as ``on_step(steps_done, latest_loss)``, a few times a second at most.
    on_state : callable, optional
        Called as ``on_state(steps_done, state)`` before the first step that is made and after
        each; a run that has to be repeated starts again with 0. For example a `BitLog`.

    Returns
    -------
    TrainResult
        Losses, score on the test examples, weights along the run, and the events of every rounding.

    Raises
    ------
    ValueError
        If `backend="native"` and a product of the policy has no native kernel, if a rule of the
        policy decides nothing in the model, or if the folder has checkpoints of another run.
    TypeError
        If `config` is no `TrainConfig`, or `model`, `data`, `loss` or `optimizer` are none.
    NotImplementedError
        If a model has an operation that `emulate` cannot round.

    Notes
    -----
    Data order, initial weights and random bits depend on `seed` only: runs that differ in their
    policy are comparable step by step. The loss is in float32, outside the policy; each operation
    is in docs/explanation/what-a-run-computes.md. The places of the model are the scopes of the
    policy's rules. One compilation serves all steps. JAX's global switches (64-bit types, promotion
    of ranks and dtypes) change no bit.

    Of the built-in models mlp, cnn, transformer and gpt2, the products and the values between
    layers are rounded. Of all others, and of yours, every operation is: the program of the loss and
    its gradient runs as under ``emulate(jax.value_and_grad(loss), policy)``.

    Examples
    --------
    >>> import precsim as ps
    >>> result = ps.train(ps.TrainConfig(policy="fp16", steps=3))
    >>> result.losses.shape, result.backend, result.skipped_steps
    ((3,), 'emulated', 0)

    A model and data of one's own: the line y = 2 x, learnt from four points.

    >>> import numpy as np, optax
    >>> x = np.float32([[-1], [0], [1], [2]])
    >>> model = ({"slope": np.zeros(1)}, lambda weights, x: x * weights["slope"])
    >>> config = ps.TrainConfig(policy="bf16", steps=60, batch_size=4)
    >>> result = ps.train(config, model=model, data=(x, 2 * x), optimizer=optax.sgd(0.1))
    >>> result.weights["slope"].tolist()
    [2.0]
    """
    source = source_of(config, data, test=test, classes=classes)
    own: dict[str, Any] = {"model": model, "loss": loss, "metric": metric, "optimizer": optimizer}
    own |= {
        "checkpoints": checkpoints,
        "devices": devices,
        "on_step": on_step,
        "on_state": on_state,
    }
    return train_on(source, config, control=control, **own)


def train_on(
    data: Data | Stream,
    config: TrainConfig,
    *,
    control: str | Control | None = None,
    checkpoints: Checkpoints | None = None,
    devices: int | str | Devices = 1,
    on_step: Callable[[int, float], None] | None = None,
    on_state: Callable[[int, TrainState], None] | None = None,
    **own: Any,
) -> TrainResult:
    """Train as `train` does, on the data of `load_data`, which several runs may share."""
    check_classes(data, config, own.get("model"))
    own["mesh"] = Devices.parse(devices).mesh()
    setup, control = controlled(control, config, data.problem, own)
    backends = [config.backend]
    if isinstance(setup.model, Layered):
        # Emulated products first run without their general branch, which is slow to compile. In the
        # rare run that leaves the range where they are exact, everything is repeated with it.
        backends.insert(0, config.backend + UNGUARDED)
    if checkpoints is not None and checkpoints.below(_GUARDED).folder.exists():
        backends = backends[-1:]  # the short way has been left before
    for backend in backends:
        name = _UNGUARDED if backend.endswith(UNGUARDED) else _GUARDED
        kept = checkpoints and checkpoints.below(name)
        result = _run(data, setup, control, kept, on_step, on_state, backend)
        if result is not None:
            return result
    raise AssertionError("guarded products have no range to leave")


_GUARDED, _UNGUARDED = "guarded", "unguarded"
"""Folders of checkpoints: what one way to compute has stored is nothing for the other."""


@with_default_switches
def _run(
    data: Data | Stream,
    setup: Setup,
    control: Control,
    checkpoints: Checkpoints | None,
    on_step: Callable[[int, float], None] | None,
    on_state: Callable[[int, TrainState], None] | None,
    backend: str,
) -> TrainResult | None:
    """Train; None if the bits of a product cannot be trusted."""
    config, controller = setup.config, begin(control)
    for policy in control.may_use() if isinstance(setup.model, Layered) else ():
        for spec in () if policy.rules else policy.products:  # of rules, tracing finds which
            resolve_backend(spec, config.backend)
    run = prepared(data, setup, backend)
    for policy in control.may_use()[1:]:
        if not isinstance(setup.model, Layered):
            under, state = setup.under(policy), (run.state.params, run.state.model_state)
            scales = first_tensor_scales(under, backend, *state, *run.batch(0))
            refuse_idle_scales(policy, scales)
    first = {0: _to_numpy(run.state.params)}
    progress = Progress(state=run.state, controller=controller, snapshots=first)
    if checkpoints is not None:
        known = data if isinstance(data, Data) else run.batch(0)
        progress.run = run_identity(setup, known, run.state) | {"control": str(control)}

        def state_after(known: Controller) -> TrainState:
            last = known.last(setup)
            return carried_over(run.state, setup, last, backend, *run.batch(0))

        found = load_progress(checkpoints.folder, progress, Metrics, state_after)
        progress = found or progress
        if found and setup.mesh is not None:
            progress.state = placed(progress.state, setup.mesh)
    if progress.score is None:
        if not (isinstance(setup.metric, str) and isinstance(setup.loss, str)):
            check_metric(data, setup, run.state, backend)
        if not _go_on(progress, run, setup, checkpoints, on_step, on_state, backend):
            return None
        last = progress.controller.last(setup)
        progress.score, untrusted = test_score(data, last, progress.state, backend, None)
        if untrusted:
            return None
        if checkpoints is not None:
            progress.save(checkpoints)
    used, places = progress.controller.setups(setup), progress.measured.forward_events
    backends = set().union(*(backends_of(each, places) for each in used))
    return result_of(progress, config, setup.metric_name, "+".join(sorted(backends)))


def _go_on(
    progress: Progress,
    run: PreparedRun,
    setup: Setup,
    checkpoints: Checkpoints | None,
    on_step: Callable[[int, float], None] | None,
    on_state: Callable[[int, TrainState], None] | None,
    backend: str,
) -> bool:
    """Make the steps that are left; False if the bits of a product cannot be trusted."""
    steps = setup.config.steps
    keep = set(np.unique(np.linspace(0, steps, setup.config.snapshots + 1).astype(int)))
    last_report = since = time.perf_counter()
    setup, step = progress.controller.last(setup), None

    def settled() -> bool:
        """Fetch what was measured, and return whether its bits can be trusted."""
        nonlocal since
        progress.settle()
        progress.run_seconds += time.perf_counter() - since
        since = time.perf_counter()
        return not progress.measured.untrusted.any()

    if on_state is not None:
        on_state(progress.done, progress.state)
    for k in range(progress.done, steps):
        if (policy := progress.controller.decide(k)) != setup.config.policy:
            old, setup, step = setup, setup.under(policy), None
            progress.state = carried_over(progress.state, old, setup, backend, *run.batch(k))
            if setup.mesh is not None:
                progress.state = placed(progress.state, setup.mesh)
        if step is None:
            start = time.perf_counter()
            step = compiled_for(setup, backend, progress.state, *run.batch(k))
            progress.compile_seconds += time.perf_counter() - start
            since += time.perf_counter() - start
        progress.state, metrics = step(progress.state, *run.batch(k))
        if k == 0:
            progress.first_gradient = _to_numpy(metrics.gradient)
        gradient = metrics.gradient
        progress.recent.append(metrics._replace(gradient={}))
        progress.controller.observe(progress.done, progress.last)
        if on_state is not None:
            on_state(k + 1, progress.state)
        if k + 1 in keep:
            progress.snapshots[k + 1] = _to_numpy(progress.state.params)
        if on_step is not None and time.perf_counter() - last_report > 0.2:
            on_step(k + 1, float(metrics.loss))
            last_report = time.perf_counter()
            if metrics.untrusted:
                return False
        if checkpoints is not None and (k + 1) % checkpoints.every == 0 and k + 1 < steps:
            if not settled():
                return False
            progress.save(checkpoints)
    progress.last_gradient = _to_numpy(gradient)
    return settled()


def check_policy(data: Data | Stream, config: TrainConfig, **own: Any) -> None:
    """Refuse, by a pass over shapes, a policy that does not fit the model or the backend."""
    check_classes(data, config, own.get("model"))
    setup = setup_of(config, data.problem, **own)
    if isinstance(setup.model, Layered) and not config.policy.rules:
        return
    unguarded = UNGUARDED if isinstance(setup.model, Layered) else ""
    run = prepared(data, setup, config.backend + unguarded)
    jax.eval_shape(run.step, run.state, *run.batch(0))


def _to_numpy(tree: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf).copy() for name, leaf in by_name(tree).items()}
