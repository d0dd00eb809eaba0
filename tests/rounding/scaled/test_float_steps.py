"""Products with powers of two, against the exact product rounded once."""

from typing import Any

import numpy as np
import pytest

from precsim.formats.carrier import FLOAT32
from precsim.rounding.scaled import float_steps

U: Any = np.uint32


def patterns(count: int, seed: int) -> np.ndarray:
    """Return patterns of finite numbers: of any kind, subnormal, next to powers of two, ends."""
    rng = np.random.default_rng(seed)
    any_kind = rng.integers(0, FLOAT32.infinity, count, dtype=np.uint32)
    subnormal = rng.integers(0, 1 << 23, count, dtype=np.uint32)
    powers = rng.integers(1, 255, count, dtype=np.uint32) << U(23)
    near = powers + rng.integers(-2, 3, count).astype(np.uint32)
    ends = U([0, 1, 2, 3, (1 << 23) - 1, 1 << 23, (1 << 23) + 1, FLOAT32.infinity - 1])
    magnitudes: np.ndarray = np.concatenate([any_kind, subnormal, near, ends])
    signs: np.ndarray = rng.integers(0, 2, magnitudes.size, dtype=np.uint32) << U(31)
    result: np.ndarray = magnitudes | signs
    return result


@pytest.mark.parametrize("seed", range(3))
def test_times_a_power_of_two_is_the_exact_product_rounded_once(seed: int) -> None:
    x = patterns(2000, seed)
    exponents = np.random.default_rng(seed).integers(-300, 301, x.size).astype(np.int32)
    exponents[:500] = np.arange(500) % 60 - 160  # where results are subnormal or just above
    got = float_steps.times_power_of_two(x, exponents, FLOAT32).view(np.float32)
    wide = x.view(np.float32).astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        exact = np.ldexp(wide, exponents)  # float64 holds all of them, but for far ends
        expected = exact.astype(np.float32)
    assert np.array_equal(got.view(U), expected.view(U))


def test_exponents_of_powers_from_half_the_smallest_normal_number_on() -> None:
    exponents = np.arange(-127, 128)
    powers = np.ldexp(np.float32(1), exponents).view(U)
    assert float_steps.exponent_of(powers, FLOAT32).tolist() == exponents.tolist()
