"""The score of trained weights on the examples for testing."""

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from precsim.training.gradients import run_program
from precsim.training.layers import Layers
from precsim.training.losses import checked_score, metric_named
from precsim.training.network import Network
from precsim.training.parallel.devices import on_each
from precsim.training.setup import Layered, Setup
from precsim.training.switches import with_default_switches
from precsim.transform.noise import fold_in

_ROWS = 256
"""Examples that a network computes at once."""


def test_score(
    data: Any, setup: Setup, state: Any, backend: str, rows: int | None
) -> tuple[float, int]:
    """Return the score by the policy's own forward pass, and the untrusted products.

    `rows` is the number of examples that count, the first ones; None for all.
    """
    inputs, targets = data.test_inputs, data.test_targets
    if targets is None or not len(targets):
        return float("nan"), 0
    inputs, targets = jax.tree.map(lambda x: x[:rows], (inputs, targets))
    config, metric = setup.config, metric_named(setup.metric)
    key = fold_in(jax.random.key(config.seed), config.steps)
    run = _predictor(setup.without_schedule(), backend)
    if isinstance(setup.model, Layered):
        outputs, untrusted = run(state.params, inputs, key)
    else:
        outputs, untrusted = _in_parts(run, state, inputs, key, len(targets)), 0
    score = checked_score(metric(jax.tree.map(np.asarray, outputs), np.asarray(targets)))
    return score, int(untrusted)


test_score.__test__ = False  # type: ignore[attr-defined]  # for pytest


def check_metric(data: Any, setup: Setup, state: Any, backend: str) -> None:
    """Let a metric of one's own fail before the first step, and not after the last one.

    Of a network the examples that it computes at once are enough, unless the metric wants more.
    """
    if not isinstance(setup.model, Layered):
        with suppress(Exception):
            test_score(data, setup, state, backend, _ROWS)
            return
    test_score(data, setup, state, backend, None)


def _in_parts(run: Callable[..., Any], state: Any, inputs: Any, key: Any, count: int) -> Any:
    """Return the outputs of all examples, of some at a time; the last ones are filled up."""
    rows = min(count, _ROWS)
    parts = []
    for first in range(0, count, rows):
        chosen = np.minimum(np.arange(first, first + rows), count - 1)
        part = jax.tree.map(lambda x, chosen=chosen: np.asarray(x)[chosen], inputs)
        outputs = run(state.params, state.model_state, part, key)
        parts.append(jax.tree.map(np.asarray, outputs))
    return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)


@lru_cache(maxsize=64)
def _predictor(setup: Setup, backend: str) -> Callable[..., Any]:
    """Return the compiled forward pass."""
    model, policy = setup.model, setup.config.policy
    if isinstance(model, Layered):

        @with_default_switches
        def predict(params: Any, inputs: Any, key: Any) -> tuple[Any, Any]:
            layers = Layers(policy=policy, backend=backend, key=key)
            outputs = model.module.apply(params, inputs, layers)
            return outputs, sum(watched.untrusted for watched in layers.events.values())

        return on_each(setup.mesh, predict)
    return _of_network(model, setup, backend)


def _of_network(network: Network, setup: Setup, backend: str) -> Callable[..., Any]:
    policy = setup.config.policy

    @with_default_switches
    def predict(params: Any, state: Any, inputs: Any, key: Any) -> Any:
        def program(params: Any, state: Any, inputs: Any, key: Any) -> Any:
            return network.apply(params, state, inputs, key, False)[0]

        return run_program(program, (params, state, inputs, key), policy, backend, key, None)

    return on_each(setup.mesh, predict)
