"""The data sets that a run can name."""

from collections.abc import Callable
from dataclasses import dataclass

from precsim.training.data import (
    arrays,
    cifar10,
    digits,
    idx,
    image_folder,
    masked,
    movielens,
    ratings,
    regression,
    sentences,
    text,
)
from precsim.training.data.dataset import Data


@dataclass(frozen=True, slots=True)
class Task:
    """A data set, and what its examples are."""

    load: Callable[[int, str], Data]
    """From the seed and the folder of a run."""
    has: str
    """What an example is: "images", "characters", "masked characters", "sentences", "ratings" or
    "numbers"; empty where the files decide (`kind_of` says it of data that is loaded)."""
    reads_folder: bool = False
    """Whether the folder of a run changes the data."""
    needs_folder: bool = False
    """Whether there are no data without a folder."""


def _in_files(load: Callable[[str], Data], has: str) -> Task:
    return Task(lambda _, folder: load(folder), has, reads_folder=True, needs_folder=True)


TASKS = {
    "digits": Task(lambda seed, _: digits.load(seed), "images"),
    "mnist5k": Task(lambda seed, _: digits.load_mnist5k(seed), "images"),
    "text": Task(lambda _, folder: text.load(folder), "characters", reads_folder=True),
    "masked": Task(masked.load, "masked characters", reads_folder=True),
    "ratings": Task(lambda seed, _: ratings.load(seed), "ratings"),
    "regression": Task(lambda seed, _: regression.load(seed), "numbers"),
    "mnist": _in_files(idx.load, "images"),
    "fashion": _in_files(idx.load, "images"),
    "cifar10": _in_files(cifar10.load, "images"),
    "images": _in_files(image_folder.load, "images"),
    "imdb": _in_files(sentences.load, "sentences"),
    "movielens": Task(movielens.load, "ratings", reads_folder=True, needs_folder=True),
    "arrays": Task(lambda _, folder: arrays.load(folder), "", reads_folder=True, needs_folder=True),
}
