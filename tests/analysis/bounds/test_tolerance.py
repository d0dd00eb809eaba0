"""Tolerances: no error of a run exceeds them, and their texts say where they come from."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.analysis.bounds.tolerance import _pair
from tests.analysis.twelve_functions import FUNCTIONS, exactly


@pytest.mark.long
@pytest.mark.parametrize("name", ["quadratic", "lu", "softmax"])
def test_a_test_with_the_tolerance_passes(name: str) -> None:
    fun, args = FUNCTIONS[name]
    found = ps.tolerance(fun, *args, policy="fp32")
    exact = jax.tree.leaves(exactly(fun, *args))
    leaves = [jax.tree.leaves(tree) for tree in (found.value, found.rtol, found.atol)]
    for got, want, rtol, atol in zip(leaves[0], exact, *leaves[1:], strict=True):
        np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)
        assert atol < 1e-4


def test_text_names_what_contributes_most() -> None:
    fun, args = FUNCTIONS["quadratic"]
    found = ps.tolerance(fun, *args, policy="fp32")
    assert found.contributions[0].place.startswith("sqrt at twelve_functions.py:")
    assert sum(part.share for part in found.contributions) == pytest.approx(1)
    lines = str(found).splitlines()
    assert lines[0].startswith("rtol=")
    assert lines[1] == "what 'fp32' may lose:"
    assert "sqrt at twelve_functions.py" in lines[2]
    assert "<pre>rtol=" in found._repr_html_()


def test_trees_and_what_has_no_bound() -> None:
    def fun(x: Any) -> Any:
        return {"a": x * x, "n": jnp.argmax(x), "over": x * 1e38 * 10}

    found = ps.tolerance(fun, np.array([1.1, 20.0], np.float32), policy="fp32")
    assert found.rtol["a"] < 1e-6
    assert found.atol["n"] == 0
    assert found.atol["over"] == np.inf
    assert found.contributions == ()
    lines = str(found).splitlines()
    assert lines[-2] == "['over']: no bound"
    assert re.match(
        r"no bound from mul at test_tolerance.py:.* on: its result overflows", lines[-1]
    )


@pytest.mark.long
def test_the_first_operation_without_a_bound_is_named() -> None:
    fun, args = FUNCTIONS["lu"]
    found = ps.tolerance(fun, *args, policy="bf16")
    assert re.match(
        r"no bound from div at twelve_functions.py:.* on: errors of its operands may bring it to a "
        "pole, or out of its domain; significant_digits samples such errors$",
        found.unlimited,
    )
    assert ps.tolerance(fun, *args, policy="fp32").unlimited == ""
    either = ps.tolerance(
        lambda x: jax.lax.cond(x * 1.1 > 1, jnp.sin, jnp.cos, x), np.float32(1 / 1.1), policy="bf16"
    )
    assert "no bound from cond at" in either.unlimited
    assert "the exact run may go another way" in either.unlimited
    rows = np.ones((2, 600), np.float32)
    short = ps.tolerance(lambda a: a @ a.T, rows, policy="fwd=bf16_bf16_fp16:fused16x8")
    assert "dot_general at" in short.unlimited
    assert "its terms times u are 1 or more" in short.unlimited
    best = ps.tolerance(
        lambda x: jnp.argmax(x * x), np.array([1.4, 1.41], np.float32), policy="bf16"
    )
    first, reason = str(best).splitlines()
    assert first == "the exact ones may be others"
    assert reason.startswith("no bound from argmax at test_tolerance.py:")


def test_pairs_cover_every_bound() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        values = random.normal(size=20) * 10.0 ** random.integers(-3, 3, 20)
        bounds = np.abs(random.normal(size=20)) * 10.0 ** random.integers(-6, -1, 20)
        rtol, atol = _pair(values, bounds)
        exact = np.maximum(np.abs(values) - bounds, 0)
        assert (bounds <= atol + rtol * exact + 1e-15).all()
    assert _pair(np.full(1, 3.0), np.zeros(1)) == (0.0, 0.0)
    rtol, atol = _pair(np.full(1, 1000.0), np.ones(1))
    assert atol == 0
    assert 1 / 999 <= rtol <= 1.1e-3


def test_probability_is_in_the_text() -> None:
    x = np.ones(1000, np.float32) / 3
    found = ps.tolerance(jnp.sum, x, policy="fp32", confidence=0.99)
    assert found.confidence == 0.99
    assert "may lose with probability 0.99" in str(found)
    assert found.rtol < ps.tolerance(jnp.sum, x, policy="fp32").rtol / 2


def test_measured_against_bound_in_one_picture() -> None:
    with ps.plots.figure() as axes:
        ps.plots.plot_bounds(axes[0], {"fp16": ([1e-3, 1e-2, 0, np.inf], [1e-4, 0, 0, 1])})
        lines = axes[0].lines
        assert np.asarray(lines[0].get_xdata()).tolist() == [1e-3, 1e-2]
        assert axes[0].get_xscale() == axes[0].get_yscale() == "log"
        assert lines[1].get_label() == "error = bound"
    with (
        pytest.raises(TypeError, match=r"allowed are pairs \(bound, measured\)"),
        ps.plots.figure() as axes,
    ):
        ps.plots.plot_bounds(axes[0], {"fp16": 3})  # type: ignore[dict-item]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("values", "expected"),
    [([np.inf, 1.5], 1.5), ([-np.inf, np.nan, 1.5], 1.5), ([np.inf, np.nan], None)],
)
def test_infinite_results_with_a_bound_allow_no_error(
    values: list[float], expected: float | None
) -> None:
    """Defect: "cannot convert float NaN to integer"; `assert_allclose` takes equal infinities."""
    bound = np.array([2.0**-10] * len(values))
    alone = (0.0, 0.0) if expected is None else _pair(np.array([expected]), bound[:1])
    assert _pair(np.array(values), bound) == alone


@pytest.mark.long
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_an_infinite_exact_result_is_infinite() -> None:
    x = np.array([1, -2, 3], np.float32)
    found = ps.tolerance(lambda x: jnp.where(x > 0, x * 1.1, -jnp.inf), x, policy="fp32")
    assert found.value.tolist()[1] == -np.inf
    assert found.bound[1] == 0
    assert 0 < found.rtol < 1e-6
    assert found.unlimited == ""


@pytest.mark.long
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: jnp.argmax(x * 1.1), "argmax"),
        (lambda x: jnp.floor(x * 1.1).astype(int), "convert_element_type"),
        (lambda x: (x * 1.1 > 1.1, x * 1.1), "gt"),
    ],
)
def test_integers_that_may_differ_have_an_operation(function: Any, name: str) -> None:
    """Defect: the reason was empty where all infinite bounds are those of integers."""
    found = ps.tolerance(function, np.array([20, 1, 20, 10], np.float32), policy="fp32")
    assert found.unlimited.startswith(f"no bound from {name} at test_tolerance.py:")
    assert "errors of its operands may give another integer or Boolean" in found.unlimited


@pytest.mark.long
def test_a_comparison_is_no_reason_where_real_numbers_lose_their_bound() -> None:
    """The first reason in the program is that of a comparison, whose two cases are near."""
    found = ps.tolerance(
        lambda x: 1 / (jnp.where(x * 1.1 > 1.1, x * 1.1, 1.1) - 1.1), np.float32(1), policy="fp32"
    )
    assert found.unlimited.startswith("no bound from div")
