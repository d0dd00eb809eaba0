"""Rounded weights under plain optax: which bits optax's addition arrives at, and the same noise."""

import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import precsim as ps
from precsim.transform.noise import bits_at
from tests.training.conftest import assert_same_bits, single

RNG = np.random.default_rng(0)
SHAPES: dict[str, tuple[int, ...]] = {"a": (3, 4), "b": ()}


def tree(scale: float = 1.0) -> dict[str, np.ndarray]:
    return {n: single(scale * RNG.standard_normal(s)) for n, s in SHAPES.items()}


def numbers(fmt: str, *, all_of_them: bool) -> np.ndarray:
    """Return the significands of a format as numbers from 1 to 2; or the outer ones and some."""
    precision = ps.get_format(fmt).precision  # type: ignore[union-attr]
    m = np.arange(2 ** (precision - 1), 2**precision)
    if not all_of_them:
        m = np.unique(np.concatenate([m[:20], m[-20:], m[::37]]))
    return single(m / 2.0 ** (precision - 1))


def landings(fmt: str, gap: int, *, all_of_them: bool) -> tuple[np.ndarray, ...]:
    """Return old, new and what optax arrives at, for all significands of both and a sign between.

    The exponent of the new number is `gap` larger. Scaling both changes nothing, as long as all is
    normal in float32.
    """
    m = numbers(fmt, all_of_them=all_of_them)
    old = np.broadcast_to(m[:, None, None], (m.size, m.size, 2))
    new = m[None, :, None] * single([1, -1]) * np.ldexp(np.float32(1), gap)
    update = (new - old).astype(np.float32)  # as `subtract` rounds; NumPy keeps IEEE 754
    return old, np.broadcast_to(new, old.shape), (old + update).astype(np.float32)


@pytest.mark.parametrize(
    ("fmt", "all_of_them"),
    [("bf16", True), ("fp16", False), pytest.param("fp16", True, marks=pytest.mark.slow)],
)
def test_where_optax_arrives_at_the_rounded_weight(fmt: str, all_of_them: bool) -> None:
    """All pairs up to scaling. Exact for exponents at most 24 - p apart, and not beyond."""
    limit = 24 - ps.get_format(fmt).precision  # type: ignore[union-attr]
    dtype = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16}[fmt]
    for gap in range(-40, 41):
        old, new, got = landings(fmt, gap, all_of_them=all_of_them)
        if abs(gap) <= limit:
            assert (got == new).all(), gap
        larger = np.maximum(np.abs(old), np.abs(new))
        assert (np.abs(got.astype(np.float64) - new) <= np.spacing(larger)).all(), gap
        if gap > 0:  # in the dtype of the format optax rounds the sum; scaled into its range here
            narrow = np.ldexp(got, -gap).astype(dtype).astype(np.float32)
            assert (narrow == np.ldexp(new, -gap)).all(), gap
    for gap in (limit + 1, -limit - 1):
        _, new, got = landings(fmt, gap, all_of_them=all_of_them)
        assert (got != new).any(), gap


def test_fixed_point_weights_are_always_reached() -> None:
    """All pairs of q1.4, and the ends of q3.12."""
    small = single(np.arange(-32, 32) / 16)
    large = single([-8, -8 + 2.0**-12, -(2.0**-12), 0, 2.0**-12, 1, 8 - 2.0**-12])
    for x in (small, large):
        old, new = x[:, None], x[None, :]
        assert (old + (new - old) == new).all()


def narrowed(params: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), params)


def taken(optimizer: Any, params: Any, gradients: list[Any]) -> Any:
    """Return weights and state after steps with plain `optax.apply_updates`."""

    @jax.jit
    def step(params: Any, state: Any, gradient: Any) -> Any:
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for gradient in gradients:
        params, state = step(params, state, gradient)
    return params, state


def assert_same_trees(got: Any, expected: Any) -> None:
    assert got.keys() == expected.keys()
    for name, x in got.items():
        assert_same_bits(jnp.asarray(x, jnp.float32), expected[name], name)


GRADIENTS = [tree() for _ in range(3)]
CHANGES = [jax.tree.map(lambda g: np.float32(-0.01) * g, gradient) for gradient in GRADIENTS]
START: Any = tree()


