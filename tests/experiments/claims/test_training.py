"""The shared training: what is rounded, what is lost, and that seeds decide everything else."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.claims.training import FP32, mixed, pure, rounder, splits, train


def test_rounder_rounds_values_and_gradients() -> None:
    q = rounder("fp32", backward="e4m3")
    x = jnp.float32(1.01)
    assert float(q(x)) == float(x)
    assert float(jax.grad(lambda x: 1.3 * q(x))(x)) == 1.25
    both = rounder("bf16")
    assert float(both(x)) == 1.0078125
    assert float(jax.grad(lambda x: 1.01 * both(x))(x)) == 1.0078125


def test_narrow_weights_lose_updates_and_copies_do_not() -> None:
    wide = train(FP32, seeds=1, epochs=1)
    narrow, kept = (train(recipe, seeds=1, epochs=1) for recipe in (pure("bf16"), mixed("bf16")))
    assert narrow.swallowed[0] > 40
    assert kept.swallowed[0] < 1
    distance = [np.abs(run.weights["w1"] - wide.weights["w1"]).max() for run in (narrow, kept)]
    assert distance[0] > 5 * distance[1] > 0
    assert train(FP32, seeds=1, epochs=1) is wide


def test_splits_are_disjoint_and_differ_by_seed() -> None:
    found = splits(2)
    assert found.x.shape == (2, 1437, 64)
    assert found.test_x.shape == (2, 360, 64)
    assert not np.array_equal(found.y[0], found.y[1])
    rows = {row.tobytes() for row in np.concatenate([found.x[0], found.test_x[0]])}
    assert len(rows) > 1790
