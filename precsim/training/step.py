"""One training step, compiled once per policy."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from precsim._arrays import Array
from precsim.rounding.round_to import round_to
from precsim.rounding.spec import RoundingSpec
from precsim.training.config import TrainConfig
from precsim.training.functions import functions_of
from precsim.training.layers import Layers
from precsim.training.recipes.gradients import scaled_gradient
from precsim.training.recipes.leaves import is_trained
from precsim.training.recipes.loss_scaling import LossScale, all_finite, as_loss_scale
from precsim.training.recipes.optimizers import buffers_of, make_optimizer
from precsim.training.recipes.rounded_leaves import round_leaves
from precsim.training.recipes.updates import apply_updates, count_swallowed
from precsim.training.switches import with_default_switches
from precsim.training.watched import Watched, probe
from precsim.transform.noise import fold_in
from precsim.transform.tags import tag


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """Everything that changes from step to step."""

    params: dict[str, Array]
    optimizer_state: Any
    compensation: dict[str, Array] | None
    loss_scale: LossScale
    step: Array
    key: Array
    """Made from the seed; the random bits of a step depend on it and on `step`."""


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
    gradient: dict[str, Array]
    untrusted: Array
    """Products whose bits cannot be trusted; see `products.emulated.unguarded_matmul`."""


Model = Callable[[dict[str, Array], Array, Layers], Array]


@with_default_switches
def initial_state(config: TrainConfig, weights: dict[str, Any]) -> TrainState:
    """Return the state before the first step: weights rounded to the policy's storage format."""
    policy = config.policy
    nearest = RoundingSpec(format=policy.params.format)
    params: dict[str, Array] = {
        name: jnp.asarray(round_to(w, nearest)) for name, w in weights.items()
    }
    return TrainState(
        params=params,
        optimizer_state=make_optimizer(config).init(params),
        compensation=jax.tree.map(jnp.zeros_like, params) if policy.is_compensated else None,
        loss_scale=as_loss_scale(policy.loss_scale),
        step=jnp.int32(0),
        key=jax.random.key(config.seed),
    )


def make_gradient(
    config: TrainConfig, model: Model, backend: str
) -> Callable[..., tuple[Any, dict[str, Array], dict[str, Watched], LossScale, Array]]:
    """Return f(state, images, labels): (loss, forward counts), gradients, backward counts, ..."""
    policy = config.policy

    def gradient(state: TrainState, images: Array, labels: Array) -> Any:
        key = fold_in(state.key, state.step)

        def loss_fn(params: dict[str, Array], probes: dict[str, Watched] | None) -> Any:
            layers = Layers(policy=policy, backend=backend, key=key, probes=probes)
            logits = model(params, images, layers)
            logits = logits.reshape(-1, logits.shape[-1])
            loss = layers.functions.cross_entropy(logits, labels.reshape(-1))
            layers.check_rules()
            return loss, layers.events

        # A pass over shapes finds the places of the model: none can be forgotten.
        _, places = jax.eval_shape(lambda params: loss_fn(params, None), state.params)
        probes = {place: probe() for place in places}
        trained = lambda both: loss_fn(*both)
        (loss, forward), (scaled, backward) = scaled_gradient(
            trained, (state.params, probes), state.loss_scale, has_aux=True
        )
        grads = state.loss_scale.unscale(scaled)
        finite = all_finite(grads)
        backward = jax.tree.map(lambda x: x.astype(jnp.int32), backward)
        return (loss, forward), grads, backward, state.loss_scale.adjust(finite), finite

    return gradient


Step = Callable[[TrainState, Array, Array], tuple[TrainState, Metrics]]


def compile_step(step: Step, state: TrainState, images: Array, labels: Array) -> Step:
    """Compile a step for arrays like these; it takes over the memory of the state it is given."""
    compiled: Step = jax.jit(step, donate_argnums=0).lower(state, images, labels).compile()
    return compiled


def make_step(config: TrainConfig, model: Model, backend: str) -> Step:
    """Return the step: gradient, optimizer, rounded update; skipped if not finite.

    `backend` is the config's, or that with `UNGUARDED`.
    """
    policy = config.policy
    optimizer = make_optimizer(config)
    gradient = make_gradient(config, model, backend)

    @with_default_switches
    def step(state: TrainState, images: Array, labels: Array) -> tuple[TrainState, Metrics]:
        state = replace(state, loss_scale=jax.tree.map(_narrow, state.loss_scale))
        (loss, forward), grads, backward, loss_scale, finite = gradient(state, images, labels)
        grads = {name: tag(g, f"gradient of {name}") for name, g in grads.items()}
        updates, optimizer_state = optimizer.update(grads, state.optimizer_state, state.params)
        optimizer_state = round_leaves(
            optimizer_state,
            policy.optimizer_state,
            key=state.key,
            step=state.step,
            name="optimizer state",
            where=buffers_of(config, optimizer_state),
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
        params = {
            name: tag(functions_of(policy.functions).flush(w), f"new {name}")
            for name, w in params.items()
        }
        nonzero, swallowed = count_swallowed(state.params, updates, params)
        # Only a loss scale can react to an overflow; without one the step is taken as it is.
        keep = finite | (policy.loss_scale == "none")

        def choose(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, old)

        next_state = TrainState(
            params=choose(params, state.params),
            optimizer_state=choose(optimizer_state, state.optimizer_state),
            compensation=choose(compensation, state.compensation),
            loss_scale=loss_scale,
            step=state.step + 1,
            key=state.key,
        )
        factor = _factor(state.loss_scale)
        untrusted = sum(w.untrusted for w in (*forward.values(), *backward.values()))
        metrics = Metrics(
            loss=loss,
            finite=keep,
            factor=factor,
            nonzero_updates=jnp.where(keep, nonzero, 0),
            swallowed_updates=jnp.where(keep, swallowed, 0),
            forward_events={place: watched.events for place, watched in forward.items()},
            backward_events={place: watched.events for place, watched in backward.items()},
            gradient=grads,
            untrusted=jnp.asarray(untrusted, jnp.int32),
        )
        return next_state, metrics

    return step


def _narrow(leaf: Any) -> Array:
    """Return a number of Python, or one that JAX took for 64 bits wide, in 32 bits."""
    return jnp.asarray(leaf, jnp.float32 if is_trained(leaf) else jnp.int32)


def _factor(loss_scale: LossScale) -> Array:
    return jnp.asarray(loss_scale.factor, jnp.float32)
