"""One training step, compiled once per policy."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from precsim._arrays import Array
from precsim.arithmetic.sums.all_reduce import AllReduce
from precsim.rounding.round_to import round_to
from precsim.rounding.scaled.delayed import DelayedScale
from precsim.rounding.spec import RoundingSpec
from precsim.training.functions import functions_of
from precsim.training.gradients import Found, Given, make_gradient
from precsim.training.parallel.devices import everywhere, shared_out
from precsim.training.parallel.shards import first_residuals, in_shards
from precsim.training.recipes.clipping import clip
from precsim.training.recipes.gradients import until_finite
from precsim.training.recipes.layer_scales import LayerScale, any_overflow, layer_scales
from precsim.training.recipes.leaves import map_named, map_trained
from precsim.training.recipes.loss_scaling import (
    LossScale,
    all_finite,
    as_loss_scale,
    narrowed,
)
from precsim.training.recipes.optimizers import check_arguments, updates_of
from precsim.training.recipes.rounded_leaves import check_moments, round_leaves
from precsim.training.recipes.stale_gradients import StaleGradients, exchange, no_gradients
from precsim.training.recipes.updates import apply_updates, count_swallowed
from precsim.training.setup import Setup
from precsim.training.switches import with_default_switches
from precsim.transform.noise import fold_in
from precsim.transform.tags import tag


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """Everything that changes from step to step."""

    params: Any
    """A pytree of float32 arrays."""
    model_state: Any
    """What a model keeps besides its weights, such as running means."""
    optimizer_state: Any
    compensation: Any
    """Kahan's buffers, or None."""
    tensor_scales: dict[str, DelayedScale | LayerScale]
    """Of each operand under delayed scaling, and of each layer whose own loss scale adapts, by
    name; see `transform.tensor_scaling`."""
    loss_scale: LossScale
    step: Array
    key: Array
    """Made from the seed; the random bits of a step depend on it and on `step`."""
    stale: StaleGradients | None = None
    """Gradients that are applied later, with a delay."""
    residuals: Any = None
    """What the sums over shards have lost, under an all-reduce with feedback; float32, shape
    (shards, number of trained elements)."""


class Metrics(NamedTuple):
    """What one step measures."""

    loss: Array
    finite: Array
    factor: Array
    nonzero_updates: Array
    swallowed_updates: Array
    forward_events: dict[str, Array]
    """Place -> int32 counts of shape (7,), in the order of `Events`."""
    backward_events: dict[str, Array]
    layer_scales: dict[str, Array]
    """Scope of a layer whose own loss scale adapts -> the factor on its cotangents."""
    gradient: Any
    untrusted: Array
    """Products whose bits cannot be trusted; see `products.emulated.unguarded_matmul`."""


@with_default_switches
def initial_state(
    setup: Setup,
    weights: Any,
    model_state: Any = (),
    tensor_scales: dict[str, DelayedScale | LayerScale] | None = None,
) -> TrainState:
    """Return the state before the first step: weights rounded to the policy's storage format."""
    config, policy = setup.config, setup.config.policy
    nearest = RoundingSpec(format=policy.params.format)
    params = map_trained(lambda w: jnp.asarray(round_to(w, nearest)), weights)
    optimizer_state = setup.rule.init(params)
    check_moments(policy.buffers, optimizer_state)
    if setup.optimizer is not None:
        check_arguments(setup.optimizer, optimizer_state, params)
    state = TrainState(
        params=params,
        model_state=model_state,
        optimizer_state=optimizer_state,
        compensation=jax.tree.map(jnp.zeros_like, params) if policy.is_compensated else None,
        tensor_scales=jax.tree.map(jnp.asarray, tensor_scales or {}),
        loss_scale=as_loss_scale(policy.loss_scale),
        step=jnp.int32(0),
        key=jax.random.key(config.seed),
        stale=no_gradients(params, config.delay) if config.delay else None,
        residuals=first_residuals(params, config.shards)
        if AllReduce.parse(config.all_reduce).has_feedback
        else None,
    )
    return _without_repeats(state)


