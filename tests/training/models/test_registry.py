"""Every registered model has the parts that the loop asks for."""

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.training.layers import Layers
from precsim.training.models.registry import MODELS

SHAPES = {"images": (8, 8, 1), "characters": (6,)}


@pytest.mark.parametrize("name", MODELS)
def test_logits_have_one_column_per_class(name: str) -> None:
    reads, model = MODELS[name].reads, MODELS[name].load()
    shape = SHAPES[reads]
    params = model.init(np.random.default_rng(0), shape, 10)
    assert all(w.dtype == np.float32 for w in params.values())
    inputs = np.zeros((2, *shape), np.float32 if reads == "images" else np.int32)
    policy = ps.Policy.parse("fp32")

    def logits(params: dict[str, jax.Array]) -> jax.Array:
        layers = Layers(policy=policy, backend="emulated", key=jax.random.key(0))
        found: jax.Array = model.apply(params, jax.numpy.asarray(inputs), layers)
        return found

    result = jax.eval_shape(logits, params)
    assert result.shape[-1] == 10
    assert result.shape[0] in (2, 2 * shape[0])
