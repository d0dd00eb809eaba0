"""What goes wrong in other libraries' training, row by row of our survey, does not happen here.

Each test's name begins with the library; its docstring says what goes wrong there.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.training.recipes.accumulation import Measured, accumulate_gradients
from tests.training.conftest import assert_same_bits, single


def test_mpx_unscales_with_the_updated_scale() -> None:
    """mpx 0.1.8 adjusts the scale, then unscales: on growth steps value and gradient are half."""
    state = ps.DynamicLossScale(factor=1024.0, growth_interval=1)
    run = ps.value_and_grad(lambda w: jnp.sum(w * 3.0), "fp16_mixed", loss_scale=state)
    loss, gradient, after, finite = jax.jit(run)(jnp.ones(2))
    assert float(after.factor) == 2048.0
    assert (float(loss), gradient.tolist(), bool(finite)) == (6.0, [3.0, 3.0], True)


def test_mpx_casts_the_scale_to_fp16_under_bf16() -> None:
    """mpx 0.1.8's scale is fp16 also for bf16: the loss is promoted, a scale of 2**20 infinite."""
    seen = []

    def loss(w: Any) -> Any:
        value = jnp.sum(w * jnp.bfloat16(3))
        seen.append(value.dtype)
        return value

    state = ps.StaticLossScale(factor=2.0**20)
    run = ps.value_and_grad(loss, "bf16_mixed", loss_scale=state)
    value, gradient, _, finite = jax.jit(run)(jnp.ones(2, jnp.bfloat16))
    assert {str(dtype) for dtype in (*seen, value.dtype)} == {"bfloat16"}
    assert (gradient.tolist(), bool(finite)) == ([3, 3], True)


def test_jmp_loses_the_floor_of_the_scale_under_jit() -> None:
    """jmp 0.0.4 leaves `min_loss_scale` out when it flattens: 32 is 1 after one jit."""
    state = ps.DynamicLossScale(factor=64.0, min_factor=32.0)
    adjust = jax.jit(lambda s, ok: s.adjust(ok))
    for _ in range(3):
        state = adjust(state, False)
    assert float(state.factor) == float(state.min_factor) == 32.0


@pytest.mark.long
def test_jmp_clashes_with_a_scale_typed_fp16() -> None:
    """jmp's own example of an fp16 scale fails with a dtype error; 2**16 would be infinite."""
    state = ps.DynamicLossScale(factor=np.float16(2.0**15), growth_interval=1)
    run = jax.jit(lambda s, w: ps.value_and_grad(jnp.sum, "fp16", loss_scale=s)(w))
    factors, all_are_finite = [], []
    for _ in range(4):
        _, _, state, finite = run(state, jnp.ones(2, jnp.float16))
        factors.append(float(state.factor))
        all_are_finite.append(bool(finite))
        assert state.factor.dtype == np.float32
    # The loss is fp16, so that a factor of 2**16 overflows: skipped, backed off, never an error.
    assert factors == [2.0**16, 2.0**15, 2.0**16, 2.0**15]
    assert all_are_finite == [True, False, True, False]


def test_jax_rounds_the_gradient_of_a_cast_too() -> None:
    """grad of x.astype(float8).astype(float32) * 1e-3 is 0.00195, by reduce_precision it is 0."""
    gradient = jax.grad(lambda x: ps.round_to(x, "e4m3") * 1e-3)
    assert float(gradient(jnp.float32(1.1))) == np.float32(1e-3)


def test_jax_reduce_precision_flushes_fp16_subnormals() -> None:
    """lax.reduce_precision(x, 5, 10) makes 0 of all 1,023 positive subnormals of fp16."""
    subnormals = single(np.arange(1, 1024) * 2.0**-24)
    got = jax.jit(lambda x: ps.round_to(x, "fp16"))(subnormals)
    assert_same_bits(got, subnormals)


def test_jax_flushes_subnormals_on_cpus() -> None:
    """1e-40 + 0 is 0 on a CPU: bf16 weights below 2**-126, and their updates, are lost."""
    tiny = single([1e-40, 3 * 2.0**-133])
    got = jax.jit(lambda x: ps.add(x, jnp.zeros(2), "fp32"))(tiny)
    assert_same_bits(got, tiny)
    w = single(ps.round_to(tiny, "bf16"))
    new = jax.jit(lambda w: ps.apply_updates(w, w, rounding="bf16"))(w)
    assert_same_bits(new, ps.add(w, w, "bf16"))
    assert (np.asarray(new).view(np.uint32) != 0).all()


def test_xla_removes_a_cast_and_back_under_jit() -> None:
    """XLA may elide f32 -> bf16 -> f32: the value keeps bits that bf16 does not have."""
    x = single([1 + 2.0**-20, 3.14159])
    expected = ps.round_to(x, "bf16")
    assert_same_bits(jax.jit(lambda x: ps.round_to(x, "bf16"))(x), expected)
    there_and_back = lambda x: x.astype(jnp.bfloat16).astype(jnp.float32)
    assert_same_bits(jax.jit(ps.emulate(there_and_back, "fp32"))(x), expected)


