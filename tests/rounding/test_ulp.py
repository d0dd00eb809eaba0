"""`ulp` is the distance to the next value of the format, read off the sorted table of values."""

from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps

Compare = Callable[..., None]
FLOATS = ["e4m3", "e5m2", "e3m2", "e2m3", "e2m1", "e4m3fnuz", "e4m3b11fnuz", "ieee_e3m4"]
FLOATS += ["fp16", "bf16", "float(e=1,p=3)", "binary6p1se", "binary8p3ue"]


def gap(x: float, values: list[Fraction]) -> Fraction:
    """Distance between the neighbours of |x|: above it at a value, the last gap beyond all."""
    k = min(bisect_right(values, abs(Fraction(x))) - 1, len(values) - 2)
    return values[k + 1] - values[k]


@pytest.mark.parametrize("name", FLOATS)
def test_ulp_is_the_distance_to_the_next_value(
    name: str, value_table: Callable[[str], Any]
) -> None:
    """At values, beside them, and between; the table ends with the first value beyond."""
    values = value_table(name).magnitudes
    shown = np.linspace(0, len(values) - 1, min(len(values), 700)).astype(int)
    points = np.array([float(values[k]) for k in shown])
    with np.errstate(over="ignore"):
        x = np.concatenate([points, points * 1.01, np.nextafter(points, 0), [0.0, 1e300, 5e-324]])
    x = np.concatenate([x, -x])
    found = ps.ulp(x, name)
    assert found.dtype == x.dtype
    assert [Fraction(v) for v in found.tolist()] == [gap(v, values) for v in x.tolist()]


@pytest.mark.parametrize("name", ["e4m3", "bf16", "e8m0", "q3.4", "float(e=inf,p=7)"])
def test_float32_float64_and_jit_agree(name: str, assert_same_bits: Compare) -> None:
    fmt = ps.get_format(name)
    high = np.arange(0, 1 << 16, 7, dtype=np.uint32) << 16
    x = (high | 0x1234).view(np.float32)
    if name == "float(e=inf,p=7)":
        x = x[~(np.abs(x) < 2.0**-120)]
    found = ps.ulp(x, fmt)
    with np.errstate(invalid="ignore"):
        wide = ps.ulp(x.astype(np.float64), fmt)
    assert_same_bits(found.astype(np.float64), wide, inputs=x, what=name)
    assert_same_bits(jax.jit(lambda v: ps.ulp(v, fmt))(x), found, inputs=x, what=name)


@pytest.mark.parametrize(("dtype", "name"), [(np.float32, "fp32"), (np.float64, "fp64")])
def test_ulp_of_the_carriers_equals_numpy_spacing(dtype: Any, name: str) -> None:
    unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}").type
    rng = np.random.default_rng(2)
    patterns = rng.integers(0, np.finfo(dtype).max.view(unsigned), 20_000, dtype=unsigned)
    x = np.concatenate([patterns.view(dtype), [dtype(0), np.finfo(dtype).smallest_subnormal]])
    np.testing.assert_array_equal(ps.ulp(x, name), np.spacing(x))
    np.testing.assert_array_equal(ps.ulp(-x, name), np.spacing(x))


def test_formats_with_a_coarse_bottom() -> None:
    """Without subnormals, zero's neighbour is the smallest normal value."""
    coarse = ps.FloatFormat(name="coarse", precision=3, exponent_bits=4, has_subnormals=False)
    x = [0.0, 2.0**-7, 2.0**-6, 2.0**-5]
    assert ps.ulp(x, coarse).tolist() == [2.0**-6, 2.0**-6, 2.0**-8, 2.0**-7]
    assert ps.ulp([1e-45, 1.0, 1.5, 3.0], "e8m0").tolist() == [2.0**-127, 1.0, 1.0, 2.0]


def test_fixed_point_has_one_ulp() -> None:
    x = [0.0, 1e-9, -7.3, 100.0, -0.0]
    assert ps.ulp(x, "q3.4").tolist() == [0.0625] * 5
    assert ps.ulp(x, "q9.-3").tolist() == [8.0] * 5


def test_nan_and_infinity_have_none() -> None:
    for name in ("e4m3", "q3.4", "float(e=inf,p=7)"):
        assert np.isnan(ps.ulp([np.inf, -np.inf, np.nan], name)).all()


def test_unlimited_range_ends_with_the_carrier() -> None:
    tiny = np.float32(2.0**-149)
    assert ps.ulp(np.array([0.0, 2.0**-149, 2.0**-140, 2.0**-100], np.float32), "float(e=inf,p=7)").tolist() == [
        tiny, tiny, 2.0**-146, 2.0**-106
    ]  # fmt: skip


def test_refusals() -> None:
    with pytest.raises(ValueError, match="a float32 carrier cannot hold fp64"):
        ps.ulp(np.float32(1), "fp64")
    with pytest.raises(TypeError, match="x has dtype int8"):
        ps.ulp(np.int8(1), "e4m3")


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_shape_is_kept(shape: tuple[int, ...]) -> None:
    found = ps.ulp(np.ones(shape, np.float32), "e4m3")
    assert (found.shape, str(found.dtype)) == (shape, "float32")


@pytest.mark.parametrize("name", [*FLOATS, "e8m0", "q3.4", "q9.-3", "float(e=inf,p=7)", "fp64"])
def test_the_definition_of_one_number_agrees(name: str) -> None:
    """At zero, below, inside and beyond the range; fractions keep their binade."""
    x = [0.0, -0.0, np.inf, np.nan, 5e-324, 1e300]
    x += [m * 2.0**e for e in range(-160, 140, 7) for m in (1.0, -1.3, 1.999999)]
    expected = ps.ulp(x, name).tolist()
    found = [ps.oracle.ulp_exact(v, name) for v in x]
    np.testing.assert_array_equal(found, expected)
    below_two = 2 - Fraction(1, 2**80)
    assert ps.oracle.ulp_exact(below_two, name) == ps.oracle.ulp_exact(1, name)
