"""Bounds of the orders of summation: their formulas, and errors that keep them."""

import math

import numpy as np
import pytest

import precsim as ps
from experiments import summation_orders
from precsim.analysis.bounds import order_bounds


def test_formulas() -> None:
    u = 2.0**-8
    assert ps.errors.order_bound("exact", 10**6, "bf16") == u
    assert ps.errors.order_bound("sequential", 100, "bf16") == 100 * u
    assert ps.errors.order_bound("sequential", 10**4, "bf16") == 1
    assert ps.errors.order_bound("sequential", 100, u) == 100 * u
    assert ps.errors.order_bound("sequential", 100, "bf16:rtz") == ps.gamma(100, 2 * u)
    assert ps.errors.order_bound("pairwise", 1025, "bf16") == ps.gamma(13, u)
    assert ps.errors.order_bound("blocked10", 95, "bf16") == 10 * u + 10 * u * (1 + 10 * u)
    assert ps.errors.order_bound("blocked10", 95, "bf16:rtz") == ps.gamma(20, 2 * u)
    assert 4 * u + 10 * u * u < ps.errors.order_bound("kahan", 10, "bf16") < 4 * u + 40 * u * u
    assert math.isclose(
        ps.errors.order_bound("two_sum", 10, "bf16"), u + (1 + u) * (u + (10 * u) ** 2 * (1 + u))
    )


def test_refusals() -> None:
    with pytest.raises(ValueError, match="n is 0; allowed are integers from 1 on"):
        ps.errors.order_bound("exact", 0, "bf16")
    with pytest.raises(ValueError, match="order is 'kahn'"):
        ps.errors.order_bound("kahn", 10, "bf16")
    with pytest.raises(
        ValueError, match=r"see precsim.running_bound\(..., policy='fwd=mi300x:fp16"
    ):
        ps.errors.order_bound("mi300x:fp16", 10, "fp32")
    with pytest.raises(
        ValueError, match="allowed for order 'kahan' are formats rounded to nearest"
    ):
        ps.errors.order_bound("kahan", 10, "bf16:rtz")
    with pytest.raises(
        ValueError, match=r"n is 70000 and u is 0\.00390625; allowed for order 'kahan'"
    ):
        ps.errors.order_bound("kahan", 70_000, "bf16")
    with pytest.raises(ValueError, match="are u up to 1/4"):
        ps.errors.order_bound("kahan", 1, 0.5)
    with pytest.raises(ValueError, match=r"n \* unit_roundoff is 200"):
        ps.errors.order_bound("sequential", 200, "bf16:rtz")
    with pytest.raises(ValueError, match="fixed point has none"):
        ps.errors.order_bound("exact", 10, "q3.4")


@pytest.mark.parametrize("accumulator", summation_orders.ACCUMULATORS)
def test_errors_keep_their_bounds(accumulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summation_orders, "SETS", 8)
    monkeypatch.setattr(summation_orders, "BACKEND", "reference")
    for order in summation_orders.ORDERS:
        error = summation_orders.largest_error(order, 30, accumulator)
        assert 0 < error <= ps.errors.order_bound(order, 30, accumulator)


def test_probable_bounds() -> None:
    bound = ps.errors.order_bound
    assert bound("sequential", 10**4, "fp32", confidence=0.99) == ps.probabilistic_gamma(
        10**4, "fp32", confidence=0.99
    )
    for order in ("sequential", "blocked10", "pairwise"):
        likely = [bound(order, 10**4, "fp32", confidence=c) for c in (0.9, 0.99, 0.999999)]
        assert likely == sorted(likely)
        assert likely[-1] <= bound(order, 10**4, "fp32")
        assert bound(order, 2, "fp32", confidence=0.99) == bound(order, 2, "fp32")
        assert likely[1] < bound(order, 10**4, "fp32", confidence=0.99, num_results=100) or (
            order == "pairwise"
        )
    for order in ("kahan", "two_sum", "exact"):
        assert bound(order, 100, "bf16", confidence=0.9) == bound(order, 100, "bf16")
    assert bound("sequential", 10**5, "bf16:sr", confidence=0.9) < math.inf  # n u is beyond 1
    with pytest.raises(
        ValueError, match="allowed with a confidence are formats rounded to nearest"
    ):
        bound("sequential", 10, "bf16:rtz", confidence=0.9)
    with pytest.raises(ValueError, match="confidence is 1; allowed is between 0 and 1"):
        bound("exact", 10, "bf16", confidence=1)