def _without_repeats(state: TrainState) -> TrainState:
    """Copy each array that a state holds a second time: a step takes over the memory of each."""
    seen: set[int] = set()

    def own(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and id(leaf) in seen:
            return jnp.copy(leaf)
        seen.add(id(leaf))
        return leaf

    found: TrainState = jax.tree.map(own, state)
    return found


Step = Callable[[TrainState, Any, Any], tuple[TrainState, Metrics]]


def compile_step(
    step: Step, state: TrainState, inputs: Any, targets: Any, mesh: Mesh | None = None
) -> Step:
    """Compile a step for arrays like these; it takes over the memory of the state it is given."""
    options: dict[str, Any] = {}
    if mesh is not None:
        of_state, of_batch = state_shardings(state, mesh), shared_out(mesh)
        options = {
            "in_shardings": (of_state, of_batch, of_batch),
            "out_shardings": (of_state, everywhere(mesh)),
        }
    compile_for = jax.jit(step, donate_argnums=0, **options)
    compiled: Step = compile_for.lower(state, inputs, targets).compile()
    return compiled


def state_shardings(state: TrainState, mesh: Mesh) -> TrainState:
    """Return where the arrays of a state lie: on every device, but for the residuals of shards."""
    alike: TrainState = jax.tree.map(lambda _: everywhere(mesh), state)
    residuals = None if state.residuals is None else shared_out(mesh)
    return replace(alike, residuals=residuals)


def make_step(setup: Setup, backend: str) -> Step:
    """Return the step: gradient, optimizer, rounded update; skipped if not finite.

    `backend` is the config's, or that with `UNGUARDED`.
    """
    policy = setup.config.policy
    optimizer = setup.rule
    gradient = make_gradient(setup, backend)
    if setup.config.shards > 1 or setup.mesh is not None:
        how = AllReduce.parse(setup.config.all_reduce)
        gradient = in_shards(gradient, setup.config.shards, how, setup.mesh)

    @with_default_switches
    def step(state: TrainState, inputs: Any, targets: Any) -> tuple[TrainState, Metrics]:
        key = fold_in(state.key, state.step)
        scales = {name: history.scale for name, history in state.tensor_scales.items()}

        def attempt(scale: LossScale) -> tuple[tuple[Found, Any], Array]:
            both = state.params, state.model_state
            found = gradient(Given(*both, inputs, targets, scale, key, scales, state.residuals))
            grads = scale.unscale(found.scaled)
            finite = all_finite(grads) & found.finite
            return (found, grads), finite | any_overflow(state.tensor_scales, found.largest)

        first = narrowed(state.loss_scale)
        (found, grads), scale, finite = until_finite(attempt, first)
        # A layer's own scale that is too large skips the step, too, and the loss scale stays.
        own_overflow = any_overflow(state.tensor_scales, found.largest)
        finite, layers = finite & ~own_overflow, layer_scales(state.tensor_scales)
        grads = map_named(lambda name, g: tag(g, f"gradient of {name}"), grads)
        # Only a loss scale can react to an overflow; without one the step is taken as it is.
        usable = keep = finite | (policy.loss_scale == "none" and not layers)
        applied, stale = clip(grads, setup.config.clipping), state.stale
        if stale is not None:
            applied, keep, stale = exchange(stale, applied, usable)
        updates, optimizer_state = updates_of(
            optimizer, applied, state.optimizer_state, state.params, loss=found.loss
        )
        optimizer_state = round_leaves(
            optimizer_state,
            policy.buffers,
            key=state.key,
            step=state.step,
            name="optimizer state",
            where=setup.buffers(optimizer_state),
        )
        new = apply_updates(
            state.params,
            updates,
            rounding=policy.update,
            key=state.key,
            step=state.step,
            compensation=state.compensation,
        )
        params, compensation = new if policy.is_compensated else (new, None)
        flush = functions_of(policy.functions).flush
        params = map_named(lambda name, w: tag(flush(w), f"new {name}"), params)
        nonzero, swallowed = count_swallowed(state.params, updates, params)

        def choose(new: Any, old: Any, keep: Array = keep) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, old)

        next_state = TrainState(
            params=choose(params, state.params),
            optimizer_state=choose(optimizer_state, state.optimizer_state),
            model_state=choose(found.model_state, state.model_state, usable),
            compensation=choose(compensation, state.compensation),
            tensor_scales={
                name: history.update(found.largest[name])
                for name, history in state.tensor_scales.items()
            },
            loss_scale=choose(scale, scale.adjust(finite), own_overflow)
            if layers
            else scale.adjust(finite),
            step=state.step + 1,
            key=state.key,
            stale=stale,
            residuals=choose(found.residuals, state.residuals, usable),
        )
        metrics = Metrics(
            loss=found.loss,
            finite=keep,
            factor=jnp.asarray(scale.factor, jnp.float32),
            nonzero_updates=jnp.where(keep, nonzero, 0),
            swallowed_updates=jnp.where(keep, swallowed, 0),
            forward_events=found.forward,
            backward_events=found.backward,
            layer_scales={
                name: jnp.asarray(layer.state.factor, jnp.float32) for name, layer in layers.items()
            },
            gradient=grads,
            untrusted=found.untrusted,
        )
        return next_state, metrics

    return step
