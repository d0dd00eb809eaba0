"""A run before its first step, on data of one's own."""

from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import precsim as ps
from precsim.products.columns import COLUMNS
from precsim.training.parallel.devices import SHARDS
from precsim.training.prepared import placed
from precsim.transform.presets import PRESETS


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


@pytest.mark.parametrize("policy", [*PRESETS, "fp16,scale=1024", "fp8_current,tensor=cotangents@8"])
def test_a_state_has_the_same_hash_wherever_it_lies(policy: str) -> None:
    """A loss scale before the first step had other dtypes on several devices than on one."""
    config = ps.TrainConfig(model="linear", policy=policy, steps=1)
    state: Any = ps.replay.prepare_run(config).state
    one_device = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), (SHARDS, COLUMNS))
    there = placed(state, one_device)
    assert ps.replay.hash_state(there) == ps.replay.hash_state(state)
