"""`value_and_grad` with loss scaling around it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precsim._arrays import Array
from precsim._loops import as_varying
from precsim.formats.arguments import integer, shown
from precsim.training.recipes.loss_scaling import (
    DynamicLossScale,
    LossScale,
    all_finite,
    as_loss_scale,
    narrowed,
)
from precsim.transform.policy import Policy


def value_and_grad(
    loss_fn: Callable[..., Any],
    policy: str | Policy,
    *,
    loss_scale: LossScale | str | float | None = None,
    has_aux: bool = False,
    argnums: int | Sequence[int] = 0,
) -> Callable[..., tuple[Any, Any, LossScale, Any]]:
    """Return a function that computes a loss and its gradient under loss scaling.

    Parameters
    ----------
    loss_fn : callable
        ``loss_fn(params, *args, **kwargs)`` returns a scalar, or (scalar, aux). It computes by the
        policy itself, for example with ``ps.matmul(x, w, policy.forward, dgrad=policy.dgrad,
        wgrad=policy.wgrad)``.
    policy : str or Policy
        The policy says which loss scale to start with where `loss_scale` is not given.
    loss_scale : NoLossScale, StaticLossScale, DynamicLossScale, str or float, optional
        Current state of the loss scale; a pytree, so it may come from the last step under jit. Or
        the first one, as in a policy: "dynamic", "dynamic@65536", 1024.
    has_aux : bool
        Whether `loss_fn` returns a pair.
    argnums : int or sequence of int
        The positional arguments with respect to which the gradient is taken, as in `jax.grad`.

    Returns
    -------
    callable
        ``f(params, *args, **kwargs)`` returns (loss or (loss, aux), gradient, next loss scale,
        finite). The loss is not scaled. The gradient is unscaled with the factor that scaled it,
        and `finite` says whether all elements of this unscaled gradient are finite. If they are
        not, skip the step. Leaves of `params` that are not differentiable (integers, booleans,
        random keys) have the gradient that ``jax.grad(..., allow_int=True)`` gives them: zeros of
        dtype float0.

    Raises
    ------
    ValueError
        If `argnums` names a positional argument that the call does not have.
    TypeError
        If `loss_fn` returns what is no real floating-point scalar, or no pair where `has_aux` says
        so; if an argument is of a wrong type.

    Notes
    -----
    Unscaling happens in float32, after the backward pass. It is exact for powers of two as long as
    the unscaled gradient is a normal float32.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> f = ps.value_and_grad(lambda w, x: jnp.sum(w * x), "fp16_mixed")
    >>> loss, grad, scale, finite = f(jnp.ones(2), x=jnp.float32([1.0, 2.0]))
    >>> float(loss), grad.tolist(), bool(finite)
    (3.0, [1.0, 2.0], True)
    """
    policy = Policy.parse(policy)
    state = as_loss_scale(policy.loss_scale if loss_scale is None else loss_scale)
    if not callable(loss_fn):
        raise TypeError(f"loss_fn is {shown(loss_fn)}; allowed is a function")
    several = argnums if isinstance(argnums, Sequence) else None
    numbers = [integer(n, "argnums") for n in ([argnums] if several is None else several)]

    def run(*args: Any, **kwargs: Any) -> tuple[Any, Any, LossScale, Any]:
        where = [_position(number, len(args)) for number in numbers]

        def loss(chosen: Any) -> Any:
            given = list(args)
            for n, value in zip(where, chosen, strict=True):
                given[n] = value
            return loss_fn(*given, **kwargs)

        chosen = tuple([args[n] for n in where])

        def attempt(scale: LossScale) -> tuple[Any, Array]:
            value, scaled = scaled_gradient(loss, chosen, scale, has_aux=has_aux)
            gradient = scale.unscale(scaled[0] if several is None else scaled)
            return (value, gradient), all_finite(gradient)

        (value, gradient), used, finite = until_finite(attempt, state)
        return value, gradient, used.adjust(finite), finite

    return run


def _position(number: int, count: int) -> int:
    if not -count <= number < count:
        raise ValueError(
            f"argnums is {number}; allowed are the {count} positional arguments of the call"
        )
    return number % count


def scaled_gradient(
    loss_fn: Callable[[Any], Any], params: Any, loss_scale: LossScale, *, has_aux: bool
) -> tuple[Any, Any]:
    """Return what a function of the parameters returns, and the gradient of factor * loss."""

    def checked(params: Any) -> Any:
        returned = loss_fn(params)
        if has_aux and not (isinstance(returned, (tuple, list)) and len(returned) == 2):
            raise TypeError(f"loss_fn returned {shown(returned)}; allowed is a pair (loss, aux)")
        _check_loss(returned[0] if has_aux else returned)
        return returned

    value, pull_back, *aux = jax.vjp(  # type: ignore[call-overload]
        checked, params, has_aux=has_aux
    )
    # The loss itself is not scaled: the factor could make it infinite.
    (scaled,) = pull_back(loss_scale.scale(jnp.ones_like(value)).astype(value.dtype))
    return ((value, *aux) if has_aux else value), scaled


class _Attempt(NamedTuple):
    """An attempt at a step, and the loss scale of the next one, should that be wanted."""

    scale: DynamicLossScale
    finite: Array
    result: list[Any]
    smaller: DynamicLossScale


def until_finite(
    attempt: Callable[[LossScale], tuple[Any, Array]], loss_scale: LossScale
) -> tuple[Any, LossScale, Array]:
    """Return the result of an attempt, the loss scale it used, and whether it was finite.

    `attempt` returns its result and whether that is finite. One attempt, except where the loss
    scale has `redo`: then attempts follow with a factor that backs off, until one is finite or the
    factor is at its floor. That is one loop, which compiles the attempt once. Events of the
    attempts before the last one are not in the result.
    """
    if not (isinstance(loss_scale, DynamicLossScale) and loss_scale.redo):
        result, finite = attempt(loss_scale)
        return result, loss_scale, finite
    first = cast("DynamicLossScale", narrowed(loss_scale))
    structure: Any
    shapes, structure = jax.tree.flatten(jax.eval_shape(attempt, first)[0])
    carried = [n for n, x in enumerate(shapes) if x.dtype != jax.dtypes.float0]

    def again(last: _Attempt) -> Array:
        smaller: Array = last.smaller.factor < last.scale.factor
        return ~last.finite & smaller

    def once_more(last: _Attempt) -> _Attempt:
        result, finite = attempt(last.smaller)
        leaves = jax.tree.leaves(result)
        smaller = replace(last.smaller.adjust(jnp.asarray(False)), skipped=first.skipped)
        return _Attempt(last.smaller, finite, [leaves[n] for n in carried], smaller)

    nothing = [jnp.zeros(shapes[n].shape, shapes[n].dtype) for n in carried]
    unused = replace(first, factor=jnp.float32(jnp.inf))
    start = _Attempt(unused, jnp.asarray(False), nothing, first)
    last = lax.while_loop(again, once_more, as_varying(once_more, start))
    leaves = [np.zeros(x.shape, x.dtype) for x in shapes]
    for n, leaf in zip(carried, last.result, strict=True):
        leaves[n] = leaf
    return structure.unflatten(leaves), last.scale, last.finite


def _check_loss(loss: Any) -> None:
    """Refuse what is no real floating-point scalar."""
    if not jax.tree_util.all_leaves([loss]):
        raise TypeError(f"loss_fn returned {shown(loss)}; allowed is a scalar")
    if jnp.shape(loss) != ():
        raise TypeError(f"loss_fn returned shape {jnp.shape(loss)}; allowed is a scalar")
    if not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
        raise TypeError(
            f"loss_fn returned dtype {jnp.result_type(loss)}; allowed are real floating-point numbers"
        )
