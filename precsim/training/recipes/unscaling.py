"""Loss scaling around an optax optimizer: the scale is part of the optimizer's state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from precsim._arrays import Array
from precsim.training.recipes.inner import with_extra_arguments
from precsim.training.recipes.leaves import map_trained, widened
from precsim.training.recipes.loss_scaling import (
    DynamicLossScale,
    LossScale,
    NoLossScale,
    all_finite,
    as_loss_scale,
    narrowed,
)


class UnscaledState(NamedTuple):
    """State of `apply_unscaled`."""

    loss_scale: LossScale
    """The scale of the next loss, its counters, and the steps skipped so far."""
    inner_state: Any
    """State of the inner optimizer."""
    is_finite: Array
    """Whether the last gradient was finite."""


def apply_unscaled(inner: Any, loss_scale: LossScale | str | float = "dynamic") -> Any:
    """Apply an optimizer to the unscaled gradient, and skip the steps where that is not finite.

    Parameters
    ----------
    inner : optax.GradientTransformation
        What takes the unscaled gradient, for example clipping and an optimizer in a chain.
    loss_scale : DynamicLossScale, StaticLossScale, NoLossScale, str or float
        The first scale; text and numbers as in a policy: "dynamic", "dynamic@65536", 1024.

    Returns
    -------
    optax.GradientTransformationExtraArgs
        Its state is a named tuple (`loss_scale`, `inner_state`, `is_finite`). Extra arguments reach
        `inner`.

    Raises
    ------
    ValueError
        If `loss_scale` is none, or has `redo`.

    Notes
    -----
    The gradient is that of a loss scaled with `scale_loss`. It is unscaled in float32 with the
    scale that scaled it, before `inner` sees it, so that a threshold of clipping means what it
    says. Then the scale is adjusted. Where an element is not finite, the updates are 0 and
    `inner_state` stays as it is, steps that it counts included (with `NoLossScale` no step is
    skipped). Gradients of several devices have to be reduced before.

    Weights and gradients in bfloat16 or float16 reach `inner` as float32: its buffers are float32,
    and so are the updates.

    With `optax.MultiSteps`, put that inside: each gradient is then unscaled with its own scale, and
    one that is not finite is left out. Around `apply_unscaled`, MultiSteps keeps a gradient that is
    not finite in its sum for good (optax 0.2.8).

    Examples
    --------
    >>> import jax, jax.numpy as jnp, optax, precsim as ps
    >>> clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.5))
    >>> optimizer = ps.optax.apply_unscaled(clipped, "dynamic@1024")
    >>> w = jnp.float32([3.0, 4.0])
    >>> state = optimizer.init(w)
    >>> gradient = jax.grad(lambda w: ps.optax.scale_loss(w @ w, state))(w)
    >>> updates, state = optimizer.update(gradient, state, w)
    >>> gradient.tolist(), updates.tolist()
    ([6144.0, 8192.0], [-0.3, -0.4])
    >>> updates, state = optimizer.update(gradient / 0, state, w)
    >>> updates.tolist(), float(state.loss_scale.factor), int(state.loss_scale.skipped)
    ([0.0, 0.0], 512.0, 1)
    """
    first = as_loss_scale(loss_scale)
    if isinstance(first, DynamicLossScale) and first.redo:
        raise ValueError(
            "loss_scale has redo; allowed is one without, as an optimizer cannot repeat a step"
        )
    inner = with_extra_arguments(inner)

    def init(params: Any) -> UnscaledState:
        return UnscaledState(
            loss_scale=narrowed(first),
            inner_state=inner.init(widened(params)),
            is_finite=jnp.asarray(True),
        )

    def update(
        updates: Any, state: UnscaledState, params: Any = None, **extra: Any
    ) -> tuple[Any, UnscaledState]:
        gradients = state.loss_scale.unscale(widened(updates))
        is_finite = all_finite(gradients)
        is_taken = is_finite | isinstance(state.loss_scale, NoLossScale)
        weights = None if params is None else widened(params)
        changes, new_state = inner.update(gradients, state.inner_state, weights, **extra)
        changes = map_trained(lambda x: jnp.where(is_taken, x, jnp.zeros_like(x)), changes)
        kept = jax.tree.map(lambda x, y: jnp.where(is_taken, x, y), new_state, state.inner_state)
        return changes, UnscaledState(state.loss_scale.adjust(is_finite), kept, is_finite)

    return optax.GradientTransformationExtraArgs(init, update)


def get_loss_scale(state: Any) -> LossScale:
    """Return the loss scale that is in the state of an optimizer.

    Parameters
    ----------
    state : pytree
        State of an optimizer in which `apply_unscaled` stands once, at any depth.

    Returns
    -------
    DynamicLossScale, StaticLossScale or NoLossScale
        With its factor, and the steps skipped so far.

    Raises
    ------
    ValueError
        If there is no loss scale in the state, or more than one.

    Examples
    --------
    >>> import jax.numpy as jnp, optax, precsim as ps
    >>> state = optax.chain(ps.optax.apply_unscaled(optax.adam(1e-3), 8.0)).init(jnp.ones(2))
    >>> float(ps.optax.get_loss_scale(state).factor)
    8.0
    """

    def is_scale(x: Any) -> bool:
        return isinstance(x, LossScale)

    found = [x for x in jax.tree.leaves(state, is_leaf=is_scale) if is_scale(x)]
    if len(found) != 1:
        raise ValueError(
            f"state has {len(found)} loss scales; allowed is one, that of ps.optax.apply_unscaled"
        )
    scale: LossScale = found[0]
    return scale


def scale_loss(loss: Any, state: Any) -> Array:
    """Return a loss as it is; its gradient is multiplied by the loss scale of an optimizer's state.

    Parameters
    ----------
    loss : jax.Array of float
        The loss, inside of the function that is differentiated.
    state : pytree
        State of an optimizer with `apply_unscaled`, as `get_loss_scale` takes it; or a loss scale.

    Returns
    -------
    jax.Array
        The loss. It is not scaled itself, since the factor could make it infinite.

    Notes
    -----
    The gradient of the loss with respect to itself is the factor, in the dtype of the loss: 65536
    is infinite in float16. Derivatives are in reverse mode.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, precsim as ps
    >>> scale = ps.StaticLossScale(factor=1024.0)
    >>> loss, gradient = jax.value_and_grad(lambda w: ps.optax.scale_loss(3 * w, scale))(2.0)
    >>> float(loss), float(gradient)
    (6.0, 3072.0)
    """
    return _with_scaled_gradient(jnp.asarray(loss), get_loss_scale(state))


@jax.custom_vjp
def _with_scaled_gradient(loss: Array, scale: LossScale) -> Array:
    return loss


def _forward(loss: Array, scale: LossScale) -> tuple[Array, LossScale]:
    return loss, scale


def _backward(scale: LossScale, cotangent: Array) -> tuple[Array, None]:
    return scale.scale(cotangent).astype(cotangent.dtype), None


_with_scaled_gradient.defvjp(_forward, _backward)
