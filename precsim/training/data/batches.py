"""Which examples each step takes."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim.formats.arguments import shown
from precsim.training.config import TrainConfig
from precsim.training.data.dataset import Data
from precsim.training.data.own import Stream

Batch = tuple[Any, Any]
"""Inputs and targets, arrays of JAX."""


def batches_of(data: Data | Stream, config: TrainConfig) -> Callable[[int], Batch]:
    """Return ``batch(k)``, the examples of the step after `k` steps."""
    if isinstance(data, Stream):
        return _Read(data)
    inputs, targets = data.train_inputs, data.train_targets
    order = batches(len(targets), config)

    def batch(k: int) -> Batch:
        rows: Batch = jax.tree.map(lambda x: jnp.asarray(x[order[k]]), (inputs, targets))
        return rows

    return batch


def batches(size: int, config: TrainConfig) -> np.ndarray:
    """Return indices of each step's batch, (steps, batch_size): a new permutation each epoch."""
    rng = np.random.default_rng([config.seed, 2])
    need = config.steps * config.batch_size
    epochs = -(-need // size)
    stream = np.concatenate([rng.permutation(size) for _ in range(epochs)])
    return stream[:need].reshape(config.steps, config.batch_size)


class _Read:
    """Batches of a stream by number: read in order, from the start again where one lies behind."""

    def __init__(self, data: Stream) -> None:
        self.data = data
        self.next = 0
        self.last: Any = None
        self.shapes: Any = None
        self.iterator: Iterator[Any] = iter(())

    def __call__(self, k: int) -> Batch:
        if k == self.next - 1 and self.last is not None:
            return self.last  # type: ignore[no-any-return]
        if k < self.next:
            self.iterator, self.next = iter(self.data.batches()), 0
        while self.next <= k:
            self.last = self._checked(self._read())
            self.next += 1
        return self.last  # type: ignore[no-any-return]

    def _read(self) -> Any:
        """Return the next batch; after the last one comes the first again."""
        for _ in range(2):
            for batch in self.iterator:
                return batch
            self.iterator = iter(self.data.batches())
        raise ValueError("data has no batch; allowed are one or more (inputs, targets)")

    def _checked(self, batch: Any) -> Batch:
        """Return a batch as arrays; refuse one of another shape than the first."""
        if not (isinstance(batch, (tuple, list)) and len(batch) == 2):
            raise TypeError(
                f"data gives a batch {shown(batch)}; allowed is a pair (inputs, targets)"
            )
        arrays = jax.tree.map(_as_array, tuple(batch))
        shapes = jax.tree.map(lambda x: (x.shape, str(x.dtype)), arrays)
        self.shapes = self.shapes or shapes
        if shapes != self.shapes:
            raise ValueError(
                f"batch {self.next} of data has shapes {shapes}; allowed are those of the first, "
                f"{self.shapes}, since a step is compiled once"
            )
        return arrays  # type: ignore[no-any-return]


def _as_array(x: Any) -> Any:
    array = np.asarray(x)
    if array.dtype == bool:
        return jnp.asarray(array)
    kind = np.float32 if np.issubdtype(array.dtype, np.inexact) else np.int32
    return jnp.asarray(array, kind)
