"""Weight updates: one rounding, what is lost without remedy, and noise that knows its place."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.training.recipes.updates import count_swallowed
from precsim.transform.noise import bits_at
from tests.training.conftest import assert_same_bits, single

UPDATE = single([1e-4])
KEY = jax.random.key(0)


def after_1000_updates(rounding: str, *, compensated: bool = False) -> float:
    @jax.jit
    def run() -> Any:
        def body(_: Any, state: Any) -> Any:
            weight, lost = state
            if compensated:
                return ps.apply_updates(weight, UPDATE, rounding=rounding, compensation=lost)
            return ps.apply_updates(weight, UPDATE, rounding=rounding), lost

        return jax.lax.fori_loop(0, 1000, body, (jnp.ones(1), jnp.zeros(1)))[0]

    return float(run()[0])


@pytest.mark.long
@pytest.mark.parametrize(
    ("rounding", "plain", "kahan"),
    [("fp16", 1.0, 1.099609375), ("bf16", 1.0, 1.1015625), ("fp32", 1.1000165939, None)],
)
def test_1000_updates_of_1e_4_at_1(rounding: str, plain: float, kahan: float | None) -> None:
    """claims.md, row 24: they vanish; Kahan's buffer brings the sum within half an ulp of 1.1."""
    assert after_1000_updates(rounding) == pytest.approx(plain, abs=1e-9)
    if kahan is not None:
        assert after_1000_updates(rounding, compensated=True) == kahan


@pytest.mark.parametrize(("fmt", "deviation"), [("fp16", 0.0093), ("bf16", 0.028)])
def test_stochastic_updates_keep_the_mean(fmt: str, deviation: float) -> None:
    """Mean of 1000 weights within 4 standard errors of 1.1, and the spread of claims.md, row 24.

    Each update is an unbiased draw. So one weight's variance sums 1000 Bernoulli variances.
    """

    @jax.jit
    def run() -> Any:
        def body(step: Any, weights: Any) -> Any:
            updates = jnp.full(1000, UPDATE[0])
            return ps.apply_updates(weights, updates, rounding=f"{fmt}:sr", key=KEY, step=step)

        return jax.lax.fori_loop(0, 1000, body, jnp.ones(1000))

    weights = np.asarray(run())
    assert abs(weights.mean() - 1.1) < 4 * deviation / np.sqrt(1000)
    assert weights.std() == pytest.approx(deviation, rel=0.1)


def test_the_sum_is_rounded_once() -> None:
    """u's tail decides the tie of 1 + u in bf16; rounding u or the float32 sum first loses it."""
    weights = single([1.0, 1.0, 1.0, -1.0])
    updates = single([2.0**-8, 2.0**-8 * (1 + 2.0**-20), 2.0**-8 * (1 - 2.0**-20), 2.0**-33])
    new = np.asarray(ps.apply_updates(weights, updates, rounding="bf16"))
    assert new.tolist() == [1.0, 1.0 + 2.0**-7, 1.0, -1.0]
    exact = [
        ps.oracle.round_exact(float(w) + float(u), "bf16").value
        for w, u in zip(weights, updates, strict=True)
    ]
    assert new.tolist() == exact


@pytest.mark.parametrize("rounding", ["bf16", "fp16:rtz", "e4m3:saturate", "q3.8", "fp32"])
def test_every_leaf_as_by_add(rounding: str) -> None:
    rng = np.random.default_rng(0)
    params, updates = (
        {n: single(rng.standard_normal(s)) for n, s in (("a", (3, 4)), ("b", ()), ("c", (0, 2)))}
        for _ in range(2)
    )
    new = ps.apply_updates(params, updates, rounding=rounding)
    for name, weights in params.items():
        assert_same_bits(new[name], ps.add(weights, updates[name], rounding), name)


@pytest.mark.long
def test_noise_is_that_of_key_step_path_and_element() -> None:
    params: Any = {"a": jnp.ones((2, 3)), "b": {"a": jnp.ones(4)}}
    updates = jax.tree.map(lambda x: jnp.full(x.shape, 1e-3), params)
    new = ps.apply_updates(params, updates, rounding="bf16:sr", key=KEY, step=5)
    here = jax.random.fold_in(KEY, 5)
    for path, got, change in (
        ("['a']", new["a"], updates["a"]),
        ("['b']['a']", new["b"]["a"], updates["b"]["a"]),
    ):
        bits = bits_at(here, path, change.shape)
        expected = ps.add(jnp.ones(change.shape), change, "bf16:sr", random_bits=bits)
        assert_same_bits(got, expected, path)


