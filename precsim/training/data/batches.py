"""Which examples each step takes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim.training.config import TrainConfig
from precsim.training.data.dataset import Data
from precsim.training.data.stream import Stream

MOST_EXAMPLES = 2**27
"""Examples of a whole run, at most: their order, a gigabyte then, is made before the first step."""

Batch = tuple[Any, Any]
"""Inputs and targets, arrays of JAX."""


def batches_of(data: Data | Stream, config: TrainConfig) -> Callable[[int], Batch]:
    """Return ``batch(k)``, the examples of the step after `k` steps."""
    if isinstance(data, Stream):
        read = data.reader()
        return lambda k: jax.tree.map(jnp.asarray, read(k))
    check_parts(config)
    inputs, targets = data.train_inputs, data.train_targets
    order = batches(len(targets), config)

    def batch(k: int) -> Batch:
        rows: Batch = jax.tree.map(lambda x: jnp.asarray(x[order[k]]), (inputs, targets))
        return rows

    return batch


def check_parts(config: TrainConfig) -> None:
    """Refuse parts that do not divide `batch_size`; batches of one's own have a size of theirs."""
    if config.batch_size % config.shards:
        raise ValueError(
            f"shards is {config.shards}; allowed are divisors of batch_size, {config.batch_size}"
        )
    of_shard = config.batch_size // config.shards
    if of_shard % config.accumulate:
        said = "batch_size" if config.shards == 1 else "batch_size / shards"
        raise ValueError(
            f"accumulate is {config.accumulate}; allowed are divisors of {said}, {of_shard}"
        )


def batches(size: int, config: TrainConfig) -> np.ndarray:
    """Return indices of each step's batch, (steps, batch_size): a new permutation each epoch."""
    need = config.steps * config.batch_size
    if need > MOST_EXAMPLES:
        raise ValueError(
            f"batch_size is {config.batch_size}, with {config.steps} steps; allowed are {MOST_EXAMPLES} "
            "examples in all steps together"
        )
    rng = np.random.default_rng([config.seed, 2])
    epochs = -(-need // size)
    stream = np.concatenate([rng.permutation(size) for _ in range(epochs)])
    return stream[:need].reshape(config.steps, config.batch_size)
