"""The state of a training carried from one policy to the next."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from precsim.rounding.round_to import round_to
from precsim.rounding.scaled.delayed import DelayedScale
from precsim.rounding.spec import RoundingSpec
from precsim.training.gradients import first_tensor_scales
from precsim.training.recipes.layer_scales import LayerScale
from precsim.training.recipes.leaves import map_trained
from precsim.training.recipes.loss_scaling import as_loss_scale, narrowed
from precsim.training.recipes.rounded_leaves import round_leaves
from precsim.training.setup import Setup
from precsim.training.step import TrainState


def carried_over(
    state: TrainState, old: Setup, new: Setup, backend: str, inputs: Any, targets: Any
) -> TrainState:
    """Return the state for a step under another policy.

    What is stored in another format is rounded to nearest there: weights, buffers of the optimizer
    and of compensation. A buffer of compensation begins at zero. A loss scale that the policies
    have in common stays, another one begins. Delayed scales of the same operands keep their
    histories, and layers with their own loss scale of the same kind keep that. `inputs` and
    `targets` are a batch, of which only the shapes matter.
    """
    scales = first_tensor_scales(new, backend, state.params, state.model_state, inputs, targets)
    before, after = old.config.policy, new.config.policy
    params, compensation = state.params, state.compensation
    if before.params.format != after.params.format:
        params = _nearest(params, after.params)
    if not after.is_compensated:
        compensation = None
    elif compensation is None:
        compensation = jax.tree.map(jnp.zeros_like, params)
    elif before.params.format != after.params.format:
        compensation = _nearest(compensation, after.params)
    return replace(
        state,
        params=params,
        compensation=compensation,
        optimizer_state=_buffers(state, old, new),
        tensor_scales={
            name: _same(state.tensor_scales.get(name), jax.tree.map(jnp.asarray, first))
            for name, first in scales.items()
        },
        loss_scale=state.loss_scale
        if before.loss_scale == after.loss_scale
        else narrowed(as_loss_scale(after.loss_scale)),
    )


def _nearest(tree: Any, spec: RoundingSpec) -> Any:
    nearest = RoundingSpec(format=spec.format)
    return map_trained(lambda x: jnp.asarray(round_to(x, nearest)), tree)


def _buffers(state: TrainState, old: Setup, new: Setup) -> Any:
    """Return the optimizer's state, its buffers in the format of the new policy."""
    before, after = (
        {
            name: RoundingSpec(format=spec.format)
            for name, spec in setup.config.policy.buffers.items()
        }
        for setup in (old, new)
    )
    buffers = state.optimizer_state
    if before == after:
        return buffers
    return round_leaves(buffers, after, key=None, step=None, where=new.buffers(buffers))


def _same(known: Any, first: DelayedScale | LayerScale) -> Any:
    """Return a state that is known, if it is of the same kind."""
    if known is None or jax.tree.map(jnp.shape, known) != jax.tree.map(jnp.shape, first):
        return first
    return known