@pytest.mark.long
@pytest.mark.parametrize("order", ["sequential", "pairwise"])
def test_stochastic_errors_keep_their_probable_bounds(order: str) -> None:
    x = np.random.default_rng(0).uniform(0, 1, (2000, 40)).astype(np.float32)
    x = ps.round_to(x, "bf16")
    bits = np.random.default_rng(1).integers(0, 1 << 32, x.shape, np.uint32)
    sums = ps.accumulate(x, "bf16:sr", axis=1, order=order, random_bits=bits)
    errors = np.abs(sums - x.sum(1, dtype=float)) / x.sum(1, dtype=float)
    bound = ps.errors.order_bound(order, 40, "bf16:sr", confidence=0.9)
    assert np.mean(errors > bound) < 0.1
    assert bound < 10 * np.quantile(errors, 0.999)


# Twelve values of 11 bits, found by climbing.
WORST = (
    -0.042938232421875, -10.609375, -0.037017822265625, -0.1182861328125, 0.0195770263671875, 0.00891876220703125,
    -0.035675048828125, -0.06512451171875, -0.10443115234375, -16.5, -0.298828125, -4.25,
)  # fmt: skip


def float_format(precision: int) -> ps.FloatFormat:
    fmt = ps.get_format(f"float(e=8,p={precision})")
    assert isinstance(fmt, ps.FloatFormat)
    return fmt


def error_of_kahan(x: np.ndarray, fmt: ps.FloatFormat) -> np.ndarray:
    """Errors of the sums over the last axis, as multiples of the sums of magnitudes."""
    got = np.asarray(ps.accumulate(x, fmt, order="kahan", axis=-1), np.float64)
    exact = np.array([math.fsum(row) for row in x.tolist()])  # one rounding of 2**-53
    return np.asarray(abs(got - exact) / abs(x).sum(-1))


def test_kahan_errs_by_more_than_twice_u() -> None:
    """So the former bound of exact terms, 2 u + 3 n u**2, was none."""
    fmt = float_format(11)
    u, n = fmt.unit_roundoff, len(WORST)
    (error,) = error_of_kahan(np.array([WORST], np.float32), fmt)
    assert round(error / u, 3) == 2.118
    assert 2 * u + 3 * n * u * u < error < order_bounds._kahan_sum(n, u)


@pytest.mark.long
@pytest.mark.parametrize(
    "precision",
    [2, 4, 8, 22, *(pytest.param(p, marks=pytest.mark.slow) for p in (3, 5, 6, 11, 16))],
)
def test_kahan_keeps_its_bound_on_adverse_terms(precision: int) -> None:
    """Exact terms leave the loop's own roundings; growing ones make the total the smaller one."""
    fmt = float_format(precision)
    rng = np.random.default_rng(precision)
    largest = 0.0
    u = fmt.unit_roundoff
    for n in (n for n in (2, 3, 4, 6, 12, 30) if u + n * u * u < 1):
        shape = (3000, n)
        growth = rng.choice([0.0, 0.7, 1.0, 1.3, 2.0], (3000, 1))
        x = rng.uniform(1, 2, shape) * 2.0 ** np.round(growth * np.arange(n)).clip(0, 40)
        # Ends of binades, signs, and a tail of small terms.
        x = np.where(rng.random(shape) < 0.3, 2.0 ** np.floor(np.log2(x)), x)
        x *= np.where(rng.random((3000, 1)) < 0.5, 1, rng.choice([-1, 1], shape))
        x = np.where(
            np.arange(n) > rng.integers(0, 2 * n, (3000, 1)), x / abs(x).max(-1, keepdims=True), x
        )
        x = np.asarray(ps.round_to(x.astype(np.float32), fmt))
        error = error_of_kahan(x, fmt).max()
        assert error <= order_bounds._kahan_sum(n, u), n
        largest = max(largest, error / u)
    assert largest > 1.2


@pytest.mark.long
@pytest.mark.parametrize("precision", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_kahan_keeps_its_bound_on_all_short_sums(precision: int) -> None:
    """Every sum of three terms of five binades."""
    fmt = float_format(precision)
    values = np.outer(
        2.0 ** np.arange(5), 1 + np.arange(2 ** (precision - 1)) * fmt.machine_epsilon
    )
    values = np.concatenate([values.ravel(), -values.ravel()]).astype(np.float32)
    x = np.stack(np.meshgrid(*[values] * 3), -1).reshape(-1, 3)
    assert error_of_kahan(x, fmt).max() <= order_bounds._kahan_sum(3, fmt.unit_roundoff)


@pytest.mark.slow
def test_bounds_are_within_a_hundred_times_the_errors() -> None:
    """Every order and format at n = 10,000."""
    for (accumulator, order), rows in summation_orders.compute((1000, 10_000)).items():
        _, errors, bounds = rows.T
        assert (errors <= bounds).all(), (accumulator, order)
        assert bounds[-1] <= 100 * errors[-1], (accumulator, order)
