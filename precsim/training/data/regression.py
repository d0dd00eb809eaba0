"""Numbers from numbers: the progress of diabetes of 442 patients."""

import math

import numpy as np

from precsim.training.data.dataset import Data
from precsim.training.data.files import packaged_table

TRAIN = 354


def load(seed: int) -> Data:
    """Split scikit-learn's diabetes data at random: 354 patients for training, 88 for testing.

    Ten measurements of a patient and the progress of the disease a year later. Each of the eleven
    has mean 0 and variance 1 on the examples for training, so that an error (rmse) near 1 is that
    of a model that always answers the mean. Means and variances are exact sums, rounded once to
    float64: the same bits on every machine. Source: B. Efron, T. Hastie, I. Johnstone,
    R. Tibshirani, Least Angle Regression, Annals of Statistics 32, 2004.
    """
    inputs, targets = _diabetes()
    table = np.column_stack([inputs, targets])
    order = np.random.default_rng(seed).permutation(len(table))
    table = table[order]
    table = np.stack([_standard(column, TRAIN) for column in table.T], axis=1).astype(np.float32)
    train, test = table[:TRAIN], table[TRAIN:]
    return Data(train[:, :-1], train[:, -1], test[:, :-1], test[:, -1], 0)


def _standard(x: np.ndarray, count: int) -> np.ndarray:
    """Give the first `count` numbers mean 0 and variance 1, and the others the same change."""
    mean = math.fsum(x[:count]) / count
    variance = math.fsum((x[:count] - mean) ** 2) / count
    return (x - mean) / math.sqrt(variance)


def _diabetes() -> tuple[np.ndarray, np.ndarray]:
    inputs = packaged_table("diabetes_data_raw.csv.gz")
    targets = packaged_table("diabetes_target.csv.gz")
    if inputs is not None and targets is not None:
        return inputs, targets
    from sklearn.datasets import load_diabetes

    inputs, targets = load_diabetes(return_X_y=True, scaled=False)
    return inputs, targets
