"""Tile formats against exact fractions, and against TransformerEngine's arithmetic in NumPy."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import precsim as ps
from precsim.rounding.scaled.oracle import quantize_tile_exactly

F: Any = np.float32


def tiles(count: int, size: int, seed: int) -> Any:
    """Make tiles of all magnitudes, with zeros, a tile of zeros, and subnormal ones."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, size)) * 2.0 ** rng.integers(-8, 8, (count, size))
    x[rng.random(x.shape) < 0.1] = 0.0
    x *= 2.0 ** rng.integers(-150, 110, (count, 1))
    x[0] = 0.0
    x[1] = 2.0**-149
    with np.errstate(under="ignore"):
        return x.astype(np.float32)


@pytest.mark.parametrize(
    "name",
    [
        "e4m3:scale=row",
        "e5m2:scale=row:pow2",
        "e2m1:scale=row:rtz",
        "e4m3fnuz:scale=row:rtp",
        "e4m3:scale=row:sr8",
        "bf16:scale=row:infinity",
    ],
)
def test_scales_and_elements_are_as_defined(name: str, draws: Any) -> None:
    x = tiles(40, 6, len(name))
    spec = ps.RoundingSpec.parse(name)
    bits = draws(x.size, 0).reshape(x.shape) if "sr" in name else None
    q = ps.quantize(x, spec, random_bits=bits)
    values = ps.decode(q.codes, spec.format.element)  # type: ignore[union-attr]
    for k, row in enumerate(x.tolist()):
        draw = None if bits is None else bits[k].tolist()
        exact = quantize_tile_exactly(row, spec, draw)
        assert values[k].tolist() == exact.elements, (name, row)
        assert float(q.scales[k, 0]) == exact.scale
    with np.errstate(under="ignore", over="ignore"):
        assert np.array_equal(ps.dequantize(q), ps.multiply(F(values), q.scales + 0 * x, "fp32"))
    assert np.array_equal(ps.round_to(x, spec, random_bits=bits), ps.dequantize(q))


def te_scale(amax: Any, largest: float, *, pow2: bool) -> Any:
    """Return the factor of compute_scale_from_amax (TransformerEngine, recipe_common.cuh)."""
    if not np.isfinite(amax) or amax == 0:
        return F(1)
    with np.errstate(over="ignore"):
        scale = F(largest) / amax
    if np.isinf(scale):
        scale = np.finfo(np.float32).max
    return (scale.view(np.uint32) & np.uint32(0xFF800000)).view(np.float32) if pow2 else scale


@pytest.mark.parametrize("pow2", [False, True])
def test_tensor_scales_are_those_of_transformer_engine(pow2: bool) -> None:
    """A saturating cast of x * scale, and 1 / scale: the float32 operations of its kernels.

    torchao takes the maximum of amax and 1e-12 and divides in float64 (amax_to_scale, pytorch/ao,
    float8_utils.py); then to_fp8_saturated clamps and casts. Both are compared.
    """
    rng = np.random.default_rng(1)
    casts = (("e4m3", 448.0, ml_dtypes.float8_e4m3fn), ("e5m2", 57344.0, ml_dtypes.float8_e5m2))
    for name, largest, dtype in casts:
        for power in (-20, 0, 30):
            x = F(rng.normal(size=(9, 11)) * 2.0**power)
            q = ps.quantize(x, f"{name}:scale=tensor" + (":pow2" if pow2 else ""))
            factor = te_scale(np.abs(x).max(), largest, pow2=pow2)
            clamped = np.clip(x * factor, -F(largest), F(largest))
            assert np.array_equal(q.codes, clamped.astype(dtype).view(np.uint8))
            assert q.scales.item() == F(1) / factor
            wide = F(np.float64(largest) / np.maximum(np.abs(x).max().astype(np.float64), 1e-12))
            assert pow2 or wide == factor


def test_tiles_lie_along_the_axis() -> None:
    x = np.random.default_rng(2).normal(size=(2, 5, 7)).astype(np.float32)
    for axis, arranged in ((-1, x), (-2, x.swapaxes(1, 2))):
        q = ps.quantize(x, "e4m3:scale=2x3", axis=axis)
        expected = np.zeros_like(arranged)
        for n, i, j in np.ndindex(2, 4, 3):
            here = np.s_[n, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3]
            if arranged[here].size:
                expected[here] = ps.round_to(arranged[here], "e4m3:scale=tensor")
        expected = expected if axis == -1 else expected.swapaxes(1, 2)
        assert np.array_equal(ps.dequantize(q), expected)
    assert q.scales.shape == (2, 2, 4)
    assert ps.quantize(x, "e4m3:scale=row").scales.shape == (2, 5, 1)
    assert ps.quantize(x[0, 0], "e4m3:scale=1x4").scales.shape == (2,)


def test_special_values() -> None:
    row = F([1.0, np.nan, np.inf, -2.0])
    kept = ps.round_to(row, "e5m2:scale=row")
    assert np.array_equal(kept, F([1.0, np.nan, np.inf, -2.0]), equal_nan=True)
    saturated = ps.round_to(row, "e4m3:scale=row:saturate_infinity")
    assert np.array_equal(saturated, F([1.0, np.nan, 448.0, -2.0]), equal_nan=True)
    assert np.isnan(ps.round_to(row, "e2m1:scale=row")).all()


def test_strings_and_what_is_refused() -> None:
    for text in ("e4m3:scale=1x128", "binary8p4se:scale=tensor:pow2:rtz", "e5m2:scale=row:sr8"):
        spec = ps.RoundingSpec.parse(text)
        assert str(spec) == text
        assert ps.RoundingSpec.parse(str(spec)) == spec
        assert ps.get_format(spec.format.name) == spec.format
    assert str(ps.RoundingSpec.parse("e4m3:saturate:scale=row")) == "e4m3:scale=row"
    for text, said in {
        "e4m3:scale=12": "scale is '12'; allowed are 'tensor', 'row', and tiles such as '1x128'",
        "e4m3:scale=row:scale=row": "allowed is scale= once",
        "e4m3:pow2": "allowed is scale= once",
        "q3.4:scale=row": "element is q3.4; allowed with a scale are signed floats",
        "fp64:scale=row": "element is fp64; allowed with a scale are signed floats",
    }.items():
        with pytest.raises(ValueError, match=said):
            ps.RoundingSpec.parse(text)
    with pytest.raises(ValueError, match="across is 2, along None; allowed are"):
        ps.TileFormat(element="e4m3", across=2)
    with pytest.raises(ValueError, match="a float64 carrier cannot hold e4m3:scale=row"):
        ps.round_to([1.0], "e4m3:scale=row")


def test_range_events_are_those_of_the_elements() -> None:
    rates = ps.errors.range_rates(F([1.0, 1e-9, 500.0, 0.0]), "e4m3:scale=row")
    assert (rates.saturated, rates.underflow_of_nonzero) == (0, 1 / 3)
    units = ps.errors.ulp_error(F([1.0, 500.0]), F([1.0, 500.0]), "e4m3:scale=row")
    assert units.tolist() == [0.0, 0.0]
