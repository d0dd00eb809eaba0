"""What every data set is: arrays of examples and of targets, in two parts."""

from typing import NamedTuple

import numpy as np


class Problem(NamedTuple):
    """What a model has to know of its data before it makes its weights."""

    shape: tuple[int, ...]
    """Of one example."""
    dtype: str
    """Of examples: "float32", or "int32" for tokens and ids."""
    target_shape: tuple[int, ...]
    """Of the target of one example: () for a class or a number, (length,) for one per place."""
    classes: int
    """Number of classes; 0 where targets are numbers."""
    ids: tuple[int, ...] = ()
    """How many integers an input can be: the vocabulary of tokens, or users and items."""


class Data(NamedTuple):
    """Examples and targets, for training and for testing.

    Images: float32 in [0, 1], shape (n, height, width, channels), with classes int32, shape (n,).
    Text: int32 tokens, shape (n, length); targets are the tokens that follow, of the same shape.
    """

    train_inputs: np.ndarray
    train_targets: np.ndarray
    test_inputs: np.ndarray
    test_targets: np.ndarray
    classes: int
    """Number of classes; 0 where targets are numbers."""
    ids: tuple[int, ...] = ()
    """As those of `Problem`."""

    @property
    def problem(self) -> Problem:
        """What a model has to know of it."""
        inputs, targets = self.train_inputs, self.train_targets
        return Problem(
            inputs.shape[1:], inputs.dtype.name, targets.shape[1:], self.classes, self.ids
        )


def shuffled(inputs: np.ndarray, labels: np.ndarray, train: int, seed: int, classes: int) -> Data:
    """Split at random into `train` examples for training and the others for testing."""
    order = np.random.default_rng(seed).permutation(len(labels))
    inputs, labels = inputs[order], labels[order].astype(np.int32)
    return Data(inputs[:train], labels[:train], inputs[train:], labels[train:], classes)
