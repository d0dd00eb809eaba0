"""Every registered model has the parts that the loop asks for."""

from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.training.data.dataset import Problem
from precsim.training.layers import Layers
from precsim.training.models.registry import MODELS

PROBLEMS = {
    "images": Problem((8, 8, 1), "float32", (), 10),
    "characters": Problem((6,), "int32", (6,), 10, (10,)),
}


@pytest.mark.parametrize(
    ("name", "reads"), [(name, reads) for name, m in MODELS.items() for reads in m.reads]
)
def test_logits_have_one_column_per_class(name: str, reads: str) -> None:
    model, problem = MODELS[name].load(), PROBLEMS[reads]
    params = model.init(np.random.default_rng(0), problem)
    assert all(w.dtype == np.float32 for w in params.values())
    inputs = np.zeros((2, *problem.shape), problem.dtype)
    policy = ps.Policy.parse("fp32")

    def logits(params: dict[str, jax.Array]) -> Any:
        if MODELS[name].is_plain:
            return model.apply(params, jax.numpy.asarray(inputs))
        layers = Layers(policy=policy, backend="emulated", key=jax.random.key(0))
        return model.apply(params, jax.numpy.asarray(inputs), layers)

    result = jax.eval_shape(logits, params)
    assert result.shape[-1] == 10
    assert result.shape[0] in (2, 2 * problem.shape[0])
