"""Stale gradients: weights by hand, what is skipped, one compilation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from precsim.training.recipes.stale_gradients import exchange, no_gradients
from tests.training.conftest import single

ADAM = optax.adam(0.1)


@jax.jit
def step(weights: Any, buffers: Any, stale: Any) -> Any:
    """One step of Adam on sum(w**2) / 2 with a late gradient."""
    gradient, is_there, stale = exchange(stale, weights, jnp.asarray(True))
    updates, after = ADAM.update(gradient, buffers)

    def keep(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda x, y: jnp.where(is_there, x, y), new, old)

    return keep(optax.apply_updates(weights, updates), weights), keep(after, buffers), stale


@pytest.mark.parametrize("delay", [1, 3])
def test_weights_are_those_of_a_loop_that_keeps_all_gradients(delay: int) -> None:
    """The first steps apply nothing, so that Adam's counter is that of the gradients applied."""
    weights = {"w": single([1, -2])}
    update = jax.jit(ADAM.update)
    got, buffers, stale = weights, ADAM.init(weights), no_gradients(weights, delay)
    expected, gradients, theirs = weights, [], ADAM.init(weights)
    for k in range(7):
        gradients.append(expected)
        if k >= delay:
            updates, theirs = update(gradients[k - delay], theirs)
            expected = optax.apply_updates(expected, updates)
        got, buffers, stale = step(got, buffers, stale)
        np.testing.assert_allclose(got["w"], expected["w"], rtol=1e-6)
        assert (k < delay) == (np.asarray(got["w"]) == weights["w"]).all()
    assert int(buffers[0].count) == 7 - delay


@pytest.mark.long
def test_what_is_not_usable_is_not_applied_when_its_turn_comes() -> None:
    state = no_gradients({"w": jnp.zeros(1), "n": jnp.arange(2)}, 2)
    found = []
    for k in range(6):
        gradient = {"w": jnp.full(1, np.inf if k == 1 else k), "n": jnp.arange(2)}
        old, is_there, state = exchange(state, gradient, jnp.asarray(k != 1))
        found.append((float(old["w"][0]), bool(is_there)))
        assert old["n"] is gradient["n"]
    assert found[2:] == [(0, True), (np.inf, False), (2, True), (3, True)]
