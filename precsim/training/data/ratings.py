"""Ratings of items by users: synthetic ones of low rank."""

import numpy as np

from precsim.training.data.dataset import Data, shuffled

USERS = 100
ITEMS = 60
RANK = 2
RATINGS = 4000
TRAIN = 3200
NOISE = 0.25
"""Standard deviation of what no model can learn."""
MEAN = 3.0
_SEED = 0


def load(seed: int) -> Data:
    """Split 4,000 synthetic ratings at random: 3,200 for training, 800 for testing.

    100 users and 60 items have two standard normal numbers each; a rating is 3 plus the scalar
    product of the two, divided by the root of the rank, plus normal noise of standard deviation
    0.25. So ratings have variance 1 about 3, and no model gets below an error (rmse) of 0.25. Which
    4,000 of the 6,000 pairs are rated is random. All this is decided by a seed of its own, 0, and
    is the same in every run; the run's seed decides the split. Inputs are int32 pairs
    (user, item).
    """
    rng = np.random.default_rng(_SEED)
    users, items = rng.normal(size=(USERS, RANK)), rng.normal(size=(ITEMS, RANK))
    rated = rng.permutation(USERS * ITEMS)[:RATINGS]
    user, item = np.divmod(rated, ITEMS)
    products = users[user] * items[item]
    ratings = MEAN + products.sum(axis=1) / np.sqrt(RANK) + NOISE * rng.normal(size=RATINGS)
    pairs = np.stack([user, item], axis=1).astype(np.int32)
    return shuffled(pairs, ratings.astype(np.float32), TRAIN, seed, 0, (USERS, ITEMS))
