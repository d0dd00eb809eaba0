"""The data sets that a run can name."""

from collections.abc import Callable
from dataclasses import dataclass

from precsim.training.data import digits, text
from precsim.training.data.dataset import Data


@dataclass(frozen=True, slots=True)
class Task:
    """A data set, and what its examples are."""

    load: Callable[[int, str], Data]
    """From the seed and the folder of a run."""
    has: str
    """What an example is: "images" or "characters"."""
    reads_folder: bool = False
    loss: str = "cross_entropy"
    """What is made small; "cross_entropy" of classes, "mse" of numbers."""
    metric: str = "accuracy"
    """What is measured on the examples for testing: "accuracy", "perplexity", "rmse"."""


TASKS = {
    "digits": Task(lambda seed, _: digits.load(seed), "images"),
    "mnist5k": Task(lambda seed, _: digits.load_mnist5k(seed), "images"),
    "text": Task(lambda _, folder: text.load(folder), "characters", reads_folder=True),
}
