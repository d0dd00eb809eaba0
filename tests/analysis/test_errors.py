"""Measures of error: exact hand values, and every special value that the docstrings define."""

import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import precsim as ps

INF, NAN = math.inf, math.nan

# computed, exact, absolute, relative, in ulps of e4m3 (2**-9 at and below 2**-6; 32 from 256 on)
SPECIAL = [
    (1.0, 1.0, 0.0, 0.0, 0.0),
    (0.0, -0.0, 0.0, 0.0, 0.0),
    (0.5, 0.0, 0.5, INF, 256.0),
    (0.0, 2.0**-10, 2.0**-10, 1.0, 0.5),
    (448.0, 512.0, 64.0, 0.125, 2.0),
    (INF, INF, 0.0, 0.0, 0.0),
    (-INF, -INF, 0.0, 0.0, 0.0),
    (-INF, INF, INF, INF, INF),
    (1.0, INF, INF, INF, INF),
    (INF, 1.0, INF, INF, INF),
    (INF, 0.0, INF, INF, INF),
    (NAN, 1.0, NAN, NAN, NAN),
    (1.0, NAN, NAN, NAN, NAN),
    (NAN, NAN, NAN, NAN, NAN),
    (NAN, INF, NAN, NAN, NAN),
]


@pytest.mark.parametrize(("computed", "exact", "absolute", "relative", "in_ulps"), SPECIAL)
def test_elementwise_measures(
    computed: float, exact: float, absolute: float, relative: float, in_ulps: float
) -> None:
    np.testing.assert_equal(float(ps.errors.absolute_error(computed, exact)), absolute)
    np.testing.assert_equal(float(ps.relative_error(computed, exact)), relative)
    np.testing.assert_equal(float(ps.ulp_error(computed, exact, "e4m3")), in_ulps)


def test_ulp_of_an_unlimited_range_at_zero() -> None:
    errors = ps.ulp_error([0.0, 1.0, 5e-324], [0.0, 0.0, 0.0], "float(e=inf,p=4)")
    assert errors.tolist() == [0.0, INF, INF]


def test_correct_rounding_stays_within_half_an_ulp() -> None:
    x = np.random.default_rng(0).standard_normal(2000) * np.exp2(np.arange(2000) % 20 - 12)
    for name in ("e4m3", "fp16", "bf16", "fp32", "q7.8", "e5m2fnuz"):
        errors = ps.ulp_error(ps.round_to(x, name + ":saturate"), x, name)
        inside = np.abs(x) < 120
        assert 0.4 < errors[inside].max() <= 0.5
        assert ps.ulp_error(ps.round_to(x, name + ":rtz"), x, name)[inside].max() < 1


def test_subnormals_are_not_flushed() -> None:
    tiny = jnp.asarray(np.array([1e-45, 3e-45], np.float32))
    assert ps.relative_error(tiny, np.zeros(2)).tolist() == [INF, INF]
    assert ps.errors.absolute_error(tiny, [0.0, 0.0]).tolist() == [2.0**-149, 2.0**-148]
    assert ps.ulp_error(tiny, [0.0, 0.0], "fp32").tolist() == [1.0, 2.0]


def test_narrow_dtypes_are_exact_and_wide_ones_refused() -> None:
    x = np.array([1.1], ml_dtypes.bfloat16)
    assert ps.errors.absolute_error(x, x.astype(np.float64)).tolist() == [0.0]
    assert ps.errors.absolute_error(jnp.ones(2, jnp.bfloat16), [1, 2]).tolist() == [0.0, 1.0]
    with pytest.raises(TypeError, match="computed has dtype complex128"):
        ps.errors.absolute_error(1j, 1.0)
    with pytest.raises(TypeError, match=r"exact has dtype (longdouble|float\d+)"):
        ps.relative_error(1.0, np.ones(1, np.longdouble))


def test_results_are_float64_arrays_of_the_broadcast_shape() -> None:
    for result in (
        ps.errors.absolute_error(np.ones((2, 1), np.float32), np.ones(3)),
        ps.relative_error(np.ones((2, 1), np.float32), np.ones(3)),
        ps.ulp_error(np.ones((2, 1), np.float32), np.ones(3), "fp16"),
    ):
        assert isinstance(result, np.ndarray)
        assert (str(result.dtype), result.shape) == ("float64", (2, 3))
    assert ps.ulp_error(1.0, 1.0, "fp16").shape == ()


@pytest.mark.parametrize(
    "spec", ["mxfp8_e4m3", "mxfp4", "mxint8", "nvfp4", "int8", "uint4_block32"]
)
def test_ulp_error_of_scaled_formats(spec: str) -> None:
    """Each element's quantum times its scale: half of it to nearest, if nothing saturates."""
    x = np.random.default_rng(4).standard_normal((3, 70)).astype(np.float32)
    for axis in (0, 1):
        fmt = f"{spec}_rceil" if spec.startswith("mx") else spec
        q = ps.quantize(x, fmt, axis=axis)
        errors = ps.ulp_error(ps.dequantize(q), x, fmt, axis=axis)
        assert errors.dtype == np.float64
        assert errors.shape == x.shape
        # NVFP4 and affine quotients and products are rounded themselves.
        assert 0.4 < errors.max() <= 0.5 + 1e-4
    # A block's unit is that of its exact values: mxfp4 with amax 6 has steps of 0.5, 1 and 2.
    steps = ps.ulp_error([7.0, 1.0, 3.0], [6.0, 1.5, 2.0], "mxfp4")
    assert steps.tolist() == [0.5, 1.0, 1.0]
    assert np.isnan(ps.ulp_error([1.0, 2.0], [np.nan, 1.0], "mxfp4")).all()


