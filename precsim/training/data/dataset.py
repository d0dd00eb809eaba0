"""What every data set is: arrays of examples and of targets, in two parts."""

from typing import Any, NamedTuple

import numpy as np

STRUCTURE = "structure"
"""What stands for the dtype of examples that are dictionaries or tuples of arrays."""


class Problem(NamedTuple):
    """What a model has to know of its data before it makes its weights."""

    shape: tuple[int, ...]
    """Of one example."""
    dtype: str
    """Of examples: "float32", "int32" for tokens and ids, or "structure"."""
    target_shape: tuple[int, ...]
    """Of the target of one example: () for a class or a number, (length,) for one per place."""
    classes: int
    """Number of classes; 0 where targets are numbers."""
    ids: tuple[int, ...] = ()
    """How many integers an input can be: the vocabulary of tokens, or users and items."""
    is_masked: bool = False
    """Whether some targets are -1, which do not count."""


class Data(NamedTuple):
    """Examples and targets, for training and for testing.

    Images: float32 in [0, 1], shape (n, height, width, channels), with classes int32, shape (n,).
    Text: int32 tokens, shape (n, length); targets are the tokens that follow, of the same shape.
    Ratings: int32 pairs (user, item), shape (n, 2); targets are numbers, float32, shape (n,).
    Inputs of one's own may be dictionaries and tuples of arrays that have one first axis in common.
    """

    train_inputs: Any
    train_targets: np.ndarray
    test_inputs: Any
    test_targets: np.ndarray
    classes: int
    """Number of classes; 0 where targets are numbers."""
    ids: tuple[int, ...] = ()
    """As those of `Problem`."""

    @property
    def problem(self) -> Problem:
        """What a model has to know of it."""
        return problem_of(self.train_inputs, self.train_targets, self.classes, self.ids)


def problem_of(inputs: Any, targets: np.ndarray, classes: int, ids: tuple[int, ...]) -> Problem:
    """Return what a model has to know of data with such examples."""
    is_masked = classes > 0 and targets.size > 0 and int(targets.min()) < 0
    goal = (targets.shape[1:], classes, ids, is_masked)
    if not isinstance(inputs, np.ndarray):
        return Problem((), STRUCTURE, *goal)
    return Problem(inputs.shape[1:], inputs.dtype.name, *goal)


def kind_of(problem: Problem) -> str:
    """Return what examples are, by their shapes and dtypes: a name as those in `Task.has`."""
    if problem.dtype == STRUCTURE:
        return "structures"
    if problem.dtype == "float32":
        return "images" if problem.classes else "numbers"
    if not problem.classes:
        return "ratings"
    return "characters" if problem.target_shape else "sentences"


def usual_loss(problem: Problem) -> tuple[str, str]:
    """Return the loss and the metric that fit the targets."""
    if not problem.classes:
        return "mse", "rmse"
    return ("masked_cross_entropy" if problem.is_masked else "cross_entropy"), "accuracy"


def shuffled(
    inputs: np.ndarray,
    targets: np.ndarray,
    train: int,
    seed: int,
    classes: int,
    ids: tuple[int, ...] = (),
) -> Data:
    """Split at random into `train` examples for training and the others for testing."""
    order = np.random.default_rng(seed).permutation(len(targets))
    inputs, targets = inputs[order], targets[order]
    if classes:
        targets = targets.astype(np.int32)
    return Data(inputs[:train], targets[:train], inputs[train:], targets[train:], classes, ids)


def pixels(codes: np.ndarray) -> np.ndarray:
    """Return pixels 0 to 255 divided by 256, exact, float32."""
    images = codes.astype(np.float32)
    images /= 256
    return images
