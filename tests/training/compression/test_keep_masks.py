"""`keep_masks`: what was taken out stays 0 under every rounding; the rest has its own bits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import precsim as ps

any_keep: Any = ps.optax.keep_masks
RNG = np.random.default_rng(7)
W = jnp.asarray(RNG.normal(size=(4, 8)), jnp.bfloat16).astype(jnp.float32)
PARAMS: dict[str, Any] = {"w": W, "b": jnp.zeros(8), "n": jnp.int32(3)}
MASKS = ps.prune(PARAMS, 0.5)
STEPS = 3
INNER = {
    "stochastic": lambda: optax.chain(
        optax.sgd(0.1, momentum=0.9), ps.optax.round_params("bf16:sr")
    ),
    "kahan": lambda: optax.chain(optax.adamw(0.1), ps.optax.compensate_params("bf16")),
    "masters": lambda: ps.optax.master_params(optax.adam(0.1), "e4m3:saturate"),
}


def gradients(k: int) -> Any:
    noise = np.random.default_rng(k)
    return {
        "w": jnp.asarray(noise.normal(size=(4, 8)), jnp.float32),
        "b": jnp.asarray(noise.normal(size=8), jnp.float32),
        "n": jnp.int32(0),
    }


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("stochastic", "masters")]


@pytest.mark.long
@pytest.mark.parametrize("name", ["kahan", *SLOW])
def test_weights_that_are_out_stay_zero_and_others_have_their_bits(name: str) -> None:
    trained = {key: PARAMS[key] for key in ("w", "b")}
    masks = {key: MASKS[key] for key in trained}
    optimizer, plain = any_keep(INNER[name](), masks), INNER[name]()
    ours, theirs = trained, {key: jnp.where(masks[key], trained[key], 0) for key in trained}
    state, other = optimizer.init(ours), plain.init(theirs)
    for k in range(STEPS):
        given = {key: gradients(k)[key] for key in trained}
        updates, state = optimizer.update(given, state, ours)
        ours = optax.apply_updates(ours, updates)
        assert np.all(np.asarray(ours["w"])[~masks["w"]] == 0)
        given = jax.tree.map(lambda g, m: jnp.where(m, g, 0), given, masks)
        updates, other = plain.update(given, other, theirs)
        theirs = optax.apply_updates(theirs, updates)
        for key in trained:
            np.testing.assert_array_equal(ours[key], np.where(masks[key], theirs[key], 0))
    assert np.any(np.asarray(ours["w"]) != 0)


@pytest.mark.long
@pytest.mark.parametrize("rounding", ["bf16:sr", "e4m3:rtn:saturate"])
def test_updates_of_precsim_keep_them_too(rounding: str) -> None:
    optimizer = any_keep(optax.sgd(0.1), MASKS)
    params: Any = PARAMS | {"w": ps.round_to(W, rounding.partition(":")[0])}
    state = optimizer.init(params)
    lost = jax.tree.map(jnp.zeros_like, PARAMS)
    for k in range(STEPS):
        updates, state = optimizer.update(gradients(k), state, params)
        params, lost = ps.apply_updates(
            params, updates, rounding=rounding, key=jax.random.key(0), step=k, compensation=lost
        )
        assert np.all(np.asarray(params["w"])[~MASKS["w"]] == 0)
    assert int(params["n"]) == 3


def test_narrow_weights_and_jit() -> None:
    w = {"w": W.astype(jnp.bfloat16)}
    optimizer = any_keep(optax.sgd(0.5), {"w": MASKS["w"]})

    @jax.jit
    def step(w: Any, state: Any) -> Any:
        updates, state = optimizer.update({"w": jnp.ones((4, 8), jnp.bfloat16)}, state, w)
        return optax.apply_updates(w, updates)

    new = step(w, optimizer.init(w))["w"]
    assert new.dtype == jnp.bfloat16
    assert np.all(np.asarray(new, np.float32)[~MASKS["w"]] == 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: any_keep(optax.sgd(1.0), {"w": np.ones(3)}), "has dtype float64; allowed is bool"),
        (lambda: any_keep(optax.sgd(1.0), MASKS).init({"w": W}), "masks have structure"),
        (
            lambda: any_keep(optax.sgd(1.0), {"w": np.ones(3, bool)}).init({"w": W}),
            r"has shape \(3,\); allowed is that of params, \(4, 8\)",
        ),
        (lambda: any_keep(optax.sgd(1.0), MASKS).update(PARAMS, None), "params is None"),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["bf16_sr", "bf16_kahan"])
def test_masks_are_kept_in_a_training(policy: str) -> None:
    config: Any = ps.TrainConfig
    rng = np.random.default_rng(1)
    x = rng.normal(size=(16, 4)).astype(np.float32)
    weights = {"w": rng.normal(size=(4, 3)).astype(np.float32)}
    masks = ps.prune(weights, 0.5)
    result = ps.train(
        config(policy=policy, steps=3, batch_size=8),
        model=(weights, lambda params, x: x @ params["w"]),
        data=(x, x[:, :3]),
        loss="mse",
        optimizer=any_keep(optax.sgd(0.1, momentum=0.9), masks),
    )
    trained = result.weights["w"]
    assert np.all(trained[~masks["w"]] == 0)
    assert np.all(trained[masks["w"]] != weights["w"][masks["w"]])