@pytest.mark.long
def test_ulp_error_under_jit() -> None:
    """Without x64: float32, each of the two roundings by precsim, so no subnormal is flushed."""
    exact = np.array([1.05, 500.0, 2.0**-140, 0.0, np.inf, np.inf, -0.0, 1e-45], np.float32)
    computed = np.array([1.0, 448.0, 2.0**-139, 0.0, np.inf, 1.0, 0.0, 0.0], np.float32)
    formats = ("e4m3", "bf16", "mxfp4")

    def errors(c: jax.Array, e: jax.Array) -> list[Any]:
        return [ps.ulp_error(c, e[: c.size], fmt) for fmt in formats]

    for keep in (slice(None), slice(4)):
        traced = jax.jit(errors)(computed[keep], exact[keep])
        for found, fmt in zip(traced, formats, strict=True):
            assert found.dtype == np.float32
            wanted = ps.ulp_error(computed[keep], exact[keep], fmt)
            np.testing.assert_allclose(found, wanted, rtol=3e-7)
    with pytest.raises(TypeError, match="computed has dtype complex64; allowed under jit are"):
        jax.jit(lambda c: ps.ulp_error(c, exact, "bf16"))(computed.astype(np.complex64))


def exact_backward_error(c: np.ndarray, a: np.ndarray, b: np.ndarray) -> Fraction:
    worst = Fraction(0)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            terms = [
                Fraction(x) * Fraction(y)
                for x, y in zip(a[i].tolist(), b[:, j].tolist(), strict=True)
            ]
            scale = sum(map(abs, terms))
            if scale:
                worst = max(worst, abs(Fraction(float(c[i, j])) - sum(terms)) / scale)
    return worst


def test_backward_error_within_its_stated_error() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.standard_normal((4, 50)), generator.standard_normal((50, 3))
    for c in (a @ b, (a @ b).astype(np.float32), ps.round_to(a @ b, "fp16")):
        eta = exact_backward_error(c, a, b)
        stated = ps.gamma(3 * 50 + 2, "fp64") * (1 + float(eta))
        assert abs(Fraction(ps.backward_error(c, a, b)) - eta) <= stated


def test_backward_error_special_values() -> None:
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    assert ps.backward_error(zero, zero, one) == 0.0
    assert ps.backward_error(one, zero, one) == INF
    assert math.isnan(ps.backward_error(one * NAN, one, one))
    assert math.isnan(ps.backward_error(np.array([[NAN, 1.0]]), one, np.ones((1, 2))))
    assert ps.backward_error(one * INF, one, one) == INF
    assert ps.backward_error(one * INF, one * INF, one) == 0.0
    assert ps.backward_error(np.zeros((0, 2)), np.zeros((0, 3)), np.zeros((3, 2))) == 0.0
    with pytest.raises(ValueError, match=r"c has shape \(1, 2\)"):
        ps.backward_error(np.ones((1, 2)), one, one)


def test_backward_error_of_batches_is_the_worst() -> None:
    a, b = np.ones((2, 1, 4)), np.ones((4, 1))
    c = np.array([[[4.0]], [[5.0]]])
    assert ps.backward_error(c, a, b) == 0.25


def test_sqnr_by_hand() -> None:
    assert ps.sqnr([11.0], [10.0]) == pytest.approx(20.0, abs=1e-13)
    assert ps.sqnr([1.0, 1.0], [1.0, 1.0]) == INF
    assert ps.sqnr([], []) == ps.sqnr([0.0], [0.0]) == INF
    assert ps.sqnr([1.0], [0.0]) == -INF
    assert ps.sqnr([INF], [1.0]) == -INF
    assert math.isnan(ps.sqnr([NAN, 1.0], [1.0, 1.0]))
    assert math.isnan(ps.sqnr([INF], [INF]))
    # Squares that float64 does not hold.
    assert ps.sqnr([1.1e300], [1e300]) == pytest.approx(20.0)
    assert ps.sqnr([1.5 * 2.0**-1060], [2.0**-1060]) == pytest.approx(20 * math.log10(2))


def test_sqnr_gains_six_decibels_a_bit() -> None:
    x = np.random.default_rng(2).uniform(1, 2, 20_000)
    gain = ps.sqnr(ps.round_to(x, "float(e=5,p=9)"), x) - ps.sqnr(
        ps.round_to(x, "float(e=5,p=8)"), x
    )
    assert gain == pytest.approx(20 * math.log10(2), abs=0.2)


@pytest.mark.parametrize("name", ["absolute_error", "relative_error", "backward_error", "sqnr"])
def test_measures_in_float64_say_that_they_do_not_run_under_jit(name: str) -> None:
    function = getattr(ps.errors, name, None) or getattr(ps, name)
    words = "is a value that JAX traces; allowed are arrays"
    with pytest.raises(TypeError, match=words) as caught:
        jax.jit(lambda x: function(x, x) if name != "backward_error" else function(x, x, x))(
            jnp.ones((2, 2))
        )
    assert "\n" not in str(caught.value)
