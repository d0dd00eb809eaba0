"""Products and quotients of float32 numbers, against the exact ones rounded once."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from precsim._arrays import Array
from precsim.formats.carrier import FLOAT32
from precsim.rounding.kernel import wide
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.modes import RoundingMode
from precsim.rounding.scaled import float_steps
from precsim.rounding.spec import RoundingSpec

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


def pairs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return patterns; half of their products, and of their quotients, are about the smallest."""
    x, y = patterns(count, seed), patterns(count, seed + 100)
    rng = np.random.default_rng(seed)
    y = rng.permutation(y)
    half, field = y.size // 2, (x >> U(23) & U(255)).astype(int)
    for part, near in ((slice(0, half // 2), 104 - field), (slice(half // 2, half), field + 150)):
        chosen = np.clip(near[part] + rng.integers(-30, 30, near[part].size), 0, 254)
        y[part] = (y[part] & U(0x807FFFFF)) | (chosen.astype(np.uint32) << U(23))
    return x, np.where(y << U(1) == 0, U(0x3F800000), y)


@pytest.mark.parametrize("beside", [-1, 1])
def test_subnormal_products_next_to_a_tie(beside: int) -> None:
    """The exact product is one unit of a 48-bit integer beside the middle of two subnormals."""
    a = np.random.default_rng(beside + 1).integers(1 << 23, 1 << 24, 2000, dtype=np.int64) | 1
    b = np.array([beside * pow(int(each), -1, 1 << 24) % (1 << 24) for each in a])
    middle = (a * b - beside) >> 24
    last = (middle & -middle).astype(np.float64)  # the bit that is half a unit of the result
    x = np.ldexp(a.astype(np.float32), -100)
    y = np.ldexp(b.astype(np.float32), -74 - np.log2(last).astype(np.int64)).astype(np.float32)
    expected = x * y
    assert np.count_nonzero(expected.view(U) & U(1)) > 500  # which a tie would not be
    assert expected.view(U).max() <= 1 << 23
    step = partial(float_steps.multiply, carrier=FLOAT32)
    for run in (step, jax.jit(step)):
        assert np.array_equal(run(x.view(U), y.view(U)), expected.view(U))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("overflow", [float_steps.INFINITY, float_steps.SATURATE])
@pytest.mark.parametrize("name", ["multiply", "divide"])
def test_products_and_quotients_are_those_of_ieee_754(name: str, overflow: Any, seed: int) -> None:
    x, y = pairs(3000, seed)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x.view(np.float32), y.view(np.float32)).view(U)
    if overflow is float_steps.SATURATE:
        expected = np.where(expected << U(1) == U(0xFF000000), expected - U(1), expected)
    step = partial(getattr(float_steps, name), carrier=FLOAT32, overflow=overflow)
    assert np.array_equal(step(x, y), expected)
    assert np.array_equal(jax.jit(step)(x, y), expected)


@pytest.mark.parametrize("pattern", [0x40C00000, 0x42FE0000, 0x3F800001, 0x00000003])
def test_quotients_by_constants_of_which_xla_takes_reciprocals(pattern: int) -> None:
    x = patterns(3000, 7)
    divide = lambda x: float_steps.divide(x, float_steps.constant(x, pattern, FLOAT32), FLOAT32)
    with np.errstate(all="ignore"):
        expected = x.view(np.float32) / U(pattern).view(np.float32)
    assert np.array_equal(jax.jit(divide)(x), expected.view(U))


SPECS = [
    f"{fmt}:{mode}" for fmt in ("e4m3", "e5m2", "e2m1", "q6.0") for mode in ("rne", "rtp", "raz")
]


@pytest.mark.parametrize("text", [*SPECS, "e2m1:sr8", "e4m3:sr", "bf16"])
def test_coarse_steps_are_enough_for_a_rounding(text: str) -> None:
    spec = RoundingSpec.parse(text)
    assert float_steps.is_coarse(spec, FLOAT32) == (text != "bf16")
    if text == "bf16":
        return
    x, y = pairs(2000, 3)
    rng = np.random.default_rng(3)
    # Quotients about the range of the formats, too.
    y[::2] = (x[::2] & U(0x7F800000)) + (rng.integers(-14, 14, y[::2].size) << 23).astype(np.uint32)
    y = np.where(y << U(1) == 0, U(0x3F800000), y)
    random = spec.mode is RoundingMode.STOCHASTIC
    bits = rng.integers(0, 1 << 32, x.size, dtype=np.uint32) if random else None
    powers = rng.integers(-150, 150, x.size).astype(np.int32)

    def once(exact: wide.Wide) -> Array:
        packed = wide.pack(exact, FLOAT32)
        return round_bits(
            packed.bits, spec, FLOAT32, tail=packed.tail, rest=packed.rest, random_bits=bits
        )

    rounded = partial(round_bits, spec=spec, carrier=FLOAT32, random_bits=bits)
    a, b = wide.unpack(x, FLOAT32), wide.unpack(y, FLOAT32)
    shifted = a._replace(exponent=a.exponent + powers)
    assert np.array_equal(rounded(float_steps.coarse_shift(x, powers)), once(shifted))
    if not random:
        quotient = float_steps.coarse_quotient(x, y)
        assert np.array_equal(rounded(quotient), once(wide.divide(a, b, FLOAT32)))
    if random or spec.mode.is_nearest:
        product, inverse = float_steps.multiply(x, y, FLOAT32), float_steps.coarse_product(x, y)
        is_finite = product << U(1) < U(0xFF000000)
        assert np.array_equal(rounded(inverse)[is_finite], rounded(product)[is_finite])
