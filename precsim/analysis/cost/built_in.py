"""precsim's own networks as plain functions: their mathematics without what emulates it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.training.config import TrainConfig
from precsim.training.data.batches import batches_of
from precsim.training.data.dataset import Data
from precsim.training.functions import platform
from precsim.training.gradients import LOSS
from precsim.training.loop import load_data
from precsim.training.losses import cross_entropy, loss_named
from precsim.training.setup import Layered, setup_of
from precsim.transform.policy import Policy, Rule


class Task(NamedTuple):
    """A loss, and what stands for its arguments: weights, state, inputs, targets."""

    loss: Callable[..., Any]
    arrays: tuple[Any, Any, Any, Any]


def task_of(config: TrainConfig) -> Task:
    """Return what a run computes in each step, for arrays that have a shape and no numbers."""
    data = load_data(config)
    setup = setup_of(config, data.problem)
    model, named = setup.model, loss_named(setup.loss)
    measure = _cross_entropy if named is cross_entropy else named
    inputs, targets = _batch(data, config)
    if isinstance(model, Layered):
        weights, state = setup.initial(data.problem, inputs)
    else:
        weights, state = jax.eval_shape(lambda x: model.init(0, x), inputs)

    def loss(params: Any, state: Any, inputs: Any, targets: Any) -> Any:
        if isinstance(model, Layered):
            outputs = model.module.apply(params, inputs, PlainLayers())
        else:
            outputs, _ = model.apply(params, state, inputs, jax.random.key(0), True)
        with jax.named_scope(LOSS):
            return measure(outputs, targets)

    return Task(loss, (_shapes(weights), _shapes(state), inputs, targets))


def with_loss_apart(policy: Policy) -> Policy:
    """Return a policy that leaves the loss in float32, as a training does."""
    return replace(policy, rules=(Rule(LOSS, Policy.parse("fp32")), *policy.rules))


def _cross_entropy(logits: Array, targets: Array) -> Array:
    """Return the loss that trainings compute in stated arithmetic, as its mathematics has it."""
    return platform.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


def _batch(data: Any, config: TrainConfig) -> Any:
    """Return the shapes of a batch."""
    if not isinstance(data, Data):
        return _shapes(batches_of(data, config)(0))
    size = config.batch_size
    examples = data.train_inputs, data.train_targets
    return jax.tree.map(lambda x: _like((size, *x.shape[1:]), x.dtype), examples)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: _like(np.shape(x), jnp.result_type(x)), tree)


_like: Any = jax.ShapeDtypeStruct


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
