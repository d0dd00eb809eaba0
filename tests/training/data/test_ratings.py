"""Synthetic ratings are what their description says."""

import numpy as np

from precsim.training.data import ratings
from precsim.training.data.dataset import Data


def test_ratings_are_of_low_rank_but_for_the_noise() -> None:
    """Alternating least squares of the stated rank leaves the stated noise, of lower rank more."""
    data = ratings.load(0)
    pairs = np.concatenate([data.train_inputs, data.test_inputs])
    values = np.concatenate([data.train_targets, data.test_targets]).astype(np.float64)
    assert len(pairs) == len(np.unique(pairs, axis=0)) == ratings.RATINGS
    table = np.full((ratings.USERS, ratings.ITEMS), np.nan)
    table[tuple(pairs.T)] = values - ratings.MEAN
    left = [rest_of_fit(table, rank) for rank in (ratings.RANK - 1, ratings.RANK)]
    assert left[0] > 2 * ratings.NOISE
    # 320 of 4,000 degrees of freedom go into the fit.
    assert abs(left[1] / ratings.NOISE - np.sqrt(1 - 320 / 4000)) < 0.04
    assert abs(values.mean() - 3) < 0.2
    assert 0.7 < values.std() < 1.3


def rest_of_fit(table: np.ndarray, rank: int) -> float:
    """Return the standard deviation of what a product of two factors leaves."""
    rated = ~np.isnan(table)
    items = np.random.default_rng(1).normal(size=(table.shape[1], rank))
    for _ in range(30):
        users = fitted(table, rated, items)
        items = fitted(table.T, rated.T, users)
    return float(np.std((table - users @ items.T)[rated]))


def fitted(table: np.ndarray, rated: np.ndarray, factors: np.ndarray) -> np.ndarray:
    rows = zip(table, rated, strict=True)
    solved = [np.linalg.lstsq(factors[there], row[there], rcond=None)[0] for row, there in rows]
    return np.stack(solved)


def test_the_seed_of_a_run_decides_the_split_only() -> None:
    first, second = ratings.load(0), ratings.load(1)
    assert first.train_inputs.tolist() != second.train_inputs.tolist()

    def every(data: Data) -> list[float]:
        return sorted(np.concatenate([data.train_targets, data.test_targets]).tolist())

    assert every(first) == every(second)
