"""Loss scaling around optax's optimizers: which scale is used, and what a skipped step leaves."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import precsim as ps
from precsim.training.data.dataset import Problem
from precsim.training.step import initial_state, make_step
from precsim.training.watched import UNGUARDED
from tests.training.conftest import assert_same_bits, layered, single
from tests.training.test_loop import OneLayer

OVERFLOWS = f"scale=dynamic@{2.0**126}"
W, G = single([3, 4]), single([0.6, 0.8])


def scaled(state: Any, gradient: Any = G) -> Any:
    """Return the gradient of a scaled loss whose own gradient is given."""
    return jax.grad(lambda w: ps.optax.scale_loss(jnp.sum(w * gradient), state))(jnp.asarray(W))


@pytest.mark.long
def test_unscales_with_the_scale_that_was_used() -> None:
    """Defect of mpx 0.1.8: on steps that grow, value and gradient came back halved."""
    scale = ps.DynamicLossScale(factor=1024.0, growth_interval=1)
    optimizer = ps.optax.apply_unscaled(optax.sgd(1.0), scale)
    state = optimizer.init(W)
    for factor in (2048, 4096):
        updates, state = optimizer.update(scaled(state), state, W)
        assert_same_bits(updates, -G)
        assert float(ps.optax.get_loss_scale(state).factor) == factor


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_the_loss_keeps_its_dtype(dtype: Any) -> None:
    """Defect of mpx 0.1.8: a factor in float16 made a bfloat16 loss float32."""
    scale = ps.StaticLossScale(factor=256.0)
    loss = lambda w: ps.optax.scale_loss(jnp.sum(w * w), scale)
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(W, dtype))
    assert value.dtype == gradient.dtype == dtype
    assert (float(value), gradient.tolist()) == (25, [1536, 2048])


def test_bounds_of_the_scale_survive_jit_in_the_state_of_an_optimizer() -> None:
    """Defect of jmp 0.0.4: the smallest scale, 32, was 1 after one compiled step."""
    scale = ps.DynamicLossScale(factor=64.0, min_factor=32.0, max_factor=128.0, growth_interval=1)
    optimizer = optax.chain(ps.optax.apply_unscaled(optax.sgd(1.0), scale))
    update = jax.jit(optimizer.update)
    state = optimizer.init(W)
    for gradient, factor, skipped in (
        *[(np.inf, 32, 1), (np.nan, 32, 2), (np.inf, 32, 3)],
        *[(1, 64, 3), (1, 128, 3), (1, 128, 3)],
    ):
        _, state = update(single([1, gradient]), state, W)
        found: Any = ps.optax.get_loss_scale(state)
        assert (float(found.factor), int(found.skipped)) == (factor, skipped)
        assert (float(found.min_factor), float(found.max_factor)) == (32, 128)


def test_a_float16_loss_with_a_factor_beyond_float16_backs_off() -> None:
    """Defect of jmp (issue 47): a factor of 2**16 in float16 is infinite; one step is skipped."""
    optimizer = ps.optax.apply_unscaled(optax.sgd(1.0), "dynamic@65536")
    w = jnp.ones(2, jnp.float16)
    state = optimizer.init(w)
    seen = []
    for _ in range(2):
        loss = lambda w, state=state: ps.optax.scale_loss(jnp.sum(w) * 0.5, state)
        value, gradient = jax.value_and_grad(loss)(w)
        updates, state = optimizer.update(gradient, state, w)
        seen.append((float(value), updates.tolist(), bool(state.is_finite)))
    assert seen == [(1, [0, 0], False), (1, [-0.5, -0.5], True)]


def test_clipping_sees_the_unscaled_gradient() -> None:
    clipped = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(1.0))
    optimizer = ps.optax.apply_unscaled(clipped, 1024)
    state = optimizer.init(W)
    updates, _ = optimizer.update(scaled(state), state, W)
    expected, _ = clipped.update(G, clipped.init(W), W)
    assert_same_bits(updates, expected)
    assert abs(float(np.hypot(*updates)) - 0.5) < 1e-6


@pytest.mark.long
@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float32, marks=pytest.mark.slow)])
def test_a_skipped_step_leaves_everything_and_types_stay(dtype: Any) -> None:
    """Adam's moments and count, and the noise of stochastic updates; under scan, as a carry."""
    inner = optax.chain(optax.adamw(0.1), ps.optax.round_params("bf16:sr"))
    optimizer = ps.optax.apply_unscaled(inner, 8.0)
    gradients = jnp.asarray([[8, 16], [np.inf, 8], [16, -8]], dtype)

    def step(carry: Any, gradient: Any) -> Any:
        w, state = carry
        updates, state = optimizer.update(gradient, state, w)
        return (optax.apply_updates(w, updates), state), None

    start = jnp.asarray(W, dtype), optimizer.init(jnp.asarray(W, dtype))
    run = jax.jit(lambda start, gradients: jax.lax.scan(step, start, gradients)[0])
    w, state = run(start, gradients)
    expected, finite = run(start, gradients[jnp.array([0, 2])])
    assert_same_bits(w.astype(jnp.float32), expected.astype(jnp.float32))
    for x, y in zip(
        jax.tree.leaves(state.inner_state), jax.tree.leaves(finite.inner_state), strict=True
    ):
        assert_same_bits(x, y)
    assert (int(state.loss_scale.skipped), int(finite.loss_scale.skipped)) == (1, 0)


