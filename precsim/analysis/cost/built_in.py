"""The step of a run as a plain function: its mathematics without what emulates it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.training.config import TrainConfig
from precsim.training.data.batches import batches_of
from precsim.training.data.dataset import Data
from precsim.training.functions import platform
from precsim.training.gradients import LOSS
from precsim.training.losses import cross_entropy, loss_named
from precsim.training.prepared import load_data
from precsim.training.setup import plain_network, setup_of


class Task(NamedTuple):
    """A loss, and what stands for its arguments: weights, state, inputs, targets."""

    loss: Callable[..., Any]
    arrays: tuple[Any, Any, Any, Any]


def task_of(config: TrainConfig) -> Task:
    """Return what a run computes in each step, for arrays that have a shape and no numbers."""
    data = load_data(config)
    setup = setup_of(config, data.problem)
    network, named = plain_network(setup, data.problem), loss_named(setup.loss)
    measure = _cross_entropy if named is cross_entropy else named
    inputs, targets = _batch(data, config)
    weights, state = jax.eval_shape(lambda x: network.init(config.seed, x), inputs)

    def loss(params: Any, state: Any, inputs: Any, targets: Any) -> Any:
        outputs, _ = network.apply(params, state, inputs, jax.random.key(0), True)
        with jax.named_scope(LOSS):
            return measure(outputs, targets)

    return Task(loss, (weights, state, inputs, targets))


def _cross_entropy(logits: Array, targets: Array) -> Array:
    """Return the loss that trainings compute in stated arithmetic, as its mathematics has it."""
    return platform.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


def _batch(data: Any, config: TrainConfig) -> Any:
    """Return the shapes of a batch; of arrays, without taking any."""
    like: Any = jax.ShapeDtypeStruct
    if not isinstance(data, Data):
        batch = batches_of(data, config)(0)
        return jax.tree.map(lambda x: like(np.shape(x), jnp.result_type(x)), batch)
    examples = data.train_inputs, data.train_targets
    return jax.tree.map(lambda x: like((config.batch_size, *x.shape[1:]), x.dtype), examples)
