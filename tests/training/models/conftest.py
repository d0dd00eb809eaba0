"""Small problems of each kind, and the loss of a model on one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim.training.data.dataset import Problem
from precsim.training.models.gpt2 import GPT2
from precsim.training.models.registry import MODELS

PROBLEMS = {
    "images": Problem((8, 8, 1), "float32", (), 10),
    "characters": Problem((6,), "int32", (6,), 10, (10,)),
    "masked characters": Problem((6,), "int32", (6,), 10, (11,)),
    "sentences": Problem((6,), "int32", (), 2, (20,)),
    "ratings": Problem((2,), "int32", (), 0, (7, 9)),
    "numbers": Problem((5,), "float32", (), 0),
}
SMALLER = {"gpt2": GPT2(blocks=2, heads=2, width=8, context=8)}
"""Stands for a model that takes long to make."""
PLAIN = [(name, kind) for name, m in MODELS.items() if m.is_plain for kind in m.reads]


def started(name: str, problem: Problem) -> tuple[Any, dict[str, np.ndarray], Any]:
    """Return the module of a model, its weights, and its state or None."""
    model = SMALLER.get(name) or MODELS[name].load()
    params = model.init(np.random.default_rng(0), problem)
    return model, params, model.init_state(params) if hasattr(model, "init_state") else None


def examples(problem: Problem, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return random inputs and targets."""
    rng = np.random.default_rng(1)

    def drawn(shape: tuple[int, ...], below: int) -> np.ndarray:
        size = count, *shape
        if below:
            return rng.integers(below, size=size, dtype=np.int32)
        return rng.random(size, np.float32)

    inputs = drawn(problem.shape, min(problem.ids, default=0))
    return inputs, drawn(problem.target_shape, problem.classes)


def loss_of(model: Any, problem: Problem) -> Callable[..., tuple[Any, Any]]:
    """Return ``loss(params, state, inputs, targets, is_training) -> (loss, (outputs, state))``.

    Targets below 0 do not count.
    """

    def loss(params: Any, state: Any, x: Any, targets: Any, is_training: bool = True) -> Any:
        if state is None:
            outputs = model.apply(params, x)
        else:
            outputs, state = model.apply(params, x, state, is_training)
        if not problem.classes:
            return jnp.mean((outputs - targets) ** 2), (outputs, state)
        counts = (targets >= 0).astype(outputs.dtype)
        places = jnp.maximum(targets, 0)[..., None]
        right = jnp.take_along_axis(jax.nn.log_softmax(outputs), places, -1)[..., 0]
        return -jnp.sum(right * counts) / jnp.sum(counts), (outputs, state)

    return loss
