"""A training analysed step by step: the bits of `emulate`, compiled once, and the map of shares."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps

BATCHES = [jnp.float32([n, 1 - n]) / 8 for n in range(5)]


def _step(state: Any, x: Any) -> Any:
    w, count = state
    with jax.named_scope("layer"):
        error = w * x - 0.3
    with jax.named_scope("update"):
        return w - 0.1 * error, count + 1


START = jnp.float32([0.7, 0.2]), jnp.int32(0)


def _decay(state: Any, x: Any) -> Any:
    w, count = state
    return w - w * x, count + 1


def _emulated(policy: Any, key: Any) -> Any:
    state, states = START, []
    run = jax.jit(lambda s, x, k: ps.emulate(_decay, policy, seed=k)(s, x))
    for n, batch in enumerate(BATCHES, 1):
        state = run(state, batch, jax.random.fold_in(key, n))
        states.append(state)
    return states


@pytest.mark.long
def test_states_are_those_of_emulate_analysed_or_not() -> None:
    states, key = _emulated("bf16:sr", jax.random.key(3)), jax.random.key(3)
    found = list(ps.analyze_steps(_decay, START, BATCHES, policy="bf16:sr", every=2, seed=key))
    assert [n for n, _ in found] == [1, 3, 5]
    for n, report in found:
        for ours, theirs in zip(report.result, states[n - 1], strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert report.closes


@pytest.mark.long
def test_map_of_shares_as_a_text() -> None:
    reports = list(ps.analyze_steps(_step, START, [*BATCHES, *BATCHES], policy="bf16"))
    found = ps.share_map(reports)
    head, empty, titles, *rows = str(found).splitlines()
    assert not empty
    assert re.match(
        r"shares of 2 scopes in 10 steps, in % of the gross of each step; they le", head
    )
    assert re.split("  +", titles) == [
        *("scope", "step 1", "step 2", "step 4", "step 6", "step 8", "step 10"),
        *("worst SQNR dB", "events"),
    ]
    cells = [re.split("  +", row) for row in rows]
    assert [row[0] for row in cells] == list(found.scopes)
    want = 100 * found.shares[:, 3] / found.gross[3]
    np.testing.assert_allclose([float(row[3]) for row in cells], want, rtol=5e-3)
    assert "<table>" in found._repr_html_()
    assert str(ps.share_map({})) == "shares of 0 scopes in 0 steps"


@pytest.mark.long
def test_map_of_shares() -> Any:
    traced = []

    def step(state: Any, x: Any) -> Any:
        traced.append(x)
        return _step(state, x)

    reports = list(ps.analyze_steps(step, START, BATCHES, policy="bf16"))
    assert len(traced) == 1
    found = ps.share_map(reports)
    assert found.scopes == ("layer", "update")
    assert found.steps.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(found.shares.sum(0), found.change - found.remainder, rtol=1e-12)
    np.testing.assert_allclose(found.change, [report.change for _, report in reports])
    assert found.sqnr.shape == found.events.shape == (2, 5)
    again = ps.share_map(dict(reports))
    np.testing.assert_array_equal(again.shares, found.shares)
    assert ps.share_map(reports, depth=0).scopes == ("(no scope)",)
    assert ps.share_map([]).shares.shape == (0, 0)


@pytest.mark.long
def test_steps_run_when_they_are_asked_for() -> Any:
    def batches() -> Any:
        yield BATCHES[0]
        raise AssertionError("asked for too early")

    steps = ps.analyze_steps(_step, START, batches(), policy="bf16")
    assert next(steps)[0] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"every": 0}, "every is 0; allowed are integers from 1 on"),
        ({"reference": "fp16"}, "reference is 'fp16'; allowed are 'fp64', 'fp32'"),
    ],
)
def test_bad_options_get_one_line_at_the_call(call: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ps.analyze_steps(_step, START, BATCHES, policy="bf16", **call)


def test_a_step_returns_a_state() -> None:
    with pytest.raises(ValueError, match=r"step returns .*float32\[2\].*; allowed is a state such"):
        next(ps.analyze_steps(lambda s, x: s[0] * x, START, BATCHES, policy="bf16"))


def test_maps_take_pairs_only() -> None:
    with pytest.raises(TypeError, match="reports has 3; allowed are pairs of a step and its Repo"):
        ps.share_map([3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="allowed are pairs of a step and its Report"):
        ps.share_map([(1, 2)])  # type: ignore[list-item]
