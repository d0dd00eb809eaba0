"""Tables of bitsandbytes: their bytes, and codes against torch's argmin and exact fractions."""

from fractions import Fraction
from hashlib import sha256
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.formats.dynamic import DynamicFormat

F: Any = np.float32
SIGNED, UNSIGNED = (DynamicFormat(is_signed=sign, block_size=256) for sign in (True, False))
# Of create_dynamic_map(signed=...), bitsandbytes 0.50.2 with torch 2.13.0+cpu.
HASHES = {
    SIGNED: "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c",
    UNSIGNED: "305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398",
}


def numbers(fmt: DynamicFormat, shape: tuple[int, ...]) -> Any:
    """Make numbers of seven decades, with zeros."""
    rng = np.random.default_rng(shape[-1])
    x = rng.normal(size=shape) * 10.0 ** rng.uniform(-7, 0, shape)
    x[rng.random(shape) < 0.05] = 0
    return F(x if fmt.is_signed else np.abs(x))


@pytest.mark.parametrize("fmt", [SIGNED, UNSIGNED], ids=str)
def test_tables_are_those_of_the_library(fmt: DynamicFormat) -> None:
    assert sha256(F(fmt.table).tobytes()).hexdigest() == HASHES[fmt]
    exact = [Fraction(0), Fraction(1)]
    for decade in range(-7, 0):
        parts = 2 ** (decade + (7 if fmt.is_signed else 8))
        middles = [Fraction(1, 10) + Fraction(9 * (2 * k + 1), 20 * parts) for k in range(parts)]
        values = [10 * Fraction(10) ** decade * x for x in middles]
        exact += values + ([-x for x in values] if fmt.is_signed else [])
    for value, x in zip(fmt.table, sorted(exact), strict=True):
        assert abs(Fraction(value) - x) <= abs(x) * Fraction(3, 2**24)


@pytest.mark.parametrize("fmt", [SIGNED, UNSIGNED], ids=str)
def test_codes_are_those_of_argmin(fmt: DynamicFormat) -> None:
    """The steps of bitsandbytes' default backend, backends/default/ops.py, in NumPy."""
    x = numbers(fmt, (3, 700))
    q = ps.quantize(x, fmt)
    blocks = np.pad(x, [(0, 0), (0, 68)]).reshape(3, 3, 256)
    amax = np.abs(blocks).max(-1, keepdims=True)
    scaled = np.clip(blocks * (1 / amax), -1, 1)
    codes = np.abs(scaled[..., None] - F(fmt.table)).argmin(-1)
    assert np.array_equal(q.codes, codes.reshape(3, 768)[:, :700])
    assert np.array_equal(q.scales, amax[..., 0])
    values = (F(fmt.table)[codes] * amax).reshape(3, 768)[:, :700]
    assert np.array_equal(ps.dequantize(q), values)
    assert np.array_equal(ps.round_to(x, fmt), values)


@pytest.mark.parametrize("fmt", [SIGNED, UNSIGNED], ids=str)
def test_codes_are_nearest_and_a_tie_goes_to_the_smaller_value(fmt: DynamicFormat) -> None:
    table = [Fraction(x) for x in fmt.table]
    middles = [(x + y) / 2 for x, y in pairwise(table)]
    around = F([float(x) for x in middles])
    x = np.concatenate(
        [np.nextafter(around, F(-2)), around, np.nextafter(around, F(2)), F(fmt.table)]
    )
    ones = np.ones_like(x)
    codes = ps.quantize(
        np.stack([ones, x], -1), DynamicFormat(is_signed=fmt.is_signed, block_size=2)
    )
    ties = 0
    for number, code in zip(map(float, x), codes.codes[:, 1].tolist(), strict=True):
        distances = [abs(Fraction(number) - value) for value in table]
        assert code == distances.index(min(distances))
        ties += distances.count(min(distances)) > 1
    assert ties > 50


def test_numpy_and_jax_agree_however_they_run() -> None:
    x = numbers(SIGNED, (4, 700))
    x[0, :256], x[1, 3], x[2, 300] = 0, np.nan, -np.inf
    for fmt in ("dynamic8_block256", "udynamic8_block100"):
        expected = ps.round_to(x, fmt)
        for found in (
            ps.round_to(jnp.asarray(x), fmt),
            jax.jit(lambda x, fmt=fmt: ps.round_to(x, fmt))(x),
            jax.vmap(lambda x, fmt=fmt: ps.round_to(x, fmt))(x),
            ps.round_to(x.T.copy(), fmt, axis=0).T,
        ):
            assert np.array_equal(np.asarray(found), expected, equal_nan=True)
    assert jax.grad(lambda x: ps.round_to(x, "udynamic8_block2").sum())(F([1, -2])).tolist() == [
        1,
        1,
    ]


def test_special_values() -> None:
    x = F(
        [
            [0, -0.0, 0, 0],
            [1, np.nan, 2, 3],
            [1, np.inf, 2, 3],
            [-1, 0.5, 1e-40, 0],
            [1e-42, 0, 0, 0],
        ]
    )
    rounded = ps.round_to(x, "dynamic8_block4")
    assert rounded[0].tolist() == [0] * 4
    assert np.isnan(rounded[1:3]).all()
    assert rounded[3].tolist() == [-0.992968738079071, 0.500781238079071, 0, 0]
    assert ps.round_to(F([3, -2, 1]), "udynamic8_block3").tolist()[:2] == [3, 0]
    rates = ps.errors.range_rates(F([3, -2, 1e-9, 0]), "udynamic8_block4")
    assert (rates.overflowed, rates.saturated, rates.underflowed) == (0, 1, 1)
    assert ps.round_to(np.zeros((0, 3), F), "dynamic8_block4").shape == (0, 3)


def test_names_are_read_back_and_what_has_no_meaning_is_refused() -> None:
    assert ps.get_format("dynamic8_block256") == SIGNED
    assert str(ps.RoundingSpec.parse("udynamic8_block2048")) == "udynamic8_block2048"
    refused = {
        "dynamic8_block256:sr": "mode is 'sr' for dynamic8_block256; allowed is 'rne'",
        "dynamic8_block256:infinity": "allowed are 'saturate'",
        "dynamic8": "unknown format 'dynamic8'",
    }
    for text, said in refused.items():
        with pytest.raises(ValueError, match=said):
            ps.RoundingSpec.parse(text)
    with pytest.raises(ValueError, match="lhs is dynamic8_block256, a scaled format"):
        ps.MatmulSpec(lhs="dynamic8_block256", rhs="bf16", accumulator="fp32")
    with pytest.raises(ValueError, match="a table, which has no ulp"):
        ps.ulp_error(F([1]), F([1]), "dynamic8_block256")
    with pytest.raises(ValueError, match="a float64 carrier cannot hold dynamic8_block2"):
        ps.round_to([1.0], "dynamic8_block2")
