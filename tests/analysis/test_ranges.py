"""Rates name their denominators; exponents are exact down to the last subnormal."""

import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.analysis.ranges import RangeRates


def test_both_denominators_of_underflow() -> None:
    # A ReLU's output: half of it zeros. Half of the rest underflows.
    values = np.array([0.0] * 50 + [1e-9] * 25 + [1.0] * 25, np.float32)
    rates = ps.range_rates(values, "e4m3")
    assert (rates.underflow_of_all, rates.underflow_of_nonzero) == (0.25, 0.5)
    assert (rates.elements, rates.nonzero, rates.underflowed) == (100, 50, 25)


def test_negative_zeros_are_zeros() -> None:
    # Counted as "nonzero in minus nonzero out", -0 has made a peer's rate negative.
    rates = ps.range_rates(np.array([-0.0, -0.0, -1e-9, 1.0], np.float32), "e4m3")
    assert rates.underflow_of_nonzero == 0.5
    assert rates.underflow_of_all == 0.25


def test_all_rates() -> None:
    values = np.array([2**-7, 1.0, 1e3, -1e3, np.nan, 0.0, 2**-20, np.inf], np.float32)
    rates = ps.range_rates(values, "e4m3:saturate")
    assert rates == RangeRates(
        elements=8, nonzero=6, underflowed=1, subnormal=1, overflowed=0, saturated=2, nan=1
    )
    assert rates.subnormal_of_nonzero == 1 / 6
    assert rates.saturation_of_all == 2 / 8
    assert rates.overflow_of_all == 0.0
    assert ps.range_rates(values, "e4m3").overflow_of_all == 2 / 8


def test_share_of_nothing_is_zero() -> None:
    for values in (np.zeros(0), np.zeros(3), np.full(3, np.nan)):
        rates = ps.range_rates(values, "fp16")
        assert rates.underflow_of_nonzero == rates.underflow_of_all == 0.0


def test_jax_and_numpy_agree_and_large_arrays_are_exact() -> None:
    values = np.random.default_rng(0).standard_normal(40_000).astype(np.float32) * np.float32(1e-3)
    rates = ps.range_rates(values, "e4m3")
    assert rates == ps.range_rates(jnp.asarray(values), "e4m3")
    assert rates.elements == 40_000
    # 2**-10, half the smallest subnormal, is a tie and goes to zero.
    assert rates.underflowed == int(np.sum((np.abs(values) <= 2.0**-10) & (values != 0)))
    assert rates.underflow_of_nonzero > 0.5


def test_stochastic_rounding_needs_its_bits() -> None:
    with pytest.raises(ValueError, match="random_bits"):
        ps.range_rates([1.0], "bf16:sr")
    bits = np.array([0, 2**32 - 1], np.uint32)
    rates = ps.range_rates([2.0**-12, 2.0**-12], "e4m3:sr", random_bits=bits)
    assert rates.underflowed == rates.subnormal == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_histogram_of_every_power_of_two(dtype: type[np.floating]) -> None:
    info = np.finfo(dtype)
    first = info.minexp - info.nmant
    powers = np.ldexp(np.ones(info.maxexp - first, dtype), np.arange(first, info.maxexp))
    below = np.nextafter(powers[1:], dtype(0))  # the largest number of each binade
    exponents, counts, zeros, nonfinite = ps.exponent_histogram(np.concatenate([powers, -below]))
    assert exponents.tolist() == list(range(first, info.maxexp))
    assert counts[:-1].tolist() == [2] * (len(powers) - 1)
    assert (counts[-1], zeros, nonfinite) == (1, 0, 0)


def test_histogram_counts_the_rest_apart() -> None:
    values = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.5, -8.0], np.float32)
    found = ps.exponent_histogram(values.reshape(7, 1))
    assert found.exponents.tolist() == [0, 1, 2, 3]
    assert found.counts.tolist() == [1, 0, 0, 1]
    assert (found.zeros, found.nonfinite) == (2, 3)
    jax_found = ps.exponent_histogram(jnp.asarray(values))
    assert jax_found.counts.tolist() == found.counts.tolist()


def test_histogram_of_nothing_is_empty() -> None:
    for values in ([], [0.0, np.nan]):
        exponents, counts, *_ = ps.exponent_histogram(np.array(values, np.float64))
        assert exponents.shape == counts.shape == (0,)


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match="values has dtype int32"):
        ps.exponent_histogram(np.ones(1, np.int32))
    with pytest.raises(TypeError, match="values has dtype int32"):
        ps.range_rates(np.ones(1, np.int32), "e4m3")
