"""Sums in the order of the policy, against NumPy rounded by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import precsim as ps
from precsim.transform.rules import sums
from tests.transform.by_hand import bf16, f32, pairwise

RANDOM = np.random.default_rng(61)


@pytest.mark.long
def test_sums_follow_the_order_of_the_policy() -> None:
    x = np.ones(1000, np.float32)
    assert float(ps.emulate(jnp.sum, "bf16")(x)) == 1000.0
    assert float(ps.emulate(jnp.sum, "bf16,order=sequential")(x)) == 256.0
    for order in ("pairwise", "blocked8"):
        data = RANDOM.integers(0, 999, 77).astype(np.float32)
        found = ps.emulate(jnp.sum, f"bf16,order={order}")(data)
        assert float(found) == float(ps.accumulate(ps.round_to(data, "bf16"), "bf16", order=order))


@pytest.mark.long
@pytest.mark.parametrize("name", ["q3.8:sr", "q1.14:sr", "q9.14:sr", "bf16:sr", "e4m3:sr", "q3.8"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_pairwise_sums_are_those_of_accumulate(
    name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fast way, float32 and one rounding, takes the random bits that `accumulate` takes."""
    x = ps.round_to(
        f32(RANDOM.integers(-999, 999, (count, 64))) / 256, ps.RoundingSpec.parse(name).format
    )
    total = lambda x: jnp.sum(x, 0)
    policy = f"fp32,red={name}"
    found = np.asarray(jax.jit(ps.emulate(total, policy))(x))

    def by_accumulate(op: Any, rows: Any, bits: Any, spec: Any) -> Any:
        assert (bits is None) == (name == "q3.8")
        return ps.accumulate(rows, spec, axis=0, order="pairwise", random_bits=bits)

    monkeypatch.setattr(sums, "_pairwise", by_accumulate)
    expected = np.asarray(jax.jit(ps.emulate(total, policy))(x))
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@pytest.mark.long
@pytest.mark.parametrize("mode", [None, "clip"])
def test_scattered_sums_are_pairwise_for_each_target(mode: str | None) -> None:
    rows = RANDOM.integers(-99, 99, (23, 2)).astype(np.float32) / 7
    ids = RANDOM.integers(0, 6, 23)
    ids[3] = 9  # outside: dropped, or clipped to the last
    start = f32([[100.0, -1.0]] * 6)

    def add(target: Any, rows: Any) -> Any:
        return target.at[ids].add(rows, mode=mode)

    found = jax.jit(ps.emulate(add, "bf16"))(start, rows)
    rounded, expected = bf16(rows), bf16(start)
    places = np.minimum(ids, 5) if mode == "clip" else ids
    for place in range(6):
        mine = rounded[places == place].T
        if mine.size:
            expected[place] = bf16(expected[place] + pairwise(mine))
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    plain = jax.grad(lambda t, r: jnp.sum(add(t, r) * start), argnums=(0, 1))(start, rows)
    ours = jax.grad(lambda t, r: jnp.sum(ps.emulate(add, "bf16")(t, r) * start), argnums=(0, 1))(
        start, rows
    )
    jax.tree.map(np.testing.assert_array_equal, ours, plain)


@pytest.mark.long
def test_scattered_sums_one_after_the_other() -> None:
    """A chain of ones stops at 256, a tree does not."""
    ids = jnp.asarray(RANDOM.permutation(np.repeat([0, 1], [700, 3])))
    add = lambda target: target.at[ids].add(1.0)
    for order, expected in (("sequential", [256, 3]), ("pairwise", [700, 3])):
        found = ps.emulate(add, f"bf16,order={order}")(np.zeros(2, np.float32))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.long
def test_cumulative_and_window_sums() -> None:
    x = RANDOM.integers(0, 99, (2, 9)).astype(np.float32) / 8
    found = ps.emulate(lambda x: jnp.cumsum(x, axis=1), "bf16,order=sequential")(x)
    total, expected = np.zeros(2), []
    for column in bf16(x).T:
        total = bf16(total + column)
        expected.append(total)
    np.testing.assert_array_equal(found, np.stack(expected, 1).astype(np.float32))

    def pool(x: Any) -> Any:
        return lax.reduce_window(x, 0.0, lax.add, (1, 3), (1, 2), "VALID")

    windows = np.stack([bf16(x)[:, n : n + 7 : 2] for n in range(3)], axis=-1)
    found = ps.emulate(pool, "bf16")(x)
    np.testing.assert_array_equal(found, pairwise(windows).astype(np.float32))
