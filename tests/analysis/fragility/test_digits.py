"""Significant digits from random roundings, against the digits that results have."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.analysis.twelve_functions import FUNCTIONS, exactly

MOST = 24 * np.log10(2)


def true_digits(got: Any, exact: Any) -> Any:
    """Return the digits of each element, as many as float32 has where it is exact."""
    with np.errstate(all="ignore"):
        digits = -np.log10(np.abs((np.float64(got) - exact) / exact))
    return np.where(got == exact, MOST, np.clip(digits, 0, MOST)).ravel()


def least(digits: list[np.ndarray]) -> float:
    return min(float(np.min(x)) for x in digits)


def check(name: str, policy: str) -> None:
    """Compare the worst element of the estimate with that of a run rounded to nearest."""
    fun, args = FUNCTIONS[name]
    found = ps.significant_digits(fun, *args, policy=policy)
    exact = jax.tree.leaves(exactly(fun, *args))
    got = jax.tree.leaves(jax.jit(ps.emulate(fun, policy))(*args))
    true = [true_digits(np.asarray(x), y) for x, y in zip(got, exact, strict=True)]
    assert abs(found.least - least(true)) <= 1
    estimated = np.concatenate([x.ravel() for x in jax.tree.leaves(found.digits)])
    assert np.mean(np.abs(estimated - np.concatenate(true)) <= 1) >= 0.5
    means = [true_digits(x, y) for x, y in zip(jax.tree.leaves(found.mean), exact, strict=True)]
    assert np.mean(np.concatenate(means) >= estimated - 0.5) >= 0.95


@pytest.mark.long
@pytest.mark.parametrize("name", ["dot", "horner", "quadratic", "one_pass_variance", "lu"])
def test_digits_are_the_true_ones_within_one(name: str) -> None:
    check(name, "fp32")


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_digits_of_all_functions(name: str, policy: str) -> None:
    check(name, policy)


def test_special_values_trees_and_integers() -> None:
    def fun(x: Any) -> Any:
        with np.errstate(all="ignore"):
            return {"same": x - x, "power": 2 * x, "infinite": x / 0, "count": jnp.argmax(x)}

    found = ps.significant_digits(fun, np.array([1, 4 / 3], np.float32), policy="fp32", samples=3)
    assert found.digits["same"].tolist() == [pytest.approx(MOST)] * 2  # an exact cancellation
    assert found.digits["power"].tolist() == [pytest.approx(MOST)] * 2
    assert np.isnan(found.digits["infinite"]).all()
    assert found.digits["count"] == np.inf
    assert found.mean["count"] == 1
    assert np.isnan(found.least)
    assert str(found).startswith("nan significant digits (3 runs")


def test_formula_by_hand() -> None:
    from precsim.analysis.fragility.digits import _of_runs

    runs = np.array([1.0, 1.1, 1.2], np.float32)
    mean, digits, deviation = _of_runs(runs, None, 0.95)
    assert mean == pytest.approx(1.1)
    assert deviation == pytest.approx(0.1)
    assert digits == pytest.approx(np.log10(np.sqrt(3) * 1.1 / (4.302653 * 0.1)), abs=1e-6)


def test_loops_round_anew_in_each_turn() -> None:
    def grows(x: Any) -> Any:
        return jax.lax.fori_loop(0, 300, lambda _, y: y + x, x)

    found = ps.significant_digits(grows, np.float32(0.1), policy="e=bf16")
    # 300 errors of one direction would be 300 deviations of one; independent ones are about 17.
    assert 0.1 < found.deviation < 1.5
    assert abs(found.mean - 30.1) < 1


def test_operands_of_products_are_random() -> None:
    a = np.full((1, 64), 1.1, np.float32)
    found = ps.significant_digits(lambda a: a @ a.T, a, policy="fwd=e4m3_e4m3_fp32")
    assert found.deviation.item() > 0.1


@pytest.mark.slow
def test_policies_with_every_kind_of_product_run() -> None:
    a = np.full((1, 32), 1.1, np.float32)
    for product in ("h100:bf16", "int8_int8_int32"):
        found = ps.significant_digits(lambda a: a @ a.T, a, policy=f"fwd={product}", samples=2)
        assert found.digits.item() > 1


def test_refusals() -> None:
    one = np.float32(1)
    with pytest.raises(TypeError, match="fun is 3; allowed is a function"):
        ps.significant_digits(3, one, policy="fp32")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="samples is 1; allowed are integers from 2 on"):
        ps.significant_digits(jnp.exp, one, policy="fp32", samples=1)
    with pytest.raises(ValueError, match="confidence is 1; allowed are numbers between 0 and 1"):
        ps.significant_digits(jnp.exp, one, policy="fp32", confidence=1)
