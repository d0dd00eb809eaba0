"""A run before its first step, on data of one's own."""

import numpy as np
import pytest

import precsim as ps


def test_a_prepared_run_takes_data_of_ones_own() -> None:
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    y = np.arange(8) % 2
    config = ps.TrainConfig(policy=ps.Policy.parse("fp32"), batch_size=2)
    inputs, targets = ps.replay.prepare_run(config, data=(x, y), classes=7).batch(0)
    assert inputs.shape == (2, 3)
    rows = [x.tolist().index(row) for row in inputs.tolist()]
    assert targets.tolist() == [int(y[row]) for row in rows]
    with pytest.raises(ValueError, match="classes is given without data, which it belongs to"):
        ps.replay.prepare_run(config, classes=7)
