"""Adam, every operation of which is rounded to the recipe's format of weights."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps
from experiments.claims.training import (
    Apply,
    Digits,
    Params,
    Recipe,
    first_weights,
    gradient,
    mlp,
    orders,
    rounder,
    scores,
    splits,
)

RATE, BETAS, EPOCHS = 0.001, (0.9, 0.999), 15


def update(g: Any, m: Any, v: Any, powers: Any, epsilon: Any, spec: str) -> tuple[Any, Any, Any]:
    """Return the change of a weight before the learning rate, and both moments.

    `powers` are β1 and β2 to the number of the step, rounded.
    """

    def q(x: Any) -> Any:
        return x if spec == "fp32" else ps.round_to(x, spec)

    b1, b2, one = q(np.float32(BETAS[0])), q(np.float32(BETAS[1])), np.float32(1)
    m = q(q(b1 * m) + q(q(one - b1) * g))
    v = q(q(b2 * v) + q(q(one - b2) * q(g * g)))
    first, second = q(m / q(one - powers[0])), q(v / q(one - powers[1]))
    return (
        q(first / q((ps.sqrt(second, spec) if spec != "fp32" else jnp.sqrt(second)) + q(epsilon))),
        m,
        v,
    )


def first_step(g: float, spec: str) -> float:
    """Return the first change by a gradient, with an epsilon of 1e-8."""
    zero, gradient = np.float32(0), np.float32(g)
    powers = tuple(ps.round_to(np.float32(beta), spec) for beta in BETAS)
    with np.errstate(invalid="ignore"):
        return float(update(gradient, zero, zero, powers, np.float32(1e-8), spec)[0])


@partial(jax.jit, static_argnames=("recipe", "apply"))
def adam_run(
    data: Digits,
    weights: Params,
    order: Any,
    epsilon: Any,
    scale: Any,
    rate: Any,
    recipe: Recipe,
    apply: Apply,
) -> Any:
    """Return the weights of each seed after a training; `order` names the examples of each step."""
    spec = recipe.weights
    q = rounder(recipe.compute)

    def one(data: Digits, weights: Params, order: Any) -> Any:
        def step(state: Any, batch: Any) -> Any:
            w, m, v, powers = state
            g = gradient(apply, q, w, data.x[batch], data.y[batch], scale)
            betas = zip(powers, BETAS, strict=True)
            powers = tuple(ps.round_to(p * np.float32(beta), spec) for p, beta in betas)
            found = {k: update(g[k], m[k], v[k], powers, epsilon, spec) for k in w}
            by = ps.round_to(jnp.float32(rate), spec)
            new = {k: ps.round_to(w[k] - ps.round_to(by * found[k][0], spec), spec) for k in w}
            return (new, *({k: found[k][i] for k in w} for i in (1, 2)), powers), None

        start = jax.tree.map(lambda w: ps.round_to(w, spec), weights)
        zeros = jax.tree.map(jnp.zeros_like, start)
        state = (start, zeros, zeros, (jnp.float32(1), jnp.float32(1)))
        return jax.lax.scan(step, state, order)[0][0]

    return jax.vmap(one)(data, weights, order)


def train_adam(recipe: Recipe, seeds: int, epsilon: float) -> np.ndarray:
    """Return the accuracy in % of each of the first seeds on the test digits."""
    data, order = splits(seeds), orders(seeds, EPOCHS)
    start = first_weights(seeds)
    end = adam_run(data, start, order, epsilon, 1.0, RATE, recipe=recipe, apply=mlp)
    return np.asarray(scores(data, end, recipe.compute)[0])
