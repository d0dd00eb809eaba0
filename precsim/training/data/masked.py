"""Characters of a text, some of them masked, which a model has to restore."""

import numpy as np

from precsim.training.data import text
from precsim.training.data.dataset import Data

MASK = text.CLASSES
"""The id that stands for a masked character."""
MASKED = 5
"""Masked characters of a window of 32, about 15 %."""
NOT_COUNTED = -1
"""The target of a character that is not masked."""


def load(seed: int, data_dir: str) -> Data:
    """Mask 5 characters, chosen at random, of each window of the task "text".

    Inputs are the 32 characters, int32, with 96 in place of those that are masked. Targets are the
    characters at these places, and -1 at all others, which the loss does not count. The run's seed
    decides the places; they stay the same in every epoch. Source: J. Devlin et al., BERT,
    arXiv:1810.04805; other than there, no masked character is replaced by a random one or kept.
    """
    train, test = (rows[:, : text.CONTEXT] for rows in text.windows(data_dir))
    rng = np.random.default_rng(seed)
    return Data(*_masked(train, rng), *_masked(test, rng), text.CLASSES, (MASK + 1,))


def _masked(rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    places = np.tile(np.arange(rows.shape[1]), (len(rows), 1))
    is_masked = rng.permuted(places, axis=1) < MASKED
    inputs = np.where(is_masked, MASK, rows).astype(np.int32)
    return inputs, np.where(is_masked, rows, NOT_COUNTED).astype(np.int32)
