"""Loss scales: the state machine, what survives a transformation; powers of two lose nothing."""

from dataclasses import fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.training.recipes.loss_scaling import LossScale, all_finite, as_loss_scale
from tests.training.conftest import assert_same_bits, single


def as_floats(state: LossScale) -> dict[str, float]:
    return {field.name: float(getattr(state, field.name)) for field in fields(state)}


def test_overflow_halves_and_skips() -> None:
    state = ps.DynamicLossScale(factor=2.0**16, finite_steps=7).adjust(jnp.asarray(False))
    changed = {"factor": 2.0**15, "finite_steps": 0, "skipped": 1}
    assert as_floats(state) == as_floats(ps.DynamicLossScale()) | changed


def test_grows_after_the_interval_and_starts_to_count_again() -> None:
    state = ps.DynamicLossScale(factor=8.0, growth_interval=3)
    seen = []
    for is_finite in (True, True, True, True, True, False, True, True, True):
        state = state.adjust(jnp.asarray(is_finite))
        seen.append((float(state.factor), int(state.finite_steps), int(state.skipped)))
    assert seen == [
        *[(8, 1, 0), (8, 2, 0), (16, 0, 0), (16, 1, 0), (16, 2, 0)],
        *[(8, 0, 1), (8, 1, 1), (8, 2, 1), (16, 0, 1)],
    ]


def test_floor_and_ceiling() -> None:
    low = ps.DynamicLossScale(factor=4.0, min_factor=2.0)
    high = ps.DynamicLossScale(factor=4.0, max_factor=8.0, growth_interval=1)
    for _ in range(4):
        low, high = low.adjust(jnp.asarray(False)), high.adjust(jnp.asarray(True))
    assert (float(low.factor), int(low.skipped)) == (2.0, 4)
    assert (float(high.factor), int(high.skipped)) == (8.0, 0)


def test_static_scale_counts_what_it_skips() -> None:
    state = ps.StaticLossScale(factor=1000.0)
    for is_finite in (True, False, False):
        state = state.adjust(jnp.asarray(is_finite))
    assert as_floats(state) == {"factor": 1000.0, "skipped": 2}


def test_no_scale_changes_nothing() -> None:
    tree = {"w": object()}
    state = ps.NoLossScale()
    assert state.scale(tree) is state.unscale(tree) is tree
    assert state.adjust(jnp.asarray(False)) is state
    assert state.factor == 1.0


@pytest.mark.parametrize(
    "state",
    [
        ps.NoLossScale(),
        ps.StaticLossScale(factor=32.0, skipped=5),
        ps.DynamicLossScale(
            factor=32.0,
            growth_interval=11,
            growth_factor=4.0,
            backoff_factor=0.25,
            min_factor=16.0,
            max_factor=64.0,
            finite_steps=3,
            skipped=2,
            redo=True,
        ),
    ],
)
def test_every_field_survives_jit_and_tree_map(state: LossScale) -> None:
    """jmp 0.0.4 lost `min_loss_scale` when a state was flattened: 32 became 1 after one jit."""
    expected = as_floats(state)
    assert as_floats(jax.tree.map(lambda x: x, state)) == expected
    leaves, structure = jax.tree.flatten(state)
    is_static = [field.name for field in fields(state) if field.metadata.get("static")]
    assert is_static == (["redo"] if isinstance(state, ps.DynamicLossScale) else [])
    assert len(leaves) == len(expected) - len(is_static)
    assert as_floats(jax.tree.unflatten(structure, leaves)) == expected
    assert as_floats(jax.jit(lambda s: s)(state)) == expected


def test_no_compilation_after_the_first_adjustment() -> None:
    traces = []

    @jax.jit
    def adjust(state: ps.DynamicLossScale, ok: Any) -> ps.DynamicLossScale:
        traces.append(1)
        return state.adjust(ok)

    state = ps.DynamicLossScale()
    for _ in range(4):
        state = adjust(state, jnp.asarray(True))
    assert len(traces) <= 2  # numbers of Python at first, arrays from then on


@pytest.mark.long
def test_value_and_grad_with_aux_and_arguments() -> None:
    def loss(params: Any, x: Any) -> tuple[Any, Any]:
        return jnp.sum(params["w"] * x), {"doubled": 2 * x}

    run = ps.value_and_grad(loss, "fp16_mixed", has_aux=True)
    (value, aux), grads, state, finite = run({"w": jnp.ones(2)}, jnp.float32([1.0, 2.0]))
    assert float(value) == 3.0
    assert aux["doubled"].tolist() == [2.0, 4.0]
    assert grads["w"].tolist() == [1.0, 2.0]
    assert float(state.factor) == 2.0**15
    assert bool(finite)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_one_element_that_is_not_finite_is_found(value: float) -> None:
    tree = {"a": jnp.zeros(3), "b": [jnp.zeros((2, 2)).at[1, 0].set(value)]}
    assert not bool(all_finite(tree))
    assert not bool(jax.jit(all_finite)(tree))
    assert bool(all_finite({"a": tree["a"]}))
    assert bool(all_finite({}))


