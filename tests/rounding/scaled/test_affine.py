"""Affine integer formats against exact fractions, and against ONNX where the two agree."""

from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.rounding.scaled.oracle import quantize_group_exactly

F: Any = np.float32

NAMES = ("int8", "uint8", "int4", "uint2", "int16", "int8_symmetric", "uint4_symmetric")
MIN_NORMAL = {np.float32: 2.0**-126, np.float64: 2.0**-1022}


def groups(count: int, size: int, seed: int, dtype: Any = np.float32) -> Any:
    """Make groups of one sign and of both, of all magnitudes, with zeros and ties."""
    rng = np.random.default_rng(seed)
    top = 126 if dtype == np.float32 else 1000
    x = rng.normal(size=(count, size)) + rng.integers(-2, 3, (count, 1))
    x = np.where(rng.random(x.shape) < 0.3, np.round(x * 8) / 8, x)
    x[rng.random(x.shape) < 0.1] = 0.0
    x[rng.random(x.shape) < 0.05] = -0.0
    x[::4] = np.abs(x[::4])
    x[1::4] = -np.abs(x[1::4])
    x *= 2.0 ** rng.integers(-top - 10, top - 3, (count, 1))
    x[0] = 0.0
    x[1] *= 0 * 1.0
    return x.astype(dtype)