@pytest.mark.parametrize("fmt", ["mxfp8_e4m3", "int8_symmetric_block32", "e4m3:scale=1x64"])
def test_torchao_makes_nan_of_rows_of_zeros(fmt: str) -> None:
    """An amax of 0 gave torchao's row-wise scaling a scale of 0 and a loss of NaN."""
    x = np.zeros((2, 64), np.float32)
    x[1] = np.linspace(-1, 1, 64)
    got = np.asarray(ps.round_to(x, fmt))
    assert not got[0].any()
    assert np.isfinite(got).all()


def test_marin_and_maxtext_drop_the_amax_of_all_microbatches_but_the_last() -> None:
    """Gradient accumulation kept the last amax only: the scale clips, "no error and no NaN"."""
    batch = single([[1.0], [8.0], [2.0], [0.5]])

    def run(part: Any, n: Any, passed_on: Any) -> Any:
        return Measured(jnp.sum(part), {"amax": jnp.abs(part).max()}), part[0]

    measured, gradient, _ = jax.jit(lambda x: accumulate_gradients(run, x, 4))(batch)
    assert float(measured.largest["amax"]) == 8
    assert (float(measured.summed), float(gradient[0])) == (11.5, 2.875)


@pytest.mark.long
def test_llmc_uses_one_seed_for_all_tensors() -> None:
    """llm.c's stochastic rounding gave tensors the same bits; others give each replica its own."""
    w, u = (jnp.full(256, x, jnp.float32) for x in (1.0, 2.0**-9))
    params, updates = {"a": w, "b": w}, {"a": u, "b": u}
    key = jax.random.key(3)
    step = jax.jit(
        lambda p, step: ps.apply_updates(p, updates, rounding="bf16:sr", key=key, step=step)
    )
    new = step(params, 0)
    assert 0.2 < np.mean(np.asarray(new["a"]) != np.asarray(new["b"])) < 0.6
    # Bits are a function of (seed, step, path, element): any replica has the same, eagerly too.
    again = ps.apply_updates(params, updates, rounding="bf16:sr", key=key, step=0)
    assert_same_bits(again["a"], new["a"])
    assert (np.asarray(step(params, 1)["a"]) != np.asarray(new["a"])).any()


def test_stochastic_rounding_makes_infinity_of_a_nan() -> None:
    """Adding random bits to 0x7F800001 and cutting the low ones off can make an infinity of it."""
    nans = np.array([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    for bits in (0, 1, 0xFFFF, 0xFFFFFFFF):
        random = np.full(4, bits, np.uint32)
        assert np.isnan(ps.round_to(nans, "bf16:sr", random_bits=random)).all()


@jax.custom_vjp
def with_own_rule(x: Any) -> Any:
    return x * 2.0


with_own_rule.defvjp(lambda x: (x * 2.0, None), lambda _, g: (g * 100.0,))


@pytest.mark.parametrize("order", ["emulated gradient", "gradient of the emulated"])
def test_scalify_drops_a_custom_vjp_rule(order: str) -> None:
    """scalify inlines a custom_vjp: the user's rule is gone, 44 instead of 4440, no error."""
    loss = lambda x: jnp.sum(with_own_rule(x) * 3.0)
    inside = order == "emulated gradient"
    run = ps.emulate(jax.grad(loss), "bf16") if inside else jax.grad(ps.emulate(loss, "bf16"))
    assert float(run(jnp.float32(1.5))) == 300.0


@pytest.mark.long
def test_pytorch_recomputes_with_other_roundings() -> None:
    """A recomputed forward pass that rounds otherwise than the saved one has led to NaN."""

    @jax.checkpoint
    def loss(w: Any) -> Any:
        y = w * w  # 2.25, rounded to 2 or to 2.5
        return jnp.sum(y * y), y

    emulated = ps.emulate(loss, "e=q9.1:sr,red=fp32", seed=1)
    (_, y), gradient = jax.jit(jax.value_and_grad(emulated, has_aux=True))(jnp.full(64, 1.5))
    assert 16 < (np.asarray(y) == 2).sum() < 48
    # 2 y times 2 w: the y that was computed again is the one that was returned.
    assert_same_bits(gradient, 6 * np.asarray(y))


@pytest.mark.long
def test_jax_reduces_gradients_before_it_widens_them() -> None:
    """Gradients in bf16 are summed in bf16 and only then cast: 1000 x 1e-3 is 0.5, not 1."""
    run = lambda part, n, passed_on: (Measured(()), part[0])
    rows = jnp.full((1000, 1), 1e-3, jnp.bfloat16)
    _, gradient, _ = jax.jit(lambda x: accumulate_gradients(run, x, 1000))(rows)
    assert gradient.dtype == np.float32
    assert abs(1000 * float(gradient[0]) / float(1000 * rows[0, 0].astype(jnp.float32)) - 1) < 1e-4
    unscaled = ps.StaticLossScale(factor=8.0).unscale({"w": rows})["w"]
    assert unscaled.dtype == np.float32
