"""Scales that are powers of two: sums are shifted, with the bits of two float32 products."""

from typing import Any

import numpy as np

import precsim as ps
from precsim.products.scaled.product import scaled_sums
from tests.products.conftest import assert_same_bits, single

F: Any = np.float32


def extreme(count: int, seed: int) -> np.ndarray:
    """Return sums of all magnitudes, with zeros, infinities, NaN and subnormal numbers."""
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore", under="ignore"):
        x = single(rng.normal(size=count) * 2.0 ** rng.integers(-150, 128, count))
    x[:8] = [0, -0.0, np.inf, -np.inf, np.nan, 2.0**-149, -(2.0**-149), 3.4e38]
    return x


def test_shifts_are_two_products_in_float32() -> None:
    """For all pairs of scales that data can give, and lost ones."""
    total = extreme(100, 0)[:, None]
    powers = [-127, -126, -100, -76, -75, -74, -73, -22, -1, 0, 1, 30, 63, 64, 65, 100, 126]
    scales = np.concatenate([np.ldexp(F(1), powers), F([np.nan])])
    left, right = (x.reshape(1, -1) for x in np.meshgrid(scales, scales))
    with np.errstate(all="ignore"):
        expected = scaled_sums(total, left, right)
        got = scaled_sums(total, left, right, are_powers=True)
        assert_same_bits(got, expected)
        one = scaled_sums(total, None, right, are_powers=True)
    assert_same_bits(one, scaled_sums(total, None, right))


def test_products_of_extreme_operands_are_as_without_shifts() -> None:
    """A scale that is given takes the general way: the same power of two gives the same bits."""
    rng = np.random.default_rng(3)
    for power in (-149, -130, -126, -60, 0, 60, 120):
        with np.errstate(under="ignore"):
            a = single(rng.normal(size=(3, 9)) * 2.0**power)
        b = single(rng.normal(size=(9, 4)))
        spec = "e4m3[scale=tensor:pow2]_e4m3[scale=tensor:pow2]_fp32"
        given = {}
        for name, x in (("a", a), ("b", b)):
            q = ps.quantize(x, "e4m3:scale=tensor:pow2")
            scale = np.asarray(q.scales).reshape(())
            given[name] = ps.Scale(scale=scale, factor=F(1) / scale)
        assert_same_bits(
            ps.matmul(a, b, spec, backend="reference"),
            ps.matmul(a, b, spec, backend="reference", scales=given),
        )
