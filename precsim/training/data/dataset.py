"""What every data set is: arrays of examples and of labels, in two parts."""

from typing import NamedTuple

import numpy as np


class Data(NamedTuple):
    """Examples and labels, for training and for testing.

    Images: float32 in [0, 1], shape (n, height, width, channels), with labels int32, shape (n,).
    Text: int32 tokens, shape (n, length); labels are the tokens that follow, of the same shape.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int


def shuffled(images: np.ndarray, labels: np.ndarray, train: int, seed: int, classes: int) -> Data:
    """Split at random into `train` examples for training and the others for testing."""
    order = np.random.default_rng(seed).permutation(len(labels))
    images, labels = images[order], labels[order].astype(np.int32)
    return Data(images[:train], labels[:train], images[train:], labels[train:], classes)
