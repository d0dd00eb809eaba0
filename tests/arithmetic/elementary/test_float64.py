"""exp, log and quotients by float64 arithmetic have the bits of integer arithmetic.

The tests marked slow and gpu try all arguments, where the compiled functions run (an H200 takes
three minutes for both: JAX_PLATFORMS=cuda,cpu python -m pytest -m gpu on this file).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.arithmetic import portable
from precsim.arithmetic.elementary import float64
from tests.arithmetic.elementary.test_hard_cases import FUNCTIONS, distances

NAMES = ("exp", "log")
BY_INTEGERS: dict[str, Any] = {"exp": ps.exp, "log": ps.log}
CHUNK = 1 << 24
UNIT = 1 << 11
"""The last place of float64, in the units of `distances`: 2**-63 of the leading bit."""


def wrong(name: str, patterns: Any) -> Any:
    """Return where the bits differ; arguments that are subnormal count as 0, NaN has no payload."""
    magnitude = patterns & jnp.uint32(0x7FFFFFFF)
    bits = jnp.where(magnitude < jnp.uint32(0x00800000), jnp.uint32(0), patterns)
    x = jax.lax.bitcast_convert_type(bits, jnp.float32)
    both = getattr(portable, name)(x), portable.flush(BY_INTEGERS[name](x, "fp32"))
    got, expected = (jax.lax.bitcast_convert_type(y, jnp.uint32) for y in both)
    is_nan = (got & jnp.uint32(0x7FFFFFFF)) > jnp.uint32(0x7F800000)
    return (got != expected) & ~(is_nan & jnp.isnan(both[1]))


def check(name: str, patterns: Any) -> None:
    patterns = jnp.asarray(patterns, jnp.uint32)
    where = np.asarray(jax.jit(wrong, static_argnums=0)(name, patterns))
    assert not where.any(), [hex(p) for p in np.asarray(patterns)[where][:5]]


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_bits_of_float64_are_those_of_integers(name: str) -> None:
    """Near the middles that float64 misses, at special values, and at random ones."""
    near = [p + d for p in float64.near_middle(name) for d in (-1, 0, 1)]
    limits = single_patterns([0, 1, 2.0**-125, 2.0**-126, 88.72284, -86.6434, -104, np.inf, np.nan])
    special = [p + d for p in limits for d in (0, 1, 1 << 31)]
    random = np.random.default_rng(0).integers(0, 1 << 32, 1 << 16, dtype=np.uint64)
    usual = single_patterns(np.random.default_rng(1).standard_normal(1 << 14) * 8)
    check(name, np.array([*near, *special, *random, *usual], np.uint64) & 0xFFFFFFFF)


def single(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32)


def single_patterns(values: Any) -> list[int]:
    """Return the patterns of numbers in float32."""
    return single(values).view(np.uint32).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", NAMES)
def test_listed_arguments_are_near_the_middle_and_have_their_results(name: str) -> None:
    arguments, results = (
        np.array(x, np.uint32) for x in zip(*float64.near_middle(name).items(), strict=True)
    )
    assert (distances(arguments, FUNCTIONS[name]) < 4 * UNIT).all()
    expected = BY_INTEGERS[name](arguments.view(np.float32), "fp32")
    assert expected.view(np.uint32).tolist() == results.tolist()


def test_quotients_of_float64_are_those_of_integers() -> None:
    """Of special values, of any numbers, and of numbers whose quotients are near a middle."""
    special = single([0, -0.0, 1, -3, 2.0**-125, 3e38, np.inf, -np.inf, np.nan])
    x, y = (a.reshape(-1) for a in np.meshgrid(special, special))
    rng = np.random.default_rng(0)
    any_x, any_y = single(
        rng.standard_normal((2, 1 << 14)) * 10.0 ** rng.integers(-18, 18, 1 << 14)
    )
    quotient, over = (
        rng.integers(1 << 24, 1 << 25, 1 << 14),
        rng.integers(1 << 23, 1 << 24, 1 << 14),
    )
    near = single(single((quotient | 1) * over) * 2.0**-48)
    x, y = np.concatenate([x, any_x, near]), np.concatenate([y, any_y, single(over * 2.0**-23)])
    got, expected = portable.divide(jnp.asarray(x), jnp.asarray(y)), portable.divide(x, y)
    assert np.array_equal(
        np.asarray(got).view(np.uint32)[~np.isnan(expected)],
        expected.view(np.uint32)[~np.isnan(expected)],
    )
    assert np.isnan(np.asarray(got)[np.isnan(expected)]).all()


def test_gradients_are_those_of_the_platform() -> None:
    x = jnp.float32(1.5)
    assert jax.grad(portable.exp)(x) == jnp.exp(x)
    assert jax.grad(portable.log)(x) == 1 / x


@pytest.mark.parametrize(
    "mark", [pytest.param(0, marks=[pytest.mark.slow]), pytest.param(1, marks=[pytest.mark.gpu])]
)
@pytest.mark.parametrize("name", NAMES)
def test_all_bits_of_float64_are_those_of_integers(name: str, mark: int) -> None:
    for start in range(0, 1 << 32, CHUNK):
        check(name, np.uint32(start) + np.arange(CHUNK, dtype=np.uint32))
