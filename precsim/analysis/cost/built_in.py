"""The step of a run as a plain function: its mathematics without what emulates it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from precsim.training.config import TrainConfig
from precsim.training.data.batches import batches_of
from precsim.training.functions import platform
from precsim.training.loop import load_data
from precsim.training.losses import loss_named
from precsim.training.setup import plain_network, setup_of


class Task(NamedTuple):
    """A loss of weights, inputs and targets, and what stands for these."""

    loss: Callable[..., Any]
    weights: Any
    inputs: Any
    targets: Any


def task_of(config: TrainConfig) -> Task:
    """Return what a run computes in each step, for arrays that have a shape and no numbers."""
    data = load_data(config)
    setup = setup_of(config, data.problem)
    network, size = plain_network(setup, data.problem), config.batch_size
    like: Any = jax.ShapeDtypeStruct
    rows = lambda x: like((size, *x.shape[1:]), x.dtype)
    inputs, targets = jax.tree.map(rows, batches_of(data, config)(0))
    weights, state = jax.tree.map(
        lambda x: like(np.shape(x), x.dtype), network.init(config.seed, inputs)
    )

    def loss(params: Any, inputs: Any, targets: Any) -> Any:
        outputs, _ = network.apply(params, state_of(state), inputs, jax.random.key(0), True)
        with jax.named_scope("loss"):
            if setup.loss == "cross_entropy":
                return platform.cross_entropy(
                    outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
                )
            return loss_named(setup.loss)(outputs, targets)

    return Task(loss, weights, inputs, targets)


def state_of(state: Any) -> Any:
    """Return zeros in place of the state of a model, which costs no operations."""
    return jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), state)
