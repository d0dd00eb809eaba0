"""A run before its first step: state, step and batches; each step is compiled once."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from precsim._arrays import Array
from precsim.formats.arguments import shown
from precsim.training.config import TrainConfig
from precsim.training.data.batches import batches_of
from precsim.training.data.dataset import Data
from precsim.training.data.own import as_data
from precsim.training.data.registry import TASKS
from precsim.training.data.stream import Stream
from precsim.training.gradients import first_tensor_scales, refuse_idle_scales
from precsim.training.own_objects import load_object
from precsim.training.parallel.devices import everywhere, place, shared_out
from precsim.training.setup import Layered, Setup, setup_of
from precsim.training.step import (
    Step,
    TrainState,
    compile_step,
    initial_state,
    make_step,
    state_shardings,
)
from precsim.training.watched import UNGUARDED


def load_data(config: TrainConfig) -> Data | Stream:
    """Return the data of a task."""
    if not isinstance(config, TrainConfig):
        raise TypeError(
            f"config is {shown(config)}; allowed is a TrainConfig, for example TrainConfig(policy='bf16')"
        )
    if config.task not in TASKS:
        return as_data(load_object(config.task, "task"))
    return TASKS[config.task].load(config.seed, config.data_dir)


def source_of(config: TrainConfig, data: Any, **about: Any) -> Data | Stream:
    """Return data of one's own, about which more may be given, or those of the config's task."""
    if data is not None:
        return as_data(data, **about)
    for name, given in about.items():
        if given is not None:
            raise ValueError(f"{name} is given without data, which it belongs to")
    return load_data(config)


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


def prepare_run(
    config: TrainConfig, *, data: Any = None, classes: int | None = None, is_guarded: bool = True
) -> PreparedRun:
    """Return the start of a run and its step, to stop anywhere and look inside.

    Parameters
    ----------
    config : TrainConfig
        The run that `train` would make.
    data : optional
        Data of your own, as `train` takes them; by default those of the config's task.
    classes : int, optional
        How many classes their targets have, as in `train`.
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
    source = source_of(config, data, classes=classes)
    setup = setup_of(config, source.problem)
    is_unguarded = isinstance(setup.model, Layered) and not is_guarded
    return prepared(source, setup, config.backend + (UNGUARDED if is_unguarded else ""))


def prepared(data: Data | Stream, setup: Setup, backend: str) -> PreparedRun:
    """Return the start of a run on these data."""
    batch = batches_of(data, setup.config)
    inputs, targets = batch(0)
    weights, model_state = setup.initial(data.problem, inputs)
    scales = first_tensor_scales(setup, backend, weights, model_state, inputs, targets)
    refuse_idle_scales(setup.config.policy, scales)
    state = initial_state(setup, weights, model_state, scales)
    if (mesh := setup.mesh) is not None:
        state = placed(state, mesh)
        own, batch = batch, lambda k: place(own(k), shared_out(mesh))
    return PreparedRun(state, _step(setup.without_schedule(), backend), batch)


def placed(state: TrainState, mesh: Mesh) -> TrainState:
    """Put a state where the steps on several devices want it."""
    where = state_shardings(state, mesh)
    residuals = where.residuals and place(state.residuals, where.residuals)
    rest: TrainState = place(replace(state, residuals=None), everywhere(mesh))
    return replace(rest, residuals=residuals)


@lru_cache(maxsize=64)
def _step(setup: Setup, backend: str) -> Step:
    """Return one function for all runs that differ in seed, steps and snapshots only.

    JAX compiles it once.
    """
    return make_step(setup, backend)


def compiled_for(setup: Setup, backend: str, *arguments: Any) -> Step:
    """Compile the step for a state and a batch like these, once for all such runs."""
    leaves, structure = jax.tree.flatten(arguments)
    types = tuple(jax.typeof(leaf).strip_weak_type() for leaf in leaves)
    return _compiled_step(setup.without_schedule(), backend, types, structure)


@lru_cache(maxsize=64)
def _compiled_step(setup: Setup, backend: str, types: tuple[Any, ...], structure: Any) -> Step:
    state, inputs, targets = jax.tree.unflatten(structure, types)
    return compile_step(_step(setup, backend), state, inputs, targets, setup.mesh)
