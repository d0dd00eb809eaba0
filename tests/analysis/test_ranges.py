"""Rates name their denominators; exponents are exact down to the last subnormal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.analysis.ranges import ExponentHistogram, RangeRates


def test_both_denominators_of_underflow() -> None:
    # A ReLU's output: half of it zeros. Half of the rest underflows.
    values = np.array([0.0] * 50 + [1e-9] * 25 + [1.0] * 25, np.float32)
    rates = ps.errors.range_rates(values, "e4m3")
    assert (rates.underflow_of_all, rates.underflow_of_nonzero) == (0.25, 0.5)
    assert (rates.elements, rates.nonzero, rates.underflowed) == (100, 50, 25)


def test_negative_zeros_are_zeros() -> None:
    # Counted as "nonzero in minus nonzero out", -0 has made a peer's rate negative.
    rates = ps.errors.range_rates(np.array([-0.0, -0.0, -1e-9, 1.0], np.float32), "e4m3")
    assert rates.underflow_of_nonzero == 0.5
    assert rates.underflow_of_all == 0.25


def test_all_rates() -> None:
    values = np.array([2**-7, 1.0, 1e3, -1e3, np.nan, 0.0, 2**-20, np.inf], np.float32)
    rates = ps.errors.range_rates(values, "e4m3:saturate")
    assert rates == RangeRates(
        elements=8, nonzero=6, underflowed=1, subnormal=1, overflowed=0, saturated=2, nan=1
    )
    assert rates.subnormal_of_nonzero == 1 / 6
    assert rates.saturation_of_all == 2 / 8
    assert rates.overflow_of_all == 0.0
    assert ps.errors.range_rates(values, "e4m3").overflow_of_all == 2 / 8


def test_share_of_nothing_is_zero() -> None:
    for values in (np.zeros(0), np.zeros(3), np.full(3, np.nan)):
        rates = ps.errors.range_rates(values, "fp16")
        assert rates.underflow_of_nonzero == rates.underflow_of_all == 0.0


@pytest.mark.long
def test_jax_and_numpy_agree_and_large_arrays_are_exact() -> None:
    values = np.random.default_rng(0).standard_normal(40_000).astype(np.float32) * np.float32(1e-3)
    rates = ps.errors.range_rates(values, "e4m3")
    assert rates == ps.errors.range_rates(jnp.asarray(values), "e4m3")
    assert rates.elements == 40_000
    # 2**-10, half the smallest subnormal, is a tie and goes to zero.
    assert rates.underflowed == int(np.sum((np.abs(values) <= 2.0**-10) & (values != 0)))
    assert rates.underflow_of_nonzero > 0.5


def test_stochastic_rounding_needs_its_bits() -> None:
    with pytest.raises(ValueError, match="random_bits"):
        ps.errors.range_rates([1.0], "bf16:sr")
    bits = np.array([0, 2**32 - 1], np.uint32)
    rates = ps.errors.range_rates([2.0**-12, 2.0**-12], "e4m3:sr", random_bits=bits)
    assert rates.underflowed == rates.subnormal == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_histogram_of_every_power_of_two(dtype: type[np.floating]) -> None:
    info = np.finfo(dtype)
    first = info.minexp - info.nmant
    powers = np.ldexp(np.ones(info.maxexp - first, dtype), np.arange(first, info.maxexp))
    below = np.nextafter(powers[1:], dtype(0))  # the largest number of each binade
    exponents, counts, zeros, nonfinite = ps.errors.exponent_histogram(
        np.concatenate([powers, -below])
    )
    assert exponents.tolist() == list(range(first, info.maxexp))
    assert counts[:-1].tolist() == [2] * (len(powers) - 1)
    assert (counts[-1], zeros, nonfinite) == (1, 0, 0)


@pytest.mark.long
def test_histogram_counts_the_rest_apart() -> None:
    values = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.5, -8.0], np.float32)
    found = ps.errors.exponent_histogram(values.reshape(7, 1))
    assert found.exponents.tolist() == [0, 1, 2, 3]
    assert found.counts.tolist() == [1, 0, 0, 1]
    assert (found.zeros, found.nonfinite) == (2, 3)
    jax_found = ps.errors.exponent_histogram(jnp.asarray(values))
    assert jax_found.counts.tolist() == found.counts.tolist()


def test_histogram_of_nothing_is_empty() -> None:
    for values in ([], [0.0, np.nan]):
        exponents, counts, *_ = ps.errors.exponent_histogram(np.array(values, np.float64))
        assert exponents.shape == counts.shape == (0,)


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match="values has dtype int32"):
        ps.errors.exponent_histogram(np.ones(1, np.int32))
    with pytest.raises(TypeError, match="values has dtype int32"):
        ps.errors.range_rates(np.ones(1, np.int32), "e4m3")


SCALED = ["mxfp8_e4m3", "mxfp4", "mxint8", "nvfp4", "int8", "uint4", "int4_symmetric_block32"]
SCALED += ["mxfp4:rtz", "mxfp8_e5m2:sr", "int8_channel:sr4", "mxfp4_rceil:raz"]


@pytest.mark.parametrize("spec", SCALED)
def test_rates_of_scaled_formats_follow_the_codes(spec: str) -> None:
    """Count again from what `quantize` chose; padding is no element of the array."""
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((5, 37)) * np.exp2(rng.integers(-12, 4, (5, 37)))).astype(np.float32)
    x[:, 3], x[0] = 0.0, np.ldexp(x[0], -100)
    draws = rng.integers(0, 1 << 32, x.shape, dtype=np.uint32)
    rates = ps.errors.range_rates(x, spec, random_bits=draws)
    q = ps.quantize(x, spec, random_bits=draws)
    result = ps.dequantize(q)
    assert rates.elements == x.size
    assert rates.nonzero == np.count_nonzero(x)
    assert rates.overflowed == rates.nan == 0
    if isinstance(q.format, ps.BlockFormat):
        elements = np.abs(ps.decode(q.codes, q.format.element))
        least = getattr(q.format.element, "min_normal", 0.0)
        assert rates.subnormal == np.count_nonzero((elements != 0) & (elements < least))
        assert rates.underflowed == np.count_nonzero((x != 0) & (result == 0))
        most = elements == ps.decode(ps.encode(elements.max(), q.format.element), q.format.element)
        assert rates.saturated <= np.count_nonzero(most)
    else:
        assert rates.subnormal == 0


def test_saturation_of_blocks_by_hand() -> None:
    """mxfp4: amax 31 has scale 4, so that 24 is the largest value; the tie 28 would go to 32."""
    x = np.array([31.0, 28.0, 27.9, 28.5, 24.0, 0.9, 2.0, -28.5], np.float32)
    rates = ps.errors.range_rates(x, "mxfp4")
    assert (rates.saturated, rates.underflowed, rates.subnormal) == (4, 1, 1)
    assert (
        ps.errors.range_rates(x, "mxfp4:sr", random_bits=0).saturated == 0
    )  # 32 is the next value
    assert ps.errors.range_rates(x, "mxfp4_rceil").saturated == 0


def test_a_block_lost_to_nan_overflowed() -> None:
    x = np.array([[1.0, np.nan, 2.0], [1.0, 2.0, 3.0], [np.inf, 0.0, 1.0]], np.float32)
    rates = ps.errors.range_rates(x, "mxfp4")
    assert (rates.overflowed, rates.saturated, rates.nan, rates.elements) == (4, 0, 1, 9)
    kept = ps.errors.range_rates(x[2], "mxfp4:saturate_infinity")
    assert (kept.overflowed, kept.saturated, kept.underflowed) == (0, 1, 1)


def test_blocks_run_along_the_axis() -> None:
    x = np.array([[1.0, 1e-9], [1.0, 1e-9]], np.float32)
    assert ps.errors.range_rates(x, "mxfp4", axis=1) == ps.errors.range_rates(x.T, "mxfp4", axis=0)
    assert ps.errors.range_rates(x, "mxfp4", axis=1).underflowed == 2
    assert ps.errors.range_rates(x, "mxfp4", axis=0).underflowed == 0


@pytest.mark.long
def test_measures_under_jit_count_the_same_integers() -> None:
    x = np.array([0.0, -0.0, np.nan, np.inf, 1e-40, 3.0, 500.0, 2**-7, 1e-9], np.float32)
    specs = ("e4m3", "mxfp4", "int8")

    def measure(x: jax.Array) -> tuple[list[RangeRates], ExponentHistogram]:
        return [ps.errors.range_rates(x, s) for s in specs], ps.errors.exponent_histogram(x)

    rates, histogram = jax.jit(measure)(x)
    for spec, found in zip(specs, rates, strict=True):
        expected = ps.errors.range_rates(x, spec)
        assert all(isinstance(count, int) for count in expected)
        assert {count.dtype for count in found} == {np.dtype(np.int32)}
        assert tuple(map(int, found)) == expected
        assert float(found.underflow_of_nonzero) == pytest.approx(expected.underflow_of_nonzero)
    expected_histogram = ps.errors.exponent_histogram(x)
    here = np.flatnonzero(histogram.counts)
    assert histogram.counts.dtype == np.int32
    assert histogram.counts.shape == histogram.exponents.shape
    occurring = expected_histogram.counts > 0
    np.testing.assert_array_equal(
        histogram.exponents[here], expected_histogram.exponents[occurring]
    )
    np.testing.assert_array_equal(histogram.counts[here], expected_histogram.counts[occurring])
    assert (int(histogram.zeros), int(histogram.nonfinite)) == (2, 2)