def assert_as_defined(x: Any, name: str, random_bits: Any = None) -> None:
    """Compare codes, scales, zero points and values with the definition."""
    fmt, _, options = name.partition(":")
    spec = ps.RoundingSpec.parse(f"{fmt}_block{x.shape[1]}:{options}".rstrip(":"))
    carrier = {"float32": "fp32", "float64": "fp64"}[str(x.dtype)]
    q = ps.quantize(x, spec, random_bits=random_bits)
    assert q.zero_points is not None
    assert q.scales.dtype == x.dtype
    for k, row in enumerate(x.tolist()):
        draw = None if random_bits is None else random_bits[k].tolist()
        exact = quantize_group_exactly(row, spec, draw, carrier=carrier)
        assert q.codes[k].tolist() == exact.codes, (name, row)
        assert float(q.scales[k, 0]) == exact.scale
        assert int(q.zero_points[k, 0]) == exact.zero_point
    values = ps.dequantize(q)
    steps = q.codes.astype(int) - q.zero_points
    expected = ps.multiply(steps.astype(x.dtype), np.broadcast_to(q.scales, x.shape), carrier)
    assert np.array_equal(values, expected)
    assert np.array_equal(ps.round_to(x, spec, random_bits=random_bits), values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_codes_scales_and_zero_points_are_as_defined(name: str, dtype: Any) -> None:
    with np.errstate(over="ignore", under="ignore"):
        assert_as_defined(groups(40, 6, len(name), dtype), name)


@pytest.mark.parametrize("options", ["rtz", "rtn", "rna", "rto", "sr", "sr4:c"])
def test_modes_are_those_of_the_codes(options: str, draws: Any) -> None:
    x = groups(40, 6, 3)
    random_bits = draws(x.size, 0).reshape(x.shape) if options.startswith("sr") else None
    for name in ("int8", "uint4_symmetric"):
        assert_as_defined(x, f"{name}:{options}", random_bits)


def test_signed_codes_are_shifted_unsigned_ones() -> None:
    x = groups(60, 8, 1)
    for name in ("int8_block8", "int4_symmetric_block8"):
        signed, unsigned = ps.quantize(x, name), ps.quantize(x, f"u{name}")
        half = 1 << (signed.format.bits - 1)  # type: ignore[union-attr]
        assert np.array_equal(signed.codes.astype(int) + half, unsigned.codes)
        assert np.array_equal(ps.dequantize(signed), ps.dequantize(unsigned))


def test_onnx_rounds_twice_in_its_own_example() -> None:
    """Same scale and zero point as DynamicQuantizeLinear; float32's 0.5 / scale is a false tie."""
    x = F([0, 2, -3, -2.5, 1.34, 0.5])
    q = ps.quantize(x, "uint8")
    assert q.scales.tolist() == [F(0.019607844)]
    assert q.zero_points.tolist() == [153]  # type: ignore[union-attr]
    assert q.codes.tolist() == [153, 255, 0, 26, 221, 153 + 25]
    onnx = np.round(x / q.scales) + 153
    assert onnx.tolist() == [153, 255, 0, 26, 221, 153 + 26]
    assert x[5] / q.scales[0] == 25.5 > float(x[5]) / float(q.scales[0])


def test_zero_is_exact_and_the_range_contains_it() -> None:
    for x in ([5.0, 7.0, 0.0], [-5.0, -7.0, 0.0], [-1e-3, 1.0, 0.0]):
        for name in ("int8", "uint4", "int8_symmetric"):
            assert ps.round_to(x, name)[2] == 0
    assert ps.quantize([5.0, 10.0], "uint8").zero_points.tolist() == [0]  # type: ignore[union-attr]
    assert ps.quantize([-5.0, -10.0], "uint8").zero_points.tolist() == [255]  # type: ignore[union-attr]


def test_symmetric_codes_do_not_use_the_lowest() -> None:
    q = ps.quantize([-2.0, 1.0, 2.0], "int4_symmetric")
    assert (q.codes.tolist(), q.scales.tolist()) == ([-7, 4, 7], [2 / 7])
    assert ps.round_to([-7.0, 3.0, 7.0], "int4_symmetric").tolist() == [-7, 3, 7]


def test_zeros_and_tiny_ranges_have_the_smallest_normal_scale() -> None:
    for dtype, least in MIN_NORMAL.items():
        q = ps.quantize(np.zeros(3, dtype), "int8")
        assert (float(q.scales[0]), ps.dequantize(q).tolist()) == (least, [0, 0, 0])
        tiny = np.array([least / 2**20, -least], dtype)
        q = ps.quantize(tiny, "int8")
        assert float(q.scales[0]) == least
        assert ps.dequantize(q).tolist() == [0, -least]


def test_a_range_beyond_the_carrier_is_not_lost() -> None:
    largest = F(3.3e38)
    x = F([largest, -largest, 0.0])
    values = ps.round_to(x, "int8")
    assert abs(values[0] / largest - 1) < 0.01
    assert abs(values[1] / largest + 1) < 0.01
    assert values[2] == 0


@pytest.mark.parametrize("name", ["int8", "uint4_symmetric"])
def test_nan_and_infinity_lose_their_group_only(name: str) -> None:
    x = F([[1, 2, 3, 4], [1, np.nan, 3, 4], [1, -np.inf, 3, 4]])
    values = ps.round_to(x, f"{name}_block4")
    assert np.isfinite(values[0]).all()
    assert np.isnan(values[1:]).all()
    saturated = ps.round_to(x, f"{name}_block4:saturate_infinity")
    assert np.isnan(saturated[1]).all()
    assert saturated[2, 1] < -3e38


def test_granularity() -> None:
    x = F(np.arange(24).reshape(2, 3, 4) - 7)
    shapes = {
        "int8": (1, 1, 1),
        "int8_channel": (1, 3, 1),
        "int8_block2": (2, 2, 4),
    }
    for name, shape in shapes.items():
        q = ps.quantize(x, name, axis=1)
        assert q.scales.shape == shape
        assert q.zero_points is not None
        assert q.zero_points.shape == shape
    per_channel = ps.round_to(x, "int8_channel", axis=1)
    for k in range(3):
        assert np.array_equal(per_channel[:, k], ps.round_to(x[:, k], "int8"))
    per_block = ps.round_to(x, "int8_block2", axis=1)
    for i in range(2):
        for j in range(4):
            row = [ps.round_to(x[i, k : k + 2, j], "int8") for k in (0, 2)]
            assert np.array_equal(per_block[i, :, j], np.concatenate(row))
