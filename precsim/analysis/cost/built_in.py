"""precsim's own networks as plain functions: their mathematics without what emulates it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.training.config import TrainConfig
from precsim.training.functions import platform
from precsim.training.loop import load_data
from precsim.training.models.registry import MODELS


class Task(NamedTuple):
    """A loss of weights, inputs and targets, and what stands for these."""

    loss: Callable[..., Any]
    weights: Any
    inputs: Any
    targets: Any


def task_of(config: TrainConfig) -> Task:
    """Return what a run computes in each step, for arrays that have a shape and no numbers."""
    problem = load_data(config).problem
    size = config.batch_size
    model = MODELS[config.model]
    weights = model.load().init(np.random.default_rng(0), problem)

    def loss(params: Any, inputs: Any, targets: Any) -> Any:
        others = () if model.is_plain else (PlainLayers(),)
        logits = model.load().apply(params, inputs, *others)
        logits = logits.reshape(-1, logits.shape[-1])
        with jax.named_scope("loss"):
            return platform.cross_entropy(logits, targets.reshape(-1))

    like: Any = jax.ShapeDtypeStruct
    return Task(
        loss,
        {name: like(x.shape, x.dtype) for name, x in weights.items()},
        like((size, *problem.shape), problem.dtype),
        like((size, *problem.target_shape), "int32"),
    )


@dataclass(frozen=True, slots=True)
class PlainLayers:
    """The operations of `Layers` without roundings, each in the scope of its place."""

    functions: Any = field(default_factory=lambda: ScopedFunctions({}))

    def data(self, name: str, x: Array) -> Array:
        """Return the data as they are."""
        return x

    def rounded(self, name: str, x: Array) -> Array:
        """Return values as they are."""
        return x

    def linear(self, name: str, x: Array, w: Array, b: Array, *, is_first: bool = False) -> Array:
        """Return x @ w + b."""
        with jax.named_scope(name):
            return x @ w + b

    def product(self, name: str, a: Array, b: Array) -> Array:
        """Return a @ b."""
        with jax.named_scope(name):
            return a @ b

    def conv(self, name: str, x: Array, w: Array, b: Array, *, is_first: bool = False) -> Array:
        """Convolve with "SAME" padding and add a bias."""
        with jax.named_scope(name):
            image, kernel = jnp.asarray(x), jnp.asarray(w)
            numbers = ("NHWC", "HWIO", "NHWC")
            y = jax.lax.conv_general_dilated(
                image, kernel, (1, 1), "SAME", dimension_numbers=numbers
            )
            return y + jnp.asarray(b)


@dataclass(frozen=True, slots=True)
class ScopedFunctions:
    """The platform's functions, in the scopes of a training: ``softmax 1``, ``softmax 2``."""

    calls: dict[str, int]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a function in its scope."""

        def call(*args: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            with jax.named_scope(f"{name} {self.calls[name]}"):
                return getattr(platform, name)(*args)

        return call
