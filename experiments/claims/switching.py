"""Trainings whose format changes on the way, and trainings by late gradients."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.claims.training import (
    FP32,
    Digits,
    Params,
    Recipe,
    Run,
    first_weights,
    gradient,
    mlp,
    orders,
    pure,
    rounder,
    run_from,
    scores,
    splits,
)

RATE, EPOCHS, THRESHOLD = 0.01, 60, 0.5


def by_threshold(seeds: int) -> dict[str, Run]:
    """Return float32, pure bf16, and float32 until the training loss is below the threshold."""
    data, order = splits(seeds), orders(seeds, EPOCHS)
    narrow = pure("bf16")
    train = partial(run_from, data=data, rate=RATE)
    known = data._replace(test_x=data.x, test_y=data.y)
    weights = first_weights(seeds)
    is_late = np.zeros(seeds, bool)
    for epoch in np.split(order, EPOCHS, axis=1):
        is_late |= np.asarray(scores(known, weights, "fp32")[1]) < THRESHOLD
        wide, low = (train(recipe, start=weights, order=epoch).weights for recipe in (FP32, narrow))
        weights = {
            name: np.where(is_late.reshape(-1, *[1] * (w.ndim - 1)), low[name], w)
            for name, w in wide.items()
        }
    accuracy, loss, on_known = map(np.asarray, scores(data, weights, "fp32"))
    rule = Run(accuracy, loss, on_known, np.zeros(seeds), weights)
    start = first_weights(seeds)
    whole = {"float32": FP32, "bf16": narrow}
    found = {name: train(r, start=start, order=order) for name, r in whole.items()}
    return found | {"rule": rule}


@partial(jax.jit, static_argnames=("recipe", "longest"))
def _delayed(
    data: Digits, weights: Params, order: Any, delay: Any, recipe: Recipe, longest: int
) -> Any:
    def one(data: Digits, weights: Params, order: Any) -> Any:
        q = rounder(recipe.compute)

        def step(past: Params, numbered: Any) -> tuple[Params, None]:
            k, batch = numbered
            now = jax.tree.map(lambda p: p[k % longest], past)
            then = jax.tree.map(lambda p: p[jnp.maximum(k - delay, 0) % longest], past)
            g = gradient(mlp, q, then, data.x[batch], data.y[batch], 1.0)
            new = jax.tree.map(lambda w, g: w - 0.1 * g, now, g)
            return jax.tree.map(lambda p, w: p.at[(k + 1) % longest].set(w), past, new), None

        past = jax.tree.map(lambda w: jnp.broadcast_to(w, (longest, *w.shape)), weights)
        end = jax.lax.scan(step, past, (jnp.arange(len(order)), order))[0]
        return jax.tree.map(lambda p: p[len(order) % longest], end)

    return jax.vmap(one)(data, weights, order)


def delayed(recipe: Recipe, delay: int, seeds: int) -> np.ndarray:
    """Return the accuracy of trainings at rate 0.1 by gradients some steps late, at most 64."""
    data, order = splits(seeds), orders(seeds, 20)
    end = _delayed(data, first_weights(seeds), order, delay, recipe, 65)
    return np.asarray(scores(data, end, recipe.compute)[0])