def test_loss_scales_of_policies() -> None:
    assert as_loss_scale("none") == ps.NoLossScale()
    assert as_loss_scale("dynamic") == ps.DynamicLossScale()
    assert as_loss_scale("1024") == ps.StaticLossScale(factor=1024.0)


OPTIONS = "dynamic@64[interval=3,growth=4,backoff=0.25,min=2,max=512,redo]"


def test_options_of_a_dynamic_scale_are_part_of_the_policy_string() -> None:
    """jmp and mpx have them as arguments of a class only: a run's string does not say them."""
    expected = ps.DynamicLossScale(
        factor=64.0,
        growth_interval=3,
        growth_factor=4.0,
        backoff_factor=0.25,
        min_factor=2.0,
        max_factor=512.0,
        redo=True,
    )
    assert as_loss_scale(OPTIONS) == expected
    policy = ps.Policy.parse(f"fp16_mixed,scale={OPTIONS},update=bf16:sr;layer1:e=bf16,o=fp32")
    assert policy.loss_scale == OPTIONS
    for again in (ps.Policy.parse(str(policy)), ps.Policy.from_toml(policy.to_toml())):
        assert again == policy
        assert as_loss_scale(again.loss_scale) == expected
    assert as_loss_scale("dynamic[redo]") == ps.DynamicLossScale(redo=True)
    assert as_loss_scale("dynamic[min=0.5]") == ps.DynamicLossScale(min_factor=0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "dynamic[intervall=2]",
            "unknown option of the loss scale 'intervall'; did you mean 'interval'",
        ),
        (
            "dynamic[interval=1.5]",
            "interval of the loss scale is '1.5'; allowed are integers from 1",
        ),
        ("dynamic[growth=1]", "growth of the loss scale is '1'; allowed are numbers above 1"),
        ("dynamic[backoff=2]", "backoff of the loss scale is '2'; allowed are numbers between 0"),
        ("dynamic[min=0]", "min of the loss scale is '0'; allowed are numbers from 2"),
        ("dynamic[max=1e300]", "max of the loss scale is '1e300'; allowed are numbers from 2"),
        ("dynamic[min=4,max=2]", "loss scale has 'min=4,max=2'; allowed is a min up to its max"),
        ("dynamic[min=33554432]", "allowed is a min up to its max"),
        ("dynamic@0.25[max=0.5]", "allowed is a min up to its max"),
        ("dynamic@8[min=16]", r"'dynamic@8\[min=16\]' and starts at 8; allowed is a start from"),
        ("dynamic@8[min=2,max=4]", "starts at 8; allowed is a start from its min to its max"),
        ("dynamic[max=16384]", "starts at 32768; allowed is a start from its min to its max"),
        ("dynamic[min=65536]", "starts at 32768; allowed is a start from its min to its max"),
        ("dynamic[min=4,min=2]", "loss scale gives min twice"),
        ("dynamic[]", r"loss scale is 'dynamic\[\]'; allowed are 'none', 'dynamic'"),
        ("1024[redo]", r"loss scale is '1024\[redo\]'; allowed are 'none', 'dynamic'"),
    ],
)
def test_wrong_options_are_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        as_loss_scale(text)
    with pytest.raises(ValueError, match=said):
        ps.Policy.parse(f"fp16_mixed,scale={text}")


def weight_gradient(x: Any, target: Any) -> Any:
    """Return the loss of one fp16 product: its cotangent is the target times the loss scale."""
    spec = "fp16_fp16_fp32->fp16"
    return lambda w: jnp.sum(ps.matmul(x, w, spec, dgrad=spec, wgrad=spec) * target)


@pytest.mark.long
def test_from_a_scale_that_overflows_to_one_that_does_not() -> None:
    """claims.md, row 31: S = 2**16 with a gradient of 10 takes 4 skipped steps, to S = 4096."""
    loss = weight_gradient(single([[10.0]]), 1.0)
    run = jax.jit(lambda s, w: ps.value_and_grad(loss, "fp16_mixed", loss_scale=s)(w))
    state: Any = ps.DynamicLossScale(factor=2.0**16)
    for _ in range(6):
        _, grad, state, finite = run(state, jnp.ones((1, 1)))
    assert (float(state.factor), int(state.skipped), bool(finite)) == (4096.0, 4, True)
    assert grad.tolist() == [[10.0]]


