"""Bounds of the orders of summation: their formulas, and errors that keep them."""

import math

import pytest

import precsim as ps
from experiments import summation_orders


def test_formulas() -> None:
    u = 2.0**-8
    assert ps.order_bound("exact", 10**6, "bf16") == u
    assert ps.order_bound("sequential", 100, "bf16") == 100 * u
    assert ps.order_bound("sequential", 10**4, "bf16") == 1
    assert ps.order_bound("sequential", 100, u) == 100 * u
    assert ps.order_bound("sequential", 100, "bf16:rtz") == ps.gamma(100, 2 * u)
    assert ps.order_bound("pairwise", 1025, "bf16") == ps.gamma(13, u)
    assert ps.order_bound("blocked10", 95, "bf16") == 10 * u + 10 * u * (1 + 10 * u)
    assert ps.order_bound("blocked10", 95, "bf16:rtz") == ps.gamma(20, 2 * u)
    assert ps.order_bound("kahan", 10, "bf16") == 3 * u + 30 * u * u
    assert math.isclose(
        ps.order_bound("two_sum", 10, "bf16"), u + (1 + u) * (u + (10 * u) ** 2 * (1 + u))
    )


def test_refusals() -> None:
    with pytest.raises(ValueError, match="n is 0; allowed are integers from 1 on"):
        ps.order_bound("exact", 0, "bf16")
    with pytest.raises(ValueError, match="order is 'kahn'"):
        ps.order_bound("kahn", 10, "bf16")
    with pytest.raises(
        ValueError, match="allowed for order 'kahan' are formats rounded to nearest"
    ):
        ps.order_bound("kahan", 10, "bf16:rtz")
    with pytest.raises(ValueError, match=r"n \* unit_roundoff is 200"):
        ps.order_bound("sequential", 200, "bf16:rtz")
    with pytest.raises(ValueError, match="fixed point has none"):
        ps.order_bound("exact", 10, "q3.4")


@pytest.mark.parametrize("accumulator", summation_orders.ACCUMULATORS)
def test_errors_keep_their_bounds(accumulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summation_orders, "SETS", 8)
    monkeypatch.setattr(summation_orders, "BACKEND", "reference")
    for order in summation_orders.ORDERS:
        error = summation_orders.largest_error(order, 60, accumulator)
        assert 0 < error <= ps.order_bound(order, 60, accumulator)


@pytest.mark.slow
def test_bounds_are_within_a_hundred_times_the_errors() -> None:
    """Every order and format at n = 10,000."""
    for (accumulator, order), rows in summation_orders.compute((1000, 10_000)).items():
        _, errors, bounds = rows.T
        assert (errors <= bounds).all(), (accumulator, order)
        assert bounds[-1] <= 100 * errors[-1], (accumulator, order)
