"""A pole on a cart, balanced by a policy that is learnt from its own episodes (REINFORCE).

The equations are those of Barto, Sutton and Anderson, 1983, in float32; the network, the gradient
and the update have the recipe's formats.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps
from experiments.claims.training import Params, Recipe, Round, rounder, stacked

CARTS, LONGEST, UPDATES = 32, 100, 120


def moved(state: Any, push: Any) -> Any:
    """Return place, speed, angle and its speed after 0.02 s; `push` is 1 or -1."""
    x, v, angle, turn = state
    force = (10 * push + 0.05 * turn**2 * jnp.sin(angle)) / 1.1
    falling = (9.8 * jnp.sin(angle) - jnp.cos(angle) * force) / (
        0.5 * (4 / 3 - 0.1 * jnp.cos(angle) ** 2 / 1.1)
    )
    speeding = force - 0.05 * falling * jnp.cos(angle) / 1.1
    return x + 0.02 * v, v + 0.02 * speeding, angle + 0.02 * turn, turn + 0.02 * falling


def preference(q: Round, w: Params, seen: Any) -> Any:
    """Return the logit of pushing to the right."""
    return q(q(jnp.tanh(q(q(seen) @ w["w1"]))) @ w["w2"])[..., 0]


def episode(q: Round, w: Params, key: Any) -> Any:
    """Return what carts saw, their pushes, and whether they still stood, for each time."""
    first, later = jax.random.split(key)
    start = tuple(jax.random.uniform(first, (4, CARTS), minval=-0.05, maxval=0.05))

    def step(carried: Any, key: Any) -> Any:
        state, stands = carried
        seen = jnp.stack(state, -1)
        p = jax.nn.sigmoid(preference(q, w, seen))
        push = jnp.where(jax.random.uniform(key, (CARTS,)) < p, 1.0, -1.0)
        state = moved(state, push)
        still = stands & (abs(state[0]) < 2.4) & (abs(state[2]) < 0.2095)
        return (state, still), (seen, push, stands)

    begin = (start, jnp.ones(CARTS, bool))
    return jax.lax.scan(step, begin, jax.random.split(later, LONGEST))[1]


@partial(jax.jit, static_argnames="recipe")
def _learnt(weights: Params, keys: Any, scale: Any, recipe: Recipe) -> Any:
    q = rounder(recipe.compute)

    def update(w: Params, key: Any) -> Any:
        narrow = jax.tree.map(q, w)
        seen, push, stands = episode(q, narrow, key)
        rewards = stands.astype(jnp.float32)
        to_come = jnp.cumsum(rewards[::-1], axis=0)[::-1] * rewards
        base = to_come.sum(1, keepdims=True) / jnp.maximum(rewards.sum(1, keepdims=True), 1)
        advantage = (to_come - base) * rewards / LONGEST

        def loss(w: Params) -> Any:
            logit = preference(q, jax.tree.map(q, w), seen)
            return -scale * jnp.sum(advantage * jax.nn.log_sigmoid(push * logit)) / CARTS

        g = jax.tree.map(lambda g: g / scale, jax.grad(loss)(w))
        change = jax.tree.map(lambda g: ps.round_to(-0.05 * g, recipe.change), g)
        return ps.apply_updates(w, change, rounding=recipe.weights), rewards.sum(0).mean()

    return jax.vmap(lambda w, k: jax.lax.scan(update, w, k)[1])(weights, keys)


def lengths(recipe: Recipe, seeds: int, scale: float = 1.0) -> np.ndarray:
    """Return how many of 100 steps a pole stands, in the mean of the last 20 updates, by seed."""
    weights = stacked([first(seed) for seed in range(seeds)])
    keys = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed), UPDATES))(jnp.arange(seeds))
    path = np.asarray(_learnt(weights, keys, scale, recipe))
    return np.asarray(path[:, -20:].mean(1))


def first(seed: int) -> Params:
    """Return the first weights of 4-16-1."""
    rng = np.random.default_rng([seed, 8])
    w1, w2 = rng.normal(0, 0.5, (4, 16)), rng.normal(0, 0.1, (16, 1))
    return {"w1": w1.astype(np.float32), "w2": w2.astype(np.float32)}
