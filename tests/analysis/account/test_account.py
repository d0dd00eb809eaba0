"""The account closes: shares sum to the measured change, on the bits of `emulate`."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps


def _numbers(*shape: int) -> Any:
    """Return numbers of three digits between -1 and 1, made from integers."""
    count = int(np.prod(shape))
    return jnp.asarray((np.arange(count) * 377 % 1009 - 504) / 512, jnp.float32).reshape(shape)


def _scan(w: Any, x: Any) -> Any:
    def turn(h: Any, _: Any) -> Any:
        h = jnp.tanh(h @ w)
        return h, h.sum()

    return jax.lax.scan(turn, x, None, length=5)


def _newton(x: Any) -> Any:
    def turn(state: Any) -> Any:
        n, y = state
        return n + 1, (y + x / y) / 2

    return jax.lax.while_loop(lambda s: s[0] < 4, turn, (0, x))[1]


def _nested(x: Any) -> Any:
    def outer(i: Any, y: Any) -> Any:
        return jax.lax.while_loop(lambda s: s < 10 + i, lambda s: s * 1.3, y) * 0.3

    return jax.lax.fori_loop(0, 4, outer, x)


def _branch(x: Any) -> Any:
    return jax.lax.cond(x.sum() > 0, lambda x: jnp.sin(x).sum(), lambda x: (x * x).sum(), x)


def _training_step(w: Any, x: Any) -> Any:
    def loss(w: Any) -> Any:
        return jnp.mean(jax.nn.log_softmax(jax.nn.relu(x @ w) @ w)[:, 0])

    return w + 0.1 * jax.grad(loss)(w)


CASES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "scan": (_scan, (_numbers(6, 6), _numbers(2, 6))),
    "while": (_newton, (jnp.float32(7),)),
    "nested": (_nested, (jnp.float32(1.1),)),
    "cond": (_branch, (_numbers(16),)),
    "step": (_training_step, (_numbers(6, 6), _numbers(2, 6))),
    "complex": (
        lambda x: jnp.abs(jax.lax.complex(x, 2 * x) * jax.lax.complex(x, x)).sum(),
        (_numbers(8),),
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_shares_sum_to_the_change(name: str) -> None:
    fun, args = CASES[name]
    report = ps.analyze(fun, *args, policy="bf16")
    emulated = jax.jit(ps.emulate(fun, "bf16"))(*args)
    for ours, theirs in zip(jax.tree.leaves(report.result), jax.tree.leaves(emulated), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert report.change != 0
    assert not report.obstacles
    assert abs(report.remainder) <= 0.01 * report.gross
    assert report.closes


@pytest.mark.long
@pytest.mark.parametrize("name", ["scan", "nested"])
def test_turns_told_apart_have_the_same_shares(name: str) -> None:
    fun, args = CASES[name]
    together = ps.analyze(fun, *args, policy="bf16")
    apart = ps.analyze(fun, *args, policy="bf16", turns="each", recompute=True)
    assert any(len(row.turns) > 1 for row in apart.rows)
    for a, b in zip(together.rows, apart.rows, strict=True):
        assert a.primitive == b.primitive
        np.testing.assert_allclose(a.share, b.share, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(b.share, sum(b.turns) if b.turns else b.share, rtol=1e-9)


@pytest.mark.long
def test_stochastic_rounding_has_the_bits_of_emulate() -> None:
    def fun(x: Any) -> Any:
        return jax.lax.scan(lambda h, _: (h * 1.1 + x, h), x, None, length=3)

    args = (_numbers(8),)
    report = ps.analyze(fun, *args, policy="bf16:sr", seed=3)
    emulated = jax.jit(ps.emulate(fun, "bf16:sr", seed=3))(*args)
    for ours, theirs in zip(jax.tree.leaves(report.result), jax.tree.leaves(emulated), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert report.closes


@pytest.mark.long
def test_simpson_has_a_smaller_remainder() -> None:
    fun, args = CASES["step"]
    cubes = lambda w: (w**3).sum()
    remainders = [
        abs(ps.analyze(fun, *args, policy="float(e=8,p=3)", of=cubes, nodes=n).remainder)
        for n in (1, 3)
    ]
    assert remainders[1] < remainders[0]


def test_simpson_is_taken_where_the_midpoint_leaves_too_much() -> None:
    fun = lambda x: jnp.exp(jnp.exp(x))
    rough, fine = (
        {n: ps.analyze(fun, np.float32(1.7), policy=policy, nodes=n) for n in (1, 3, "auto")}
        for policy in ("float(e=8,p=2)", "bf16")
    )
    assert abs(rough[1].remainder) > 0.01 * rough[1].gross
    assert [r["auto"].to_json() == r[n].to_json() for r, n in ((rough, 3), (fine, 1))] == [True] * 2


@pytest.mark.long
def test_cut_derivatives_do_not_cut_the_account() -> None:
    def fun(x: Any) -> Any:
        return jax.lax.stop_gradient(x * x) + jnp.sin(jnp.round(x * 1.0) + x)

    report = ps.analyze(lambda x: fun(x).sum(), _numbers(16), policy="fp16")
    assert report.closes
    assert next(row for row in report.rows if row.primitive == "mul").share != 0


def test_infinite_derivatives_of_what_does_not_count() -> None:
    def fun(x: Any) -> Any:
        return jnp.where(x > 0, jnp.sqrt(x) / x, 0).sum()

    report = ps.analyze(fun, jnp.asarray([0.0, 0.7, 1.3]), policy="bf16")
    assert np.isfinite(report.gross)
    assert report.closes


def test_overflow_is_reported_and_not_shared() -> None:
    report = ps.analyze(lambda x: jnp.sum(x * x) / 1e6, 200 + _numbers(8), policy="fp16")
    assert not report.closes
    assert report.first_not_finite is not None
    assert report.first_not_finite.primitive == "reduce_sum"
    assert "overflowed" in report.obstacles[0]


def test_errors_too_large_for_the_path_are_reported() -> None:
    fun = lambda x: 1 / ((x + 1) - 1)
    report = ps.analyze(fun, jnp.float32(0.1), policy="float(e=8,p=4)")
    (sentence,) = report.obstacles
    assert sentence.startswith("the shares leave 1.2 % of the gross: the result of `fun = ")
    assert sentence.endswith("(sub) is off by 0.25 of its size; try nodes=3")
    assert not report.closes


@pytest.mark.long
def test_only_choices_fall_differently() -> None:
    fun = lambda x: jnp.where(x + 0.01 > 1.0, x * 1.1, x * 1.3).sum()
    report = ps.analyze(fun, jnp.linspace(0.9, 1.1, 16), policy="float(e=8,p=4)")
    found = {row.primitive: row.differing for row in report.rows}
    assert found["gt"] > 0
    assert set(found) > {"gt", "add", "mul"}
    assert sum(found.values()) == found["gt"]
    assert f"{found['gt']} comparisons or choices fell differently" in report.obstacles[0]


@pytest.mark.long
def test_a_branch_taken_differently_is_reported() -> None:
    def fun(x: Any) -> Any:
        return jax.lax.cond(x + 0.001 > x, lambda x: 2 * x, lambda x: 3 * x, x)

    report = ps.analyze(fun, jnp.float32(1.5), policy="bf16")
    assert report.reference_value == 3.0
    assert report.value == 4.5
    assert "went another way" in report.obstacles[0]


@pytest.mark.long
@pytest.mark.parametrize(("policy", "end"), [("bf16", 256), ("e4m3", 16)])
def test_a_loop_without_end_is_reported(policy: str, end: int) -> None:
    def counted(x: Any) -> Any:
        return jax.lax.while_loop(lambda s: s[0] < 1000, lambda s: (s[0] + 1, s[1] + 1), (x, 0))[0]

    fun = lambda x: (
        jax.lax.scan(lambda x, _: (counted(x) * 0 + x, None), x, length=2)[0] + counted(x)
    )
    report = ps.analyze(fun, jnp.float32(0), policy=policy)
    assert (report.value, report.reference_value, report.result) == (end, 1000, end)
    assert len(report.unending) == 2
    for obstacle, loop in zip(report.obstacles, report.unending, strict=True):
        assert obstacle.startswith(f"{loop} does not end in {policy}: result and shares")
        assert " (while), which takes 1000 turns in the exact run," in loop
        assert "test_account.py:" in loop
    assert report.remainder == 0
    assert ps.Report.from_json(report.to_json()).obstacles == report.obstacles


@pytest.mark.long
def test_a_loop_without_end_that_the_exact_run_does_not_reach_is_reported() -> None:
    count = lambda x: jax.lax.while_loop(lambda x: x < 1000, lambda x: x + 1, x)
    fun = lambda x: jax.lax.cond(x + 0.001 > x, lambda x: x * 2, count, x)
    report = ps.analyze(fun, jnp.float32(1.5), policy="bf16")
    (loop,) = report.unending
    assert " (while), which takes 0 turns in the exact run," in loop
    assert (report.value, report.reference_value, report.closes) == (1.5, 3, False)


@pytest.mark.long
def test_loops_may_be_long() -> None:
    """One that takes many turns in both runs ends."""
    fun = lambda x: jax.lax.while_loop(lambda x: x < 10_500, lambda x: x + 1, x)
    assert ps.analyze(fun, jnp.float32(0), policy="fp32").unending == ()


def test_results_rounded_by_the_policy_are_an_operation() -> None:
    report = ps.analyze(lambda x: x + 0.1, jnp.float32(1.5), policy="e=fp32,out=bf16")
    assert report.rows[-1].primitive == "result"
    assert report.closes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "fp16"}, "reference is 'fp16'; allowed are 'fp64', 'fp32'"),
        ({"turns": "all"}, "turns is 'all'; allowed are 'together', 'each'"),
        ({"nodes": 2}, "nodes is 2; allowed are 1 (midpoint), 3 (Simpson's rule), 'auto'"),
        ({"nodes": "3"}, "nodes is '3'; allowed are 1 (midpoint), 3 (Simpson's rule), 'auto'"),
    ],
)
def test_bad_options_get_one_line(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ps.analyze(jnp.sin, jnp.float32(1), policy="bf16", **options)


BRANCHING: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "cond": (lambda x, i: jax.lax.cond(i > 2, lambda x: x * 0.1, lambda x: x * 0.3, x), (3,)),
    "switch": (lambda x, i: jax.lax.switch(i, [jnp.sin, jnp.cos], x), (1,)),
    "while": (lambda x, n: jax.lax.fori_loop(0, n, lambda _, y: y * 0.9, x), (3,)),
}


@pytest.mark.long
@pytest.mark.parametrize("name", BRANCHING)
def test_results_of_many_numbers_behind_branches(name: str) -> None:
    fun, (number,) = BRANCHING[name]
    report = ps.analyze(fun, jnp.float32([2.1, 3.3]), jnp.int32(number), policy="bf16")
    distance = np.linalg.norm(np.asarray(report.result, np.float64) - report.reference_result)
    np.testing.assert_allclose(report.change, distance, rtol=1e-9)
    assert report.reference_value == 0
    assert report.closes


@pytest.mark.long
def test_the_reference_takes_its_own_branch() -> None:
    def fun(x: Any) -> Any:
        return jax.lax.cond(x[0] + 0.001 > 1, jnp.exp, lambda x: x * 2, x)

    report = ps.analyze(fun, jnp.float32([0.9999, 2]), policy="bf16")
    np.testing.assert_allclose(report.reference_result, np.exp([0.9999, 2]), rtol=1e-6)
    distance = np.linalg.norm(np.asarray(report.result, np.float64) - report.reference_result)
    np.testing.assert_allclose(report.change, distance, rtol=1e-9)
    assert "went another way" in report.obstacles[0]


def test_a_division_by_a_zero_of_the_format_is_reported() -> None:
    def fun(x: Any) -> Any:
        return 1 / (1 / (1 - x) + 1)

    report = ps.analyze(fun, jnp.float32(0.9999), policy="bf16")
    assert report.first_not_finite is not None
    assert report.first_not_finite.primitive == "div"
    assert "1 result of" in report.obstacles[0]


def test_cancellation_to_zero_is_no_underflow() -> None:
    report = ps.analyze(lambda x: x - 1, jnp.float32(1.003), policy="bf16")
    assert report.rows[0].underflowed == 0
    report = ps.analyze(lambda x: x * 1e-9, jnp.float32(1.0), policy="fp16")
    assert report.rows[0].underflowed == 1


@pytest.mark.long
def test_ulps_of_fixed_point_and_of_a_float32_reference() -> None:
    report = ps.analyze(lambda x: jnp.tanh(x).sum(), _numbers(8), policy="q3.8")
    assert 0 < report.rows[0].max_ulps < 2
    report = ps.analyze(lambda x: (x * x).sum(), _numbers(8), policy="bf16", reference="fp32")
    assert all(0 <= row.max_ulps < 2 for row in report.rows)


def test_numbers_of_python_are_rounded_too() -> None:
    report = ps.analyze(lambda x: (1 + x) - 1, 1e-4, policy="fp16")
    assert report.value == 0
    assert report.reference_value == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("fun", "options", "message"),
    [
        (lambda x: x > 0, {}, "fun returns no floating-point number"),
        (jnp.sin, {"of": lambda y: y > 0}, "of returns ShapeDtypeStruct"),
        (jnp.sin, {"recompute": "no"}, "recompute is 'no'; allowed are True, False"),
        (jnp.sin, {"kwargs": [1]}, r"kwargs is \[1\]; allowed is a dict"),
        (jnp.sin, {"params": "x"}, "params is 'x'"),
    ],
)
def test_what_cannot_be_asked_gets_one_line(fun: Any, options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ps.analyze(fun, jnp.ones(3), policy="bf16", **options)


def test_inside_jit_it_is_refused() -> None:
    with pytest.raises(TypeError, match="args are traced by JAX"):
        jax.jit(lambda x: ps.analyze(jnp.sin, x, policy="bf16").change)(jnp.ones(()))


def test_functions_applied_in_place_and_moving_bounds() -> None:
    """The first had a wrong reference, the second stopped in a derivative of JAX."""
    x = _numbers(4)
    applied = lambda x: jnp.sum(x.at[np.array([1, 1, 3])].apply(lambda y: jnp.sin(y * 1.7)))
    report = ps.analyze(applied, x, policy="bf16")
    y = np.asarray(x, np.float64)
    for n in (1, 1, 3):
        y[n] = np.sin(y[n] * np.float64(np.float32(1.7)))
    assert report.closes
    np.testing.assert_allclose(report.reference_value, y.sum(), rtol=1e-12)
    clamped = lambda x: jnp.sum(jax.lax.clamp(x[0] * 0.3, x, x[1] * 0.7))
    for fun in (clamped, lambda x: jnp.sum(jnp.quantile(x, jnp.array([0.1, 0.35])))):
        report = ps.analyze(fun, x, policy="bf16")
        assert report.closes
        assert report.value == float(ps.emulate(fun, "bf16")(x))
