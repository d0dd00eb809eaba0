"""scikit-learn's handwritten digits: 1,797 images of 8 by 8 pixels, part of the package."""

from typing import NamedTuple

import numpy as np


class Data(NamedTuple):
    """Images in [0, 1], shape (n, height, width, channels), float32, and labels, int32."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int


def load(seed: int) -> Data:
    """Split the digits at random into 1,437 for training and 360 for testing.

    Pixels 0 to 16 divided by 16, exact in every format with 5 significand bits. Source: E. Alpaydin,
    C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    images = (images[order] / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    labels = labels[order].astype(np.int32)
    return Data(images[:1437], labels[:1437], images[1437:], labels[1437:], 10)