@pytest.mark.long
def test_multi_steps_inside_leaves_out_one_gradient_and_around_has_the_same_bits() -> None:
    """Around, a NaN would stay in optax's sum (optax issue 828); inside, each is looked at."""
    clipped = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.125))
    inside = ps.optax.apply_unscaled(optax.MultiSteps(clipped, 2), "dynamic@8")
    around = optax.MultiSteps(ps.optax.apply_unscaled(clipped, "dynamic@8"), 2)

    def after(optimizer: Any, gradients: Any) -> Any:
        state, updates = optimizer.init(W), jnp.zeros(2)
        step = jax.jit(optimizer.update)
        for gradient in gradients:
            # Those of `gradient` are unscaled; a state that backs off has another scale.
            updates, state = step(scaled(state, single(gradient)), state, W)
        return updates, state

    finite = [[1, 2], [3, -4]]
    expected, state = after(inside, finite)
    assert_same_bits(after(around, finite)[0], expected)
    assert (np.asarray(expected) != 0).all()
    got, state = after(inside, [finite[0], [np.inf, 1], finite[1]])
    assert_same_bits(got, expected)
    assert (float(state.loss_scale.factor), int(state.loss_scale.skipped)) == (4, 1)


def test_extra_arguments_reach_the_optimizer() -> None:
    optimizer = optax.chain(ps.optax.apply_unscaled(optax.polyak_sgd(1.0), 8.0))
    state = optimizer.init(W)
    updates, _ = optimizer.update(scaled(state), state, W, value=jnp.float32(2.0))
    polyak = optax.polyak_sgd(1.0)
    expected, _ = polyak.update(jnp.asarray(G), polyak.init(W), W, value=jnp.float32(2.0))
    assert_same_bits(updates, expected)


def test_without_a_scale_no_step_is_skipped() -> None:
    optimizer = ps.optax.apply_unscaled(optax.sgd(1.0), "none")
    updates, state = optimizer.update(single([np.inf, 1]), optimizer.init(W), W)
    assert updates.tolist() == [-np.inf, -1]
    assert not bool(state.is_finite)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: ps.optax.get_loss_scale(optax.adam(1.0).init(W)), "state has 0 loss scales"),
        (lambda: scaled((ps.NoLossScale(), ps.NoLossScale())), "state has 2 loss scales"),
        (lambda: ps.optax.apply_unscaled(optax.sgd(1.0), "dynamik"), "loss scale is 'dynamik'"),
        (lambda: ps.optax.apply_unscaled(optax.sgd(1.0), 0), "loss scale is 0; allowed are"),
    ],
)
def test_refusals_take_one_line(run: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        run()
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "optimizer", "rule"),
    [
        (
            OVERFLOWS,
            "sgd",
            optax.chain(optax.sgd(0.1), ps.optax.round_params("bf16")),
        ),
        (
            f"update=kahan,{OVERFLOWS}",
            "sgd",
            optax.chain(optax.sgd(0.1), ps.optax.compensate_params("bf16")),
        ),
        (
            "update=bf16:sr,opt=bf16:sr,scale=dynamic@1024",
            "momentum",
            optax.chain(
                ps.optax.round_states(optax.sgd(0.1, momentum=0.9), "bf16:sr", key=7),
                ps.optax.round_params("bf16:sr", key=7),
            ),
        ),
    ],
    ids=["nearest", "kahan", "stochastic"],
)
def test_steps_are_those_of_train(settings: str, optimizer: Any, rule: Any) -> None:
    """With the gradients of `ps.train`, bit for bit.

    (The noise of `ps.train` counts skipped steps too, that of an optimizer's state does not.)
    """
    policy = ps.Policy.parse(f"p=bf16,{settings}")
    config = ps.TrainConfig(policy=policy, optimizer=optimizer, learning_rate=0.1, seed=7)
    model = OneLayer()
    state = initial_state(
        layered(config), model.init(np.random.default_rng(0), Problem((2, 2, 1), "float32", (), 3))
    )
    step = jax.jit(make_step(layered(config, model), f"auto{UNGUARDED}"))
    ours = ps.optax.apply_unscaled(rule, policy.loss_scale)
    params = jax.tree.map(lambda w: w.astype(jnp.bfloat16), state.params)
    found, update = ours.init(params), jax.jit(ours.update)
    x = single(np.random.default_rng(1).random((2, 2, 2, 1)) * 16)
    for _ in range(5):
        state, metrics = step(state, x, np.zeros(2, np.int32))
        gradient = jax.tree.map(lambda g, m=metrics: g * m.factor, metrics.gradient)
        updates, found = update(gradient, found, params)
        params = optax.apply_updates(params, updates)
        assert bool(found.is_finite) == bool(metrics.finite)
        for name, w in state.params.items():
            assert_same_bits(params[name].astype(jnp.float32), w, name)
    skipped = state.loss_scale.skipped  # type: ignore[union-attr]
    assert (int(skipped) > 0) == (OVERFLOWS in settings)


def test_an_optimizer_cannot_repeat_a_step() -> None:
    with pytest.raises(ValueError, match="loss_scale has redo; allowed is one without"):
        ps.optax.apply_unscaled(optax.sgd(0.1), "dynamic[redo]")
