"""`value_and_grad` with loss scaling around it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from precsim.training.recipes.loss_scaling import LossScale, all_finite, loss_scale_from
from precsim.transform.policy import Policy


def value_and_grad(
    loss_fn: Callable[..., Any],
    policy: str | Policy,
    *,
    loss_scale: LossScale | None = None,
    has_aux: bool = False,
) -> Callable[..., tuple[Any, Any, LossScale, Any]]:
    """Return a function that computes a loss and its gradient under loss scaling.

    Parameters
    ----------
    loss_fn : callable
        ``loss_fn(params, *args)`` returns a scalar, or (scalar, aux). It computes by the policy
        itself, for example with ``ps.matmul(x, w, policy.forward, dgrad=policy.dgrad,
        wgrad=policy.wgrad)``.
    policy : str or Policy
        The policy says which loss scale to start with where `loss_scale` is not given.
    loss_scale : NoLossScale, StaticLossScale or DynamicLossScale, optional
        Current state of the loss scale; a pytree, so it may come from the last step under jit.
    has_aux : bool
        Whether `loss_fn` returns a pair.

    Returns
    -------
    callable
        ``f(params, *args)`` returns (loss or (loss, aux), gradient, next loss scale, finite). The
        loss is not scaled. The gradient is unscaled with the factor that scaled it, and `finite`
        says whether all elements of this unscaled gradient are finite. If they are not, skip the
        step. Leaves of `params` that are not differentiable (integers, booleans, random keys) have
        the gradient that ``jax.grad(..., allow_int=True)`` gives them: zeros of dtype float0.

    Notes
    -----
    Unscaling happens in float32, after the backward pass. It is exact for powers of two as long as
    the unscaled gradient is a normal float32.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> f = ps.value_and_grad(lambda w, x: jnp.sum(w * x), "fp16_mixed")
    >>> loss, grad, scale, finite = f(jnp.ones(2), jnp.float32([1.0, 2.0]))
    >>> float(loss), grad.tolist(), bool(finite)
    (3.0, [1.0, 2.0], True)
    """
    policy = Policy.parse(policy)
    state = loss_scale_from(policy.loss_scale) if loss_scale is None else loss_scale

    def run(params: Any, *args: Any) -> tuple[Any, Any, LossScale, Any]:
        loss = lambda params: loss_fn(params, *args)
        value, scaled = scaled_gradient(loss, params, state, has_aux=has_aux)
        gradient = state.unscale(scaled)
        finite = all_finite(gradient)
        return value, gradient, state.adjust(finite), finite

    return run


def scaled_gradient(
    loss_fn: Callable[[Any], Any], params: Any, loss_scale: LossScale, *, has_aux: bool
) -> tuple[Any, Any]:
    """Return what a function of the parameters returns, and the gradient of factor * loss."""
    value, pull_back, *aux = jax.vjp(  # type: ignore[call-overload]
        loss_fn, params, has_aux=has_aux
    )
    if jnp.shape(value) != ():
        raise TypeError(f"loss_fn returned shape {jnp.shape(value)}; allowed is a scalar")
    # The loss itself is not scaled: the factor could make it infinite.
    (scaled,) = pull_back(loss_scale.scale(jnp.ones_like(value)).astype(value.dtype))
    return ((value, *aux) if has_aux else value), scaled
