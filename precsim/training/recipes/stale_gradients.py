"""Stale gradients, as asynchronous training applies them: each a stated number of steps late."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from precsim._arrays import Array
from precsim.training.recipes.leaves import is_trained


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True, kw_only=True)
class StaleGradients:
    """The gradients that have been computed and not yet been applied; a pytree.

    Parameters
    ----------
    waiting : pytree of arrays, shape (delay, ...) each
        Gradients of the last steps, a ring: that of step t is at ``t % delay``.
    is_there : jax.Array of bool, shape (delay,)
        Whether there is one to apply: none at first, and none where it was not finite.
    step : jax.Array
        Steps so far, an int32.
    """

    waiting: Any
    is_there: Array
    step: Array


def no_gradients(params: Any, delay: int) -> StaleGradients:
    """Return the state before the first step, for gradients like these weights."""
    zeros = lambda x: jnp.zeros((delay, *jnp.shape(x)), jnp.float32) if is_trained(x) else None
    return StaleGradients(
        waiting=jax.tree.map(zeros, params),
        is_there=jnp.zeros(delay, bool),
        step=jnp.int32(0),
    )


def exchange(
    state: StaleGradients, gradient: Any, is_usable: Array
) -> tuple[Any, Array, StaleGradients]:
    """Put a gradient in, and take out the one of `delay` steps before.

    Parameters
    ----------
    state : StaleGradients
        Those that wait.
    gradient : pytree of float32 arrays
        That of this step, unscaled and clipped; leaves that are not trained pass through.
    is_usable : jax.Array of bool
        Whether it may be applied later: with a loss scale, whether it is finite.

    Returns
    -------
    tuple
        (gradient, is_there, next state): the gradient with respect to the weights of `delay` steps
        before, and whether there is one. Where there is none, in the first `delay` steps and
        `delay` steps after a skipped one, nothing is to be applied: weights, the optimizer's state
        and its counters stay as they are.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from precsim.training.recipes.stale_gradients import exchange, no_gradients
    >>> state, found = no_gradients({"w": jnp.zeros(1)}, delay=2), []
    >>> for k in range(1, 5):
    ...     old, is_there, state = exchange(state, {"w": jnp.full(1, 1.0 * k)}, jnp.asarray(True))
    ...     found.append((float(old["w"][0]), bool(is_there)))
    >>> found
    [(0.0, False), (0.0, False), (1.0, True), (2.0, True)]
    """
    delay = state.is_there.shape[0]
    place = state.step % delay
    old = jax.tree.map(lambda g, w: g if w is None else w[place], gradient, state.waiting)
    put = lambda g, w: None if w is None else w.at[place].set(g)
    waiting = jax.tree.map(put, gradient, state.waiting)
    is_there = jnp.asarray(state.is_there)
    later = is_there.at[place].set(is_usable)
    return (
        old,
        is_there[place],
        StaleGradients(waiting=waiting, is_there=later, step=state.step + 1),
    )