@pytest.mark.long
def test_redo_takes_no_step_to_find_the_scale() -> None:
    """The same search in one step: 4 attempts fail, none of them skips the step."""
    loss = weight_gradient(single([[10.0]]), 1.0)
    traces = []

    @jax.jit
    def run(state: ps.DynamicLossScale, w: Any) -> Any:
        traces.append(1)
        return ps.value_and_grad(loss, "fp16_mixed", loss_scale=state)(w)

    state: Any = ps.DynamicLossScale(factor=2.0**16, finite_steps=5, redo=True)
    value, grad, state, finite = run(state, jnp.ones((1, 1)))
    assert (float(value), grad.tolist(), bool(finite)) == (10, [[10.0]], True)
    assert (float(state.factor), int(state.finite_steps), int(state.skipped)) == (4096, 1, 0)
    _, grad, state, _ = run(state, jnp.ones((1, 1)))
    assert (float(state.factor), int(state.finite_steps), int(state.skipped)) == (4096, 2, 0)
    assert len(traces) == 2  # numbers of Python at first, arrays from then on
    once = ps.DynamicLossScale(factor=4096.0)
    assert_same_bits(
        ps.value_and_grad(loss, "fp16_mixed", loss_scale=once)(jnp.ones((1, 1)))[1], grad
    )


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_redo_ends_at_the_floor_and_skips_once(bad: float) -> None:
    """A batch with a NaN is never finite: no factor of the loss can mend it."""
    state = ps.DynamicLossScale(factor=64.0, min_factor=4.0, skipped=2, redo=True)
    run = ps.value_and_grad(lambda w: jnp.sum(w * bad), "fp32", loss_scale=state)
    _, _, after, finite = jax.jit(run)(jnp.ones(2))
    assert not bool(finite)
    assert (float(after.factor), int(after.finite_steps), int(after.skipped)) == (4, 0, 3)


@pytest.mark.long
def test_redo_keeps_what_is_not_differentiable_and_what_the_loss_returns_besides() -> None:
    params = {"w": jnp.full(2, 2.0), "count": jnp.arange(3)}

    def loss(p: Any) -> Any:
        return jnp.sum(p["w"] * p["count"][2]), {"count": p["count"], "w": p["w"]}

    state = ps.DynamicLossScale(factor=2.0**127, max_factor=2.0**126, redo=True)
    run = ps.value_and_grad(loss, "fp32", loss_scale=state, has_aux=True)
    (value, aux), gradient, after, finite = run(params)
    assert (float(value), bool(finite), float(after.factor)) == (8, True, 2.0**126)
    assert (gradient["w"].tolist(), gradient["count"].dtype) == ([2, 2], jax.dtypes.float0)
    assert aux["count"].dtype == np.int32


@pytest.mark.long
def test_power_of_two_scaling_without_underflow_changes_no_bit_of_the_updates() -> None:
    """The issue's criterion; and a factor that is no power of two does change them."""
    rng = np.random.default_rng(0)
    x, target = (single(rng.uniform(0.25, 1, s)) for s in ((8, 6), (8, 5)))
    weights = jnp.asarray(ps.round_to(single(rng.uniform(-1, 1, (6, 5))), "fp16"))
    loss = weight_gradient(x, target)

    @jax.jit
    def updated(factor: Any) -> Any:
        scale = ps.StaticLossScale(factor=factor)
        _, grad, _, finite = ps.value_and_grad(loss, "fp16", loss_scale=scale)(weights)
        return ps.apply_updates(weights, -0.01 * grad, rounding="fp16"), grad, finite

    expected, gradient, _ = updated(1.0)
    for k in (-6, -1, 3, 8, 12):
        new, scaled, finite = updated(2.0**k)
        assert bool(finite)
        assert_same_bits(scaled, gradient, k)
        assert_same_bits(new, expected, k)
    assert (updated(1000.0)[1] != gradient).any()


def test_scaling_saves_gradients_from_underflow() -> None:
    """claims.md, row 39: 1e-8 is 0 in fp16; S = 4 makes it nonzero, 1024 gives it 0.12 % error."""
    loss = weight_gradient(single([[1.0]]), 1e-8)
    run = jax.jit(lambda s: ps.value_and_grad(loss, "fp16", loss_scale=s)(jnp.ones((1, 1)))[1])
    found = {s: float(run(ps.StaticLossScale(factor=s))[0, 0]) for s in (1.0, 2.0, 4.0, 1024.0)}
    assert found[1.0] == found[2.0] == 0.0
    assert found[4.0] == 2.0**-26
    assert abs(found[1024.0] / 1e-8 - 1) < 0.0013


