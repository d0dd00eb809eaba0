"""The account of a transformer of ten million parameters, on a GPU."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import precsim as ps
from benchmarks.native import Shape, loss, make_tokens, make_weights


@pytest.mark.gpu
def test_shares_of_ten_million_parameters_sum_to_the_change() -> None:
    shape = Shape(layers=6, width=384, heads=6, batch=2, length=256)
    weights, tokens = make_weights(shape), make_tokens(shape)
    assert sum(x.size for x in jax.tree.leaves(weights)) > 10_000_000

    def of_batch(weights: Any, tokens: Any) -> Any:
        return loss(weights, tokens, shape, jnp.float32)

    report = ps.analyze(of_batch, weights, tokens, policy="bf16_mixed")
    assert len(report.rows) > 200
    assert report.closes
    assert abs(report.remainder) <= 0.01 * abs(report.change)
