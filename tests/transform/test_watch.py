"""Counting changes no bit, and counts what happens: in straight code, loops and branches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.transform.emulate import key_of, trace
from precsim.transform.interpreter import evaluate
from precsim.transform.operation import Context
from precsim.transform.watch import Counts, Watch

X = np.float32(np.arange(-12, 12).reshape(4, 6)) * np.float32(2.0**-5)
W = np.float32(np.arange(18).reshape(6, 3) - 9) * np.float32(2.0**-7)


def watched(fun: Callable[..., Any], policy: str, *args: Any) -> tuple[list[np.ndarray], Counts]:
    """Return the results of a function under a policy, compiled, and what was counted."""

    @jax.jit
    def run(*args: Any) -> tuple[list[Any], Counts]:
        watch = Watch()
        context = Context(
            policy=ps.Policy.parse(policy), backend="auto", strict=True, key=key_of(0), watch=watch
        )
        traced = trace(fun, args, {}, 0)
        values = evaluate(traced.program, traced.values(), context)
        return [value.array for value in values], watch.closed()

    results, counts = run(*args)
    return list(map(np.asarray, results)), jax.tree.map(np.asarray, counts)


def in_a_scan(w: Any, x: Any) -> Any:
    return jax.lax.scan(lambda carry, row: (carry * row, carry + row), w[0, :3], x[:, :3])[1]


def in_a_while(w: Any, x: Any) -> Any:
    halve = lambda state: (state[0] + 1, state[1] * x)
    return jax.lax.while_loop(lambda state: state[0] < 3, halve, (0, x))[1]


def in_a_branch(w: Any, x: Any) -> Any:
    low, high = (lambda x: x * x), (lambda x: x + 1)
    return jax.lax.cond(x[0, 0] < 0, low, high, x)


def of_a_product(w: Any, x: Any) -> Any:
    return jnp.tanh(x @ w) + jnp.exp(x).sum()


def gradient(w: Any, x: Any) -> Any:
    return jax.grad(lambda w: jnp.square(jax.nn.relu(x @ w)).mean())(w)


FUNCTIONS = (in_a_scan, in_a_while, in_a_branch, of_a_product, gradient)


@pytest.mark.long
@pytest.mark.parametrize("fun", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("policy", ["e4m3", "fp16_mixed"])
def test_counting_changes_no_bit(fun: Callable[..., Any], policy: str) -> None:
    (found,), _ = watched(fun, policy, W, X)
    expected = np.asarray(jax.jit(ps.emulate(fun, policy))(W, X))
    assert found.tobytes() == expected.tobytes()


@pytest.mark.long
def test_stochastic_bits_are_the_same_when_counted() -> None:
    (found,), _ = watched(of_a_product, "e5m2:sr", W, X)
    expected = np.asarray(jax.jit(ps.emulate(of_a_product, "e5m2:sr"))(W, X))
    assert found.tobytes() == expected.tobytes()


@pytest.mark.long
def test_random_bits_of_gradients_alone_are_no_obstacle() -> None:
    """The operands of gradients are rounded stochastically there, those of the product are not."""
    policy = "fwd=bf16_bf16_fp32->bf16,dgrad=bf16[sr]_bf16_fp32,wgrad=bf16_bf16[sr]_fp32,e=fp32"

    def product(w: Any, x: Any) -> Any:
        return x @ w

    (found,), _ = watched(product, policy, W, X)
    expected = np.asarray(jax.jit(ps.emulate(product, policy))(W, X))
    assert found.tobytes() == expected.tobytes()


def test_operands_and_results_are_counted_by_place() -> None:
    def fun(w: Any, x: Any) -> Any:
        with jax.named_scope("square"):
            return x * x

    _, counts = watched(fun, "e4m3", W, X)
    once = ps.round_to(X, "e4m3")
    expected = ps.errors.count_events(X, once, "e4m3") + ps.errors.count_events(
        once * once, ps.round_to(once * once, "e4m3"), "e4m3"
    )
    # The one operand stands twice: each use brings it to the format.
    first = ps.errors.count_events(X, once, "e4m3")
    assert list(counts.forward) == ["square"]
    found = counts.forward["square"]
    assert found.tolist() in ((expected).tolist(), (expected + first).tolist())
    assert counts.backward == {}


@pytest.mark.long
def test_a_loop_counts_all_its_turns() -> None:
    def unrolled(w: Any, x: Any) -> Any:
        carry, rows = w[0, :3], []
        for row in x[:, :3]:
            rows.append(carry + row)
            carry = carry * row
        return jnp.stack(rows)

    _, loop = watched(in_a_scan, "e5m2", W, X)
    _, straight = watched(unrolled, "e5m2", W, X)
    (ours,), (theirs,) = loop.forward.values(), straight.forward.values()
    assert ours[2:].tolist() == theirs[2:].tolist()  # events; known operands count once outside


@pytest.mark.long
def test_the_branch_that_runs_is_counted() -> None:
    _, counts = watched(in_a_branch, "e4m3", W, X)
    (found,) = counts.forward.values()
    once = ps.round_to(X, "e4m3")
    result = ps.errors.count_events(once * once, ps.round_to(once * once, "e4m3"), "e4m3")
    assert found[2] >= result[2] > 0


@pytest.mark.long
def test_the_backward_pass_is_counted_apart() -> None:
    _, counts = watched(gradient, "e4m3", W, X)
    assert counts.forward.keys() == counts.backward.keys() == {""}
    assert counts.backward[""][0] > 0


@pytest.mark.long
def test_many_numbers_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = watched(of_a_product, "e4m3", W, X)
    monkeypatch.setattr("precsim.transform.watch._MOST", 10)
    _, parts = watched(of_a_product, "e4m3", W, X)
    assert whole.forward[""].tolist() == parts.forward[""].tolist()
