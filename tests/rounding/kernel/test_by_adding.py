"""Rounding by two float32 additions: the kernel's bits wherever it may be used."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import precsim as ps
from precsim._arrays import Array
from precsim.rounding.kernel import by_adding
from precsim.rounding.kernel.kernel import round_array

SPECS = [
    "fp16", "bf16", "tf32", "e4m3", "e5m2", "e3m2", "ieee_e4m3", "e2m1", "float(e=8,p=2)",
    "float(e=8,p=22)", "float(e=5,p=22)", "float(e=7,p=3)",
    "bf16:saturate:saturate_infinity",
]  # fmt: skip


def differences(spec: ps.RoundingSpec, rounding: Callable[..., Array]) -> Callable[..., Array]:
    """Return a compiled count of the patterns that are rounded otherwise than by the kernel."""
    limit = by_adding.limit(spec)

    def count(first: Array, step: int = 1, size: int = 1 << 20) -> Array:
        bits = first + jnp.arange(size, dtype=jnp.uint32) * np.uint32(step)
        magnitude = bits & np.uint32(0x7FFFFFFF)
        field = (magnitude >> np.uint32(23)).astype(jnp.int32)
        significand = magnitude | np.uint32(1 << 23)
        zeros = lax.population_count((significand & (np.uint32(0) - significand)) - np.uint32(1))
        counts = (field - 150 + zeros.astype(jnp.int32) >= -126) & (field != 0)
        counts = (counts & (field < limit + 127)) | (field == 255) | (magnitude == 0)
        x = lax.bitcast_convert_type(bits, jnp.float32)
        got, right = (
            lax.bitcast_convert_type(y, jnp.uint32)
            for y in (rounding(x, spec), round_array(x, None, spec))
        )
        is_nan = [(y & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000) for y in (got, right)]
        return jnp.sum(counts & (got != right) & ~(is_nan[0] & is_nan[1]))

    return jax.jit(count, static_argnums=(1, 2))


def but_negative_zero(x: Array, spec: ps.RoundingSpec) -> Array:
    """Round by the shorter way of loops that meet no -0, which stays here."""
    is_it = lax.bitcast_convert_type(x, jnp.uint32) == np.uint32(0x80000000)
    return jnp.where(is_it, x, by_adding.round_by_adding(x, spec, has_negative_zero=False))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("rounding", [by_adding.round_by_adding, but_negative_zero])
def test_bits_of_the_kernel(name: str, rounding: Callable[..., Array]) -> None:
    """Patterns from everywhere, then all near ties, the ends of the range, infinity and NaN."""
    spec = ps.RoundingSpec.parse(name)
    assert by_adding.applies(spec)
    assert isinstance(spec.format, ps.FloatFormat)
    count = differences(spec, rounding)
    assert count(jnp.uint32(0), 4093) == 0
    ends = [2.0**k for k in (-126, -25, -15, -8, -1, 0, 7, 15, by_adding.limit(spec))]
    for value in (*ends, spec.format.max_finite, np.inf, -np.inf, -0.0):
        first = np.float32(value).view(np.uint32) - np.uint32(1 << 9)
        assert count(jnp.uint32(first), 1, 1 << 10) == 0, value


def test_a_format_without_bounds() -> None:
    fmt = ps.FloatFormat(name="p9", precision=9, exponent_bits=None, source="a test")
    spec = ps.RoundingSpec(format=fmt)
    assert by_adding.applies(spec)
    assert differences(spec, by_adding.round_by_adding)(jnp.uint32(0), 4093) == 0


def test_bits_of_the_additions_for_fp16() -> None:
    """Which other processors than the CPU use."""
    count = differences(ps.RoundingSpec.parse("fp16"), by_adding.by_adding)
    assert count(jnp.uint32(0), 4093) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fp16", "bf16", "tf32", "e4m3", "e5m2"])
@pytest.mark.parametrize(
    "rounding", [by_adding.round_by_adding, by_adding.by_adding, but_negative_zero]
)
def test_every_pattern(name: str, rounding: Callable[..., Array]) -> None:
    count = differences(ps.RoundingSpec.parse(name), rounding)
    size = 1 << 24
    assert sum(int(count(jnp.uint32(first), 1, size)) for first in range(0, 1 << 32, size)) == 0


@pytest.mark.parametrize(
    "name",
    [
        "fp16:rtz", "fp32", "e8m0", "q3.4", "e4m3fnuz", "fp16:flush_after_rounding", "fp16:saturate",
        "fp16:nearest_of_zero_and_min", "bf16:sr", "float(e=8,p=23)", "fp16:rna", "e5m2:saturate",
        "e2m1:nan_to_zero",
    ],
)  # fmt: skip
def test_what_it_does_not_cover(name: str) -> None:
    """For example: infinity stays where large numbers saturate, so that two patterns are needed."""
    assert not by_adding.applies(ps.RoundingSpec.parse(name))


@pytest.mark.parametrize(
    "fields",
    [
        {"precision": 1, "exponent_bits": 8, "bias": 127, "specials": "fn"},
        {"precision": 3, "exponent_bits": 8, "bias": 128},  # the smallest exponent is -127
        {"precision": 8, "exponent_bits": 5, "has_subnormals": False},
    ],
)
def test_formats_it_does_not_cover(fields: dict[str, Any]) -> None:
    fmt = ps.FloatFormat(name="other", source="a test", **fields)
    assert not by_adding.applies(ps.RoundingSpec(format=fmt))


def test_the_condition_is_needed() -> None:
    """Above the limit the power of two overflows."""
    spec = ps.RoundingSpec.parse("bf16")
    x = np.float32(2.0 ** by_adding.limit(spec))
    assert by_adding.round_by_adding(jnp.float32(x / 2), spec) == x / 2
    assert by_adding.round_by_adding(jnp.float32(2 * x), spec) != 2 * x