@pytest.mark.long
@pytest.mark.parametrize(("fmt", "dtype"), [("bf16", jnp.bfloat16), ("fp16", jnp.float32)])
def test_weights_are_those_of_apply_updates(fmt: str, dtype: Any) -> None:
    """Stochastic, in the format's dtype and in float32, after optax's rule."""
    expected: Any = jax.tree.map(lambda x: ps.round_to(x, fmt), START)
    optimizer = optax.chain(optax.sgd(0.01), ps.optax.round_params(f"{fmt}:sr", key=3))
    got, state = taken(optimizer, narrowed(expected, dtype), GRADIENTS)
    for n, change in enumerate(CHANGES):
        options: dict[str, Any] = {"rounding": f"{fmt}:sr", "key": jax.random.key(3), "step": n}
        expected = ps.apply_updates(expected, change, **options)
    assert {x.dtype for x in got.values()} == {jnp.dtype(dtype)}
    assert_same_trees(got, expected)
    assert int(state[1].step) == 3


@pytest.mark.long
def test_compensated_weights_are_those_of_apply_updates() -> None:
    expected: Any = jax.tree.map(lambda x: ps.round_to(x, "bf16"), START)
    optimizer = optax.chain(optax.sgd(0.01), ps.optax.compensate_params("bf16"))
    got, state = taken(optimizer, narrowed(expected, jnp.bfloat16), GRADIENTS)
    lost = jax.tree.map(np.zeros_like, expected)
    for change in CHANGES:
        expected, lost = ps.apply_updates(expected, change, rounding="bf16", compensation=lost)
    assert_same_trees(got, expected)
    assert_same_trees(state[1].compensation, lost)
    assert any(x.any() for x in lost.values())


@pytest.mark.long
@pytest.mark.parametrize("rounding", [pytest.param("fp16", marks=pytest.mark.slow), "fp16:sr"])
def test_master_weights_are_float32_and_those_outside_their_copies(rounding: str) -> None:
    """In steps far below half an ulp of float16."""
    start: Any = jax.tree.map(lambda x: ps.round_to(x, "fp16"), START)
    small = [jax.tree.map(lambda g: np.float32(2.0**-10) * g, g) for g in GRADIENTS]
    optimizer = ps.optax.master_params(optax.sgd(0.125), rounding, key=5)
    got, state = taken(optimizer, narrowed(start, jnp.float16), small)
    masters = start
    for gradient in small:
        change = jax.tree.map(lambda g: np.float32(-0.125) * g, gradient)
        masters = ps.apply_updates(masters, change)
    assert_same_trees(state.params, masters)
    here = jax.random.fold_in(jax.random.key(5), 2)
    for name, master in masters.items():
        bits = bits_at(here, f"['{name}']", master.shape) if ":sr" in rounding else None
        expected = ps.round_to(master, rounding, random_bits=bits)
        assert got[name].dtype == jnp.float16
        assert_same_bits(got[name].astype(np.float32), expected, name)
        assert master.ndim == 0 or (master != start[name]).any()


@pytest.mark.long
def test_states_are_rounded_and_hyperparameters_are_not() -> None:
    """0.999 would be 1 in bf16; noise comes from seed, step and path."""
    inner = optax.inject_hyperparams(optax.adam)(1e-3, b2=0.999)
    optimizer = ps.optax.round_states(inner, "bf16:sr", key=1)
    params = narrowed(START, jnp.bfloat16)
    _, state = taken(optimizer, params, GRADIENTS[:1])
    _, plain = taken(inner, START, GRADIENTS[:1])
    found = state.inner_state
    assert float(found.hyperparams["b2"]) == np.float32(0.999)
    here = jax.random.fold_in(jax.random.key(1), 0)
    for moment in ("mu", "nu"):
        got, exact = (getattr(s.inner_state[0], moment) for s in (found, plain))
        for name, x in exact.items():
            path = f"optimizer state.inner_state[0].{moment}['{name}']"
            expected = ps.round_to(x, "bf16:sr", random_bits=bits_at(here, path, x.shape))
            assert_same_bits(got[name], expected, path)