def halves(names: str, size: int = 64) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights of 1 with updates of half an ulp of bf16: stochastic rounding is a fair coin."""
    return {n: jnp.ones(size) for n in names}, {n: jnp.full(size, 2.0**-8) for n in names}


def stepped(names: str, step: Any = 0, key: Any = KEY) -> dict[str, np.ndarray]:
    params, updates = halves(names)
    new = ps.apply_updates(params, updates, rounding="bf16:sr", key=key, step=step)
    return {name: np.asarray(leaf) for name, leaf in new.items()}


@pytest.mark.long
def test_noise_is_the_same_under_jit_and_beside_other_leaves() -> None:
    alone, together = stepped("b"), stepped("cab")
    compiled = jax.jit(
        lambda step: ps.apply_updates(*halves("abc"), rounding="bf16:sr", key=KEY, step=step)
    )(0)
    for name in "abc":
        assert_same_bits(compiled[name], together[name], name)
    assert_same_bits(alone["b"], together["b"])


def test_noise_differs_per_leaf_step_and_key() -> None:
    """llm.c (issue 597) took the same seed for every tensor; half of the coins have to differ."""
    first = stepped("ab")
    others = [first["b"], stepped("ab", step=1)["a"], stepped("ab", key=jax.random.key(1))["a"]]
    for other in others:
        assert 16 < int((other != first["a"]).sum()) < 48


def test_missing_key_or_step() -> None:
    params, updates = halves("a")
    given: list[dict[str, Any]] = [{}, {"key": KEY}, {"step": 0}]
    for options in given:
        with pytest.raises(ValueError, match="key and step are missing: mode 'sr' of bf16:sr"):
            ps.apply_updates(params, updates, rounding="bf16:sr", **options)
    assert float(ps.apply_updates(params, updates, rounding="bf16")["a"][0]) == 1.0


@pytest.mark.long
def test_stochastic_and_compensated_together() -> None:
    params, updates = halves("a")
    buffers = {"a": jnp.zeros(64)}
    options: dict[str, Any] = {"key": KEY, "step": 0, "compensation": buffers}
    new, lost = ps.apply_updates(params, updates, rounding="bf16:sr", **options)
    # Whatever the coin says, the buffer knows what it cost.
    assert_same_bits(new["a"] - lost["a"], params["a"] + updates["a"])
    assert set(np.unique(np.asarray(new["a"]))) == {1.0, 1.0 + 2.0**-7}


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        ({"a": np.ones(3, np.float32), "b": np.ones(2, np.float32)}, "shape"),
        ({"a": np.float32(1), "b": np.ones(3, np.float32)}, "shape"),
        ({"a": np.ones(2, np.float32)}, "b"),
    ],
)
def test_updates_of_other_shapes_are_refused(updates: Any, message: str) -> None:
    """They were joined to one vector before, so values went to other leaves."""
    params = {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)}
    with pytest.raises(ValueError, match=message):
        ps.apply_updates(params, updates)


def test_nothing_to_update() -> None:
    assert ps.apply_updates({}, {}, rounding="bf16") == {}


def test_swallowed_updates_are_counted_down_to_subnormals() -> None:
    """XLA flushes float32 subnormals in comparisons; they are nonzero updates all the same."""
    smallest = single(2.0**-149)
    old = {"a": single([1, 1, 1, 1]), "b": single([0, smallest])}
    change = {"a": single([0, -0.0, smallest, 1]), "b": single([smallest, smallest])}
    new = {"a": single([1, 1, 1, 2]), "b": single([0, 2 * smallest])}
    for count in (count_swallowed, jax.jit(count_swallowed)):
        assert [float(n) for n in count(old, change, new)] == [4.0, 2.0]


def test_weights_of_other_dtypes_are_refused_by_name() -> None:
    """They were joined to one vector before, which changed their dtype."""
    params = {"a": jnp.ones(2), "b": jnp.ones(2, jnp.bfloat16), "n": jnp.arange(2)}
    with pytest.raises(TypeError, match=r"params\['b'\] has dtype bfloat16; allowed is that of"):
        ps.apply_updates(params, params)
    with pytest.raises(TypeError, match=r"params\['b'\] has dtype bfloat16; allowed are float32"):
        ps.apply_updates({"b": params["b"]}, {"b": params["b"]})
    with pytest.raises(ValueError, match=r"update of params\['a'\] has dtype bfloat16"):
        ps.apply_updates({"a": params["a"]}, {"a": params["b"]})
