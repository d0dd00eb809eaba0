"""JAX's global switches change no bit of a training, and break none."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.training.functions import portable
from precsim.training.recipes.optimizers import portable_adamw
from tests.training.conftest import assert_same_bits, single
from tests.training.test_loop import one_layer


@contextmanager
def all_switches() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(jax.enable_x64(True))
        stack.enter_context(jax.numpy_rank_promotion("raise"))
        stack.enter_context(jax.numpy_dtype_promotion("strict"))
        yield


@pytest.mark.slow  # `.ci/run` trains under each switch
def test_a_training_has_the_same_bits_under_all_switches() -> None:
    """Defects: zeros of the default dtype, and optax, which computes in float64 if it may."""
    config = ps.TrainConfig(
        policy="bf16,scale=dynamic,opt=bf16:sr",
        optimizer="adam",
        steps=2,
        batch_size=2,
        snapshots=1,
    )

    def trained() -> tuple[ps.TrainResult, dict[str, str]]:
        log = ps.replay.BitLog(every=2)
        with one_layer():
            result = ps.train(config, on_state=log)
        return result, log.hashes[2]

    plain, hashes = trained()
    with all_switches():
        switched, hashes_switched = trained()
    assert_same_bits(switched.losses, plain.losses)
    assert switched.test_accuracy == plain.test_accuracy
    assert hashes_switched == hashes
    for place, events in plain.backward_events.items():
        assert_same_bits(switched.backward_events[place], events, place)


@pytest.mark.slow
def test_recipes_and_portable_functions_have_the_same_bits_under_all_switches() -> None:
    optimizer = portable_adamw(0.125)
    rng = np.random.default_rng(0)
    x = single(rng.standard_normal((3, 4)))
    params = {name: single(rng.standard_normal(4)) for name in ("gain", "bias", "shift")}
    params["table"] = single(rng.standard_normal((5, 4)))
    labels, tokens = np.array([0, 3, 1], np.int32), np.array([2, 4, 2], np.int32)

    def loss(params: Any) -> Any:
        y = portable.add(portable.embed(params["table"], tokens), x)
        y = portable.add(portable.layer_norm(y, params["gain"], params["bias"]), params["shift"])
        return portable.cross_entropy(portable.softmax(portable.gelu(y)), labels)

    def step(params: Any, scale: Any) -> Any:
        found = ps.value_and_grad(loss, "fp32", loss_scale=scale)
        value, gradient, scale, finite = found(params)
        updates, state = optimizer.update(gradient, optimizer.init(params), params)
        options: dict[str, Any] = {"rounding": "bf16:sr", "key": jax.random.key(0), "step": 1}
        new = ps.apply_updates(params, updates, **options)
        return value, gradient, scale.factor, finite, state, new

    scale = ps.DynamicLossScale(factor=jnp.float32(8))
    plain = jax.jit(step)(params, scale)
    with all_switches():
        switched = jax.jit(step)(params, scale)
    for got, expected in zip(*map(jax.tree.leaves, (switched, plain)), strict=True):
        assert_same_bits(got, expected)
