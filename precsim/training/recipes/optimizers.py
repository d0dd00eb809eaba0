"""The optimizers of a run: SGD in portable arithmetic, Adam as optax has it or portable too."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from precsim._arrays import Array
from precsim.arithmetic import portable as p
from precsim.training.config import TrainConfig
from precsim.training.recipes.leaves import map_trained

_MOMENTUM = 0.9
_WEIGHT_DECAY = 0.01
_ONE = np.float32(1)


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Return the optimizer of a config, portable where that is cheap or its policy says so."""
    rule = _rule(config)
    # Flattened, the portable one is one kernel for all weights.
    return optax.flatten(rule) if config.policy.functions == "portable" else rule


def _rule(config: TrainConfig) -> optax.GradientTransformation:
    rate = config.learning_rate
    is_portable = config.policy.functions == "portable"
    match config.optimizer:
        case "adam":
            return portable_adamw(rate, weight_decay=0.0) if is_portable else optax.adam(rate)
        case "adamw":
            adamw = portable_adamw if is_portable else optax.adamw
            return adamw(rate, weight_decay=_WEIGHT_DECAY)
        case name:
            sgd = portable_sgd(rate, momentum=_MOMENTUM if name == "momentum" else None)
            # Buffers stand where optax.sgd has them: random bits depend on the path.
            return sgd if is_portable else optax.chain(sgd)


def updates_of(
    optimizer: Any, gradients: Any, state: Any, params: Any, *, loss: Array
) -> tuple[Any, Any]:
    """Return the updates and the next state; the optimizer may ask for `value`, the step's loss."""
    update = optax.with_extra_args_support(optimizer).update
    updates, state = update(gradients, state, params, value=loss, grad=gradients)
    return updates, state


def check_arguments(optimizer: Any, state: Any, params: Any) -> None:
    """Refuse an optimizer that asks for more than gradients, weights and a loss."""
    loss = np.float32(0)
    try:
        jax.eval_shape(
            lambda state, params, loss: updates_of(optimizer, params, state, params, loss=loss),
            *(state, params, loss),
        )
    except TypeError as error:
        missing = re.search(r"missing \d+ required .*argument\w*: (.+)", str(error))
        if missing is None:
            raise
        raise ValueError(
            f"optimizer needs {missing[1]}; allowed are optimizers that take gradients, state, weights, "
            "and the loss of the step as value"
        ) from None


def buffers_of(config: TrainConfig, state: Any) -> Any:
    """Return which leaves of the state of a config's optimizer are buffers, one per weight."""
    return find_buffers(_rule(config), state)


def find_buffers(optimizer: Any, state: Any) -> Any:
    """Return a tree of booleans: which leaves of an optimizer's state belong to a weight each.

    The others are counters, powers of decay rates and hyperparameters.
    """
    return optax.tree_utils.tree_map_params(
        optimizer, lambda _: True, state, transform_non_params=lambda _: False
    )


class MomentumState(NamedTuple):
    """State of `portable_sgd` with momentum."""

    trace: Any


class AdamState(NamedTuple):
    """State of `portable_adamw`."""

    first: Any
    """Mean of the gradients."""
    second: Any
    """Mean of their squares."""
    powers: Array
    """(b1**t, b2**t), each step one more rounded multiplication."""


def portable_sgd(
    learning_rate: float, *, momentum: float | None = None
) -> optax.GradientTransformation:
    """Return the optimizer ``-lr * g``, or ``v = momentum * v + g`` and ``-lr * v``, portably.

    Parameters
    ----------
    learning_rate, momentum : float
        Rounded to float32.

    Returns
    -------
    optax.GradientTransformation
        As `optax.sgd`. Its updates have the same bits on every device: one rounding per operation,
        in the order written. Leaves that are not differentiable stay as they are.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from precsim.training.recipes.optimizers import portable_sgd
    >>> optimizer = portable_sgd(0.5, momentum=0.5)
    >>> state = optimizer.init({"w": jnp.zeros(1)})
    >>> for _ in range(2):
    ...     updates, state = optimizer.update({"w": jnp.ones(1)}, state)
    >>> updates["w"].tolist()
    [-0.75]
    """
    rate = np.float32(-learning_rate)

    def init(params: Any) -> Any:
        if momentum is None:
            return optax.EmptyState()
        return MomentumState(jax.tree.map(jnp.zeros_like, params))

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        gradients = map_trained(p.flush, gradients)
        if momentum is not None:
            kept = map_trained(lambda v: p.multiply(np.float32(momentum), v), state.trace)
            gradients = map_trained(p.add, kept, gradients)
            state = MomentumState(gradients)
        return map_trained(lambda g: p.multiply(rate, g), gradients), state

    return optax.GradientTransformation(init, update)


def portable_adamw(
    learning_rate: float,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> optax.GradientTransformation:
    """Return AdamW's updates with the same bits on every device.

    Parameters
    ----------
    learning_rate, b1, b2, eps, weight_decay : float
        As in `optax.adamw`; rounded to float32.

    Returns
    -------
    optax.GradientTransformation
        ``m = b1 * m + (1 - b1) * g``, ``v = b2 * v + (1 - b2) * g * g``, and ``-lr * ((m / (1 -
        b1**t)) / (sqrt(v / (1 - b2**t)) + eps) + weight_decay * w)``, where the divisions by ``1 -
        b**t`` are multiplications by their rounded reciprocals. Leaves that are not differentiable
        stay as they are.

    Notes
    -----
    Cost: a correctly rounded division and root per weight, about 500 integer operations. Source:
    Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019, algorithm 2.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from precsim.training.recipes.optimizers import portable_adamw
    >>> optimizer = portable_adamw(0.5, weight_decay=0.0)
    >>> params = {"w": jnp.zeros(1)}
    >>> optimizer.update({"w": jnp.ones(1)}, optimizer.init(params), params)[0]["w"].tolist()
    [-0.5]
    """
    rate, decay, epsilon = (np.float32(x) for x in (-learning_rate, weight_decay, eps))
    kept = np.array([b1, b2], np.float32)
    new = np.array([1 - b1, 1 - b2], np.float32)

    def init(params: Any) -> AdamState:
        first, second = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return AdamState(first, second, jnp.ones(2, jnp.float32))

    def update(gradients: Any, state: AdamState, params: Any = None) -> tuple[Any, AdamState]:
        gradients = map_trained(p.flush, gradients)

        def average(b: int, old: Any, values: Any) -> Any:
            mix = lambda x, y: p.add(p.multiply(kept[b], x), p.multiply(new[b], y))
            return map_trained(mix, old, values)

        first = average(0, state.first, gradients)
        second = average(1, state.second, map_trained(lambda g: p.multiply(g, g), gradients))
        powers = p.multiply(state.powers, kept)
        inverse = p.divide(_ONE, p.subtract(_ONE, powers))

        def one(m: Array, v: Array, w: Array) -> Array:
            root = p.add(p.sqrt(p.multiply(v, inverse[1])), epsilon)
            step = p.divide(p.multiply(m, inverse[0]), root)
            step = p.add(step, p.multiply(decay, w)) if weight_decay else step
            return p.multiply(rate, step)

        if weight_decay and params is None:
            raise ValueError("params is None; weight decay needs the weights")
        updates = map_trained(one, first, second, first if params is None else params)
        return updates, AdamState(first, second, powers)

    return optax.GradientTransformation(init, update)