@pytest.mark.long
@pytest.mark.parametrize(
    "rounding", [pytest.param("mxfp8_e4m3", marks=pytest.mark.slow), "int8_symmetric_block32"]
)
def test_states_in_formats_with_scales(rounding: str) -> None:
    """Scalars too; each step starts from the rounded buffer of the last one."""
    optimizer = ps.optax.round_states(optax.sgd(1.0, momentum=0.5), rounding)
    _, state = taken(optimizer, START, GRADIENTS[:2])
    for name, first in GRADIENTS[0].items():
        buffer = np.zeros((), np.float32)
        for gradient in (first, GRADIENTS[1][name]):
            total = gradient + np.float32(0.5) * buffer
            buffer = ps.round_to(np.atleast_1d(total), rounding).reshape(total.shape)
        assert_same_bits(state.inner_state[0].trace[name], buffer, name)


@pytest.mark.long
def test_clipping_and_multi_steps_around() -> None:
    """The noise counts the steps that are taken; weights between them stay."""
    clip = optax.clip_by_global_norm(1.0)
    optimizer = optax.chain(clip, optax.sgd(0.01), ps.optax.round_params("bf16:sr"))
    params = narrowed(START, jnp.bfloat16)
    means = [jax.tree.map(lambda x: x + 0.25, g) for g in GRADIENTS[:2]]
    halves = [jax.tree.map(lambda x, k=k: x + k, g) for g in GRADIENTS[:2] for k in (0.0, 0.5)]
    once, state = taken(optimizer, params, means)
    several = optax.MultiSteps(optimizer, 2)
    got, found = taken(several, params, halves)
    assert int(state[2].step) == int(found.inner_opt_state[2].step) == 2
    for name, x in once.items():
        assert_same_bits(got[name], x, name)
    between, _ = taken(several, params, halves[:1])
    assert_same_trees(between, jax.tree.map(lambda x: x.astype(np.float32), params))


@pytest.mark.long
def test_leaves_that_have_equal_values_get_noise_of_their_own() -> None:
    """Defect of llm.c (issue 597): one seed for every tensor. Each step has other noise too."""
    w = {"a": jnp.ones(64, jnp.bfloat16), "b": jnp.ones(64, jnp.bfloat16)}
    half_ulp = jax.tree.map(lambda x: jnp.full(64, 2.0**-8), w)
    optimizer = ps.optax.round_params("bf16:sr")
    first, state = optimizer.update(half_ulp, optimizer.init(w), w)
    second, _ = optimizer.update(half_ulp, state, w)
    for x, y in ((first["a"], first["b"]), (first["a"], second["a"])):
        assert 16 < int((x != y).sum()) < 48


FOUR_DEVICES = """
import jax, jax.numpy as jnp, optax, precsim as ps
from jax.sharding import NamedSharding, PartitionSpec
optimizer = ps.optax.round_params("bf16:sr")
mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
update = jax.jit(lambda u, w: optax.apply_updates(w, optimizer.update(u, optimizer.init(w), w)[0]))
w, u = jnp.ones((8, 16), jnp.bfloat16), jnp.full((8, 16), 2.0**-8)
alone = update(u, w)
for axes in (PartitionSpec("d"), PartitionSpec(None, "d"), PartitionSpec()):
    place = NamedSharding(mesh, axes)
    new = update(jax.device_put(u, place), jax.device_put(w, place))
    assert len(new.sharding.device_set) == 4
    assert (new == alone).all(), axes
assert 32 < int((alone == 1).sum()) < 96
"""


@pytest.mark.long
def test_noise_is_the_same_on_one_device_and_on_four() -> None:
    """OneTrainer (issue 804) had other noise on each replica. Divided by rows, columns, or not."""
    flags = "--xla_force_host_platform_device_count=4"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-c", FOUR_DEVICES],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_nan_weights_stay_nan() -> None:
    """Defect of optimizers that add random bits to the pattern: a NaN became an infinity."""
    patterns = np.array([0x7F800001, 0xFF800001, 0x7F80FFFF, 0x7FFFFFFF, 0x7FC00000], np.uint32)
    w = jnp.asarray(patterns.view(np.float32))
    optimizer = ps.optax.round_params("bf16:sr")
    updates, _ = optimizer.update(jnp.ones(5), optimizer.init(w), w)
    assert np.isnan(np.asarray(optax.apply_updates(w, updates))).all()


