"""Five models of other libraries, small, with arguments by seed: where bad operations are planted.

Sums are long enough for their order to matter.
"""

from collections.abc import Callable
from typing import Any, cast

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.analysis.account.planting import Garden


def _normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape) * scale, np.float32)


def _filled(rng: np.random.Generator, tree: Any) -> Any:
    """Return weights of the shapes of a model's, of a size that keeps numbers near 1."""

    def fill(x: Any) -> np.ndarray:
        size = np.prod(x.shape[:-1]) if x.ndim > 1 else 25
        return _normal(rng, *x.shape, scale=float(size) ** -0.5) + np.float32(x.ndim == 1)

    return jax.tree.map(fill, tree)


class _Attention(nn.Module):
    """A block of a transformer, of Flax's parts."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = x + nn.MultiHeadDotProductAttention(2, deterministic=True)(nn.LayerNorm()(x))
        return x + nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(32)(nn.LayerNorm()(x))))


class _Convolutions(nn.Module):
    """A small network for pictures, of Flax's parts."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.relu(nn.BatchNorm(use_running_average=False)(nn.Conv(4, (3, 3))(x)))
        pool = cast("Any", nn.avg_pool)
        return nn.Dense(5)(pool(x, (2, 2), (2, 2)).mean((1, 2)))


def _linen(model: nn.Module, *shape: int) -> Garden:
    weights = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
    fun = lambda w, x: model.apply(w, x, mutable=["batch_stats"])[0]
    return Garden(fun, lambda rng: (_filled(rng, weights), _normal(rng, *shape)))


def _equinox() -> Garden:
    """A perceptron's loss and the gradient of it."""
    model = eqx.nn.MLP(8, 3, 16, 2, key=jax.random.key(0))
    weights, rest = eqx.partition(model, eqx.is_array)

    def loss(w: Any, x: Any, y: Any) -> Any:
        logits = jax.vmap(eqx.combine(w, rest))(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def arguments(rng: np.random.Generator) -> tuple[Any, ...]:
        filled = jax.tree.map(lambda x: _normal(rng, *x.shape, scale=x.shape[-1] ** -0.5), weights)
        return filled, _normal(rng, 512, 8), rng.integers(0, 3, 512).astype(np.int32)

    return Garden(jax.value_and_grad(loss), arguments)


def _haiku() -> Garden:
    """An LSTM over six inputs."""

    def net(x: Any) -> Any:
        cell, unroll = hk.LSTM(16), cast("Any", hk.dynamic_unroll)
        return hk.Linear(4)(unroll(cell, x, cell.initial_state(x.shape[1]))[0][-1])

    model: Any = hk.without_apply_rng(hk.transform(net))
    weights = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((6, 4, 8)))
    return Garden(model.apply, lambda rng: (_filled(rng, weights), _normal(rng, 6, 4, 8)))


def _optax() -> Garden:
    """A step of Adam on gradients that are clipped by their norm."""
    adam = optax.adam(0.1, b2=0.9, eps=1e-3)  # float16 has no 1e-8, and rounds 0.999 to 1
    optimizer = optax.chain(optax.clip_by_global_norm(20.0), adam)
    shapes = {"kernel": (32, 40), "bias": (40,)}

    def step(p: Any, g: Any, state: Any) -> Any:
        updates, _ = optimizer.update(g, state, p)
        return optax.apply_updates(p, updates)

    def arguments(rng: np.random.Generator) -> tuple[Any, ...]:
        p, g = ({name: _normal(rng, *shape) for name, shape in shapes.items()} for _ in range(2))
        return p, g, optimizer.init(p)

    return Garden(step, arguments)


GARDENS: dict[str, Callable[[], Garden]] = {
    "convolutions, Flax": lambda: _linen(_Convolutions(), 1, 32, 32, 3),
    "attention, Flax": lambda: _linen(_Attention(), 1, 8, 256),
    "perceptron and gradient, Equinox": _equinox,
    "LSTM, Haiku": _haiku,
    "Adam, optax": _optax,
}
"""What makes the models, by name."""
