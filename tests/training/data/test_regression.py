"""Diabetes data: standard scores, by exact sums."""

import numpy as np
import pytest

from precsim.training.data import files, regression


def test_mean_0_and_variance_1_on_the_examples_for_training() -> None:
    data = regression.load(3)
    assert data.train_inputs.shape == (354, 10)
    assert data.test_inputs.shape == (88, 10)
    assert data.classes == 0
    for x in (*data.train_inputs.T, data.train_targets):
        assert abs(x.mean(dtype=np.float64)) < 2e-8  # rounded to float32
        assert abs(x.std(dtype=np.float64) - 1) < 2e-7
    everything = np.concatenate([data.train_targets, data.test_targets])
    assert len(np.unique(everything)) == 214  # as many different targets as the table has


@pytest.mark.long
def test_the_table_is_that_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    found = regression.load(0)
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    loaded = regression.load(0)
    for ours, theirs in zip(found[:4], loaded[:4], strict=True):
        assert ours.tobytes() == theirs.tobytes()