@pytest.mark.long
def test_leaves_without_gradients_and_missing_ones() -> None:
    """Integers may have no update; None stands for a leaf that is filtered away, as in Equinox."""
    w = {"w": jnp.ones(2), "count": jnp.arange(2), "none": None}
    for zero in (None, jnp.zeros(2, jnp.int32)):
        updates: Any = {"w": jnp.full(2, 2.0**-8 * 1.5), "count": zero, "none": None}
        for optimizer in (ps.optax.round_params("bf16"), ps.optax.compensate_params("bf16")):
            changes, _ = optimizer.update(updates, optimizer.init(w), w)
            assert changes["w"].tolist() == [2.0**-7] * 2
            assert changes["count"] is zero


def test_weights_may_be_numbers_of_python() -> None:
    optimizer = ps.optax.round_params("bf16")
    updates, _ = optimizer.update({"w": 2.0**-8 * 1.5}, optimizer.init({"w": 1.0}), {"w": 1.0})
    assert float(updates["w"]) == 2.0**-7


def test_masked_leaves_stay_in_float32() -> None:
    w = {"w": jnp.ones(2), "norm": jnp.ones(2)}
    updates = jax.tree.map(lambda x: jnp.full(2, 2.0**-8 * 1.5), w)
    mask = {"w": True, "norm": False}
    optimizer = optax.masked(ps.optax.round_params("bf16"), mask)
    changes, _ = optimizer.update(updates, optimizer.init(w), w)
    assert (changes["w"][0], changes["norm"][0]) == (2.0**-7, 2.0**-8 * 1.5)


W = {"a": jnp.ones(2)}


def update_with(params: Any, optimizer: Any) -> Any:
    return optimizer.update(W, optimizer.init(W), params)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: ps.optax.round_params("fp32:sr"), "rounding is 'fp32:sr', with 24 significant"),
        (lambda: ps.optax.round_params("q10.12"), "rounding is 'q10.12', with 22 significant"),
        (lambda: ps.optax.compensate_params("mxfp4"), "rounding is mxfp4, a block format"),
        (lambda: ps.optax.master_params(optax.sgd(1.0), "bf17"), "unknown format 'bf17'"),
        (
            lambda: update_with(None, ps.optax.round_params("bf16")),
            "params is None; rounding needs",
        ),
        (
            lambda: update_with({"a": jnp.ones(2, jnp.float16)}, ps.optax.round_params("bf16")),
            r"params\['a'\] has dtype float16; allowed are float32, and the dtype of bf16",
        ),
        (
            lambda: ps.optax.round_states(optax.adam(1.0, mu_dtype=jnp.bfloat16), "bf16").init(W),
            r"buffer\[0\].mu\['a'\] has dtype bfloat16; allowed is float32",
        ),
        (
            lambda: ps.optax.round_states(optax.flatten(optax.adam(1.0)), "bf16").init(W),
            "inner has a state without one buffer per weight",
        ),
    ],
)
def test_refusals_take_one_line(run: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message) as error:
        run()
    assert "\n" not in str(error.value)


@pytest.mark.long
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_of_optax_rounded_is_that_of_a_run(name: str) -> None:
    """Weights and both moments of three steps, all stochastic, bit for bit."""
    policy = "c=bf16,e=fp32,update=bf16:sr,opt=bf16:sr"
    config = ps.TrainConfig(
        policy=ps.Policy.parse(policy),
        optimizer=name,
        learning_rate=0.01,
        steps=3,
        batch_size=4,
        seed=5,
        backend="native",
    )
    x = single(np.random.default_rng(0).normal(size=(12, 3)))
    run = ps.replay.prepare_run(config, data=(x, np.arange(12) % 2), is_guarded=False)
    step, state = jax.jit(run.step), run.state
    rules = {"adam": optax.adam(0.01), "adamw": optax.adamw(0.01, weight_decay=0.01)}
    optimizer = optax.chain(
        ps.optax.round_states(rules[name], "bf16:sr", key=5),
        ps.optax.round_params("bf16:sr", key=5),
    )
    gradients = []
    for n in range(3):
        state, metrics = step(state, *run.batch(n))
        gradients.append(metrics.gradient)
    got, own = taken(optimizer, run.state.params, gradients)
    assert_same_trees(got, state.params)
    ours, expected = own[0].inner_state[0], state.optimizer_state[0]
    assert_same_trees(ours.mu, expected.mu)
    assert_same_trees(ours.nu, expected.nu)
    assert any(np.any(np.asarray(m) != ps.round_to(m, "e5m2")) for m in jax.tree.leaves(ours.mu))