def test_states_are_frozen() -> None:
    state = ps.DynamicLossScale()
    with pytest.raises(AttributeError):
        state.factor = 1.0  # type: ignore[misc]
    assert replace(state, factor=1.0).factor == 1.0


@pytest.mark.parametrize("state", [ps.StaticLossScale(factor=0.5), ps.DynamicLossScale(factor=0.5)])
def test_subnormal_numbers_are_scaled_with_one_rounding_under_jit(state: Any) -> None:
    """XLA on CPUs would make zeros of them; 3 * 2**-149 halved is a tie."""
    words = np.array([1, 2, 3, 5, 0x007FFFFF, 0x00800001, 0x80000003], np.uint32)
    x = words.view(np.float32)
    expected = {
        "scale": (x.astype(np.float64) / 2).astype(np.float32),
        "unscale": (x.astype(np.float64) * 2).astype(np.float32),
    }
    got = jax.jit(lambda x: {"scale": state.scale(x), "unscale": state.unscale(x)})(x)
    for name, values in expected.items():
        assert_same_bits(got[name], values, name)
    assert got["unscale"].view(np.uint32)[0] == 2


def test_other_dtypes_are_scaled_by_the_platform_and_integers_stay() -> None:
    tree = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2)}
    scaled = ps.StaticLossScale(factor=8.0).scale(tree)
    assert (scaled["half"].tolist(), scaled["single"].tolist()) == ([8.0, 8.0], [8.0, 8.0])


def test_a_loss_that_the_factor_would_make_infinite_still_has_its_gradient() -> None:
    """2**100 times a loss of 2**30 is no float32 number; the gradient, 1, scales and unscales."""
    state = ps.StaticLossScale(factor=2.0**100)
    run = ps.value_and_grad(lambda w: w + 2.0**30, "fp32", loss_scale=state)
    loss, grad, _, finite = jax.jit(run)(jnp.float32(1024))
    assert (float(loss), float(grad), bool(finite)) == (2.0**30 + 1024, 1.0, True)


def test_a_loss_of_another_shape_is_refused() -> None:
    run = ps.value_and_grad(lambda w: 2 * w, "fp32")
    with pytest.raises(TypeError, match=r"loss_fn returned shape \(2,\); allowed is a scalar"):
        run(jnp.ones(2))


@pytest.mark.long
@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_finite_says_whether_the_gradient_that_is_handed_out_is_finite(factor: float) -> None:
    """Defect: with a factor of 1e-30 the unscaled gradient was infinite, and `finite` true."""
    state = ps.StaticLossScale(factor=factor)
    run = ps.value_and_grad(lambda w: jnp.sum(w * 1e10), "fp32", loss_scale=state)
    _, gradient, after, finite = jax.jit(run)(jnp.full(2, 1e10 if factor < 1 else 1.0))
    assert bool(finite) == np.isfinite(np.asarray(gradient)).all()
    _, gradient, after, finite = ps.value_and_grad(
        lambda w: jnp.sum(w * 3e38) * 10, "fp32", loss_scale=ps.StaticLossScale(factor=1e-30)
    )(jnp.ones(1))
    assert not np.isfinite(np.asarray(gradient)).any()
    assert isinstance(after, ps.StaticLossScale)
    assert (bool(finite), int(after.skipped)) == (False, 1)


def test_leaves_without_a_gradient_are_not_scaled() -> None:
    """Defect: integers were multiplied by the factor, and became floating-point numbers."""
    keys = jax.random.key(0)
    params = {"w": jnp.ones(2), "count": jnp.arange(3), "mask": jnp.array([True]), "key": keys}
    state = ps.StaticLossScale(factor=8.0)
    scaled = state.unscale(state.scale(params))
    assert scaled["w"].tolist() == [1, 1]
    for name in ("count", "mask", "key"):
        assert scaled[name] is params[name]
    run = ps.value_and_grad(lambda p: jnp.sum(p["w"]) * p["count"][1], "fp32", loss_scale=state)
    _, gradient, _, finite = run(params)
    assert bool(finite)
    assert gradient["w"].tolist() == [1, 1]
    assert gradient["count"].dtype == gradient["mask"].dtype == jax.dtypes.float0
    new = ps.apply_updates(params, gradient, rounding="bf16")
    assert new["w"].tolist() == [2, 2]
    assert all(new[name] is params[name] for name in ("count", "mask", "key"))
