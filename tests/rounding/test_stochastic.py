"""Stochastic rounding: IEEE P3109's three laws, counted over all random bit strings."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.formats.carrier import FLOAT32
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.modes import StochasticVariant

Compare = Callable[..., None]


def carries(fraction: Fraction, n: int, variant: str) -> int:
    """How many of the 2**n strings round away from zero (P3109 v4.0, 4.6.2).

    A: floor(f 2**n) + R >= 2**n; B: floor(f 2**(n+1)) + 2 R + 1 >= 2**(n+1); C: f 2**n to nearest,
    ties to even, + R >= 2**n. Each is counted as written.
    """
    size = 1 << n
    if variant == "a":
        return sum(math.floor(fraction * size) + r >= size for r in range(size))
    if variant == "b":
        return sum(math.floor(fraction * 2 * size) + 2 * r + 1 >= 2 * size for r in range(size))
    return sum(round(fraction * size) + r >= size for r in range(size))


# (format, lower neighbour, upper neighbour, what the upper one becomes)
GAPS = [
    ("e4m3", 1.0, 1.125, 1.125),
    ("e4m3", 1.875, 2.0, 2.0),  # the carry changes the binade
    ("e4m3", 0.0, 2.0**-9, 2.0**-9),  # below the smallest subnormal
    ("e4m3", 3 * 2.0**-9, 4 * 2.0**-9, 4 * 2.0**-9),  # between subnormals
    ("e4m3:saturate", 448.0, 480.0, 448.0),  # beyond the largest value
    ("e5m2", 57344.0, 65536.0, math.inf),
    ("e4m3:nearest_of_zero_and_min", 0.0, 2.0**-6, 2.0**-6),
    ("bf16", 0.0, 2.0**-133, 2.0**-133),
    ("q3.4", 0.0625, 0.125, 0.125),
    ("q3.0:wrap", 7.0, 8.0, -8.0),
    ("float(e=inf,p=5)", 1.0, 1.0625, 1.0625),
    ("binary8p4se", 224.0, 240.0, math.inf),
    ("binary4p2sf", 3.0, 4.0, 3.0),
    ("q3.0:sat_zero", 7.0, 8.0, 0.0),
]


@pytest.mark.parametrize("variant", ["a", "b", "c"])
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize(("name", "lower", "upper", "becomes"), GAPS)
def test_count_over_all_bit_strings(
    name: str, lower: float, upper: float, becomes: float, n: int, variant: str
) -> None:
    """At every 64th of the gap: as many strings go up as the standard says, the law is the same
    below the smallest and beyond the largest value, and the mean is off by what the law says.
    """
    x = lower + (upper - lower) * np.arange(64) / 64
    strings = np.arange(1 << n)
    for sign in (1.0, -1.0):
        if name.startswith("q3.0") and sign < 0:
            continue  # -8 is in the format
        inputs = np.broadcast_to(sign * x[:, None], (64, 1 << n))
        rounded = ps.round_to(inputs, f"{name}:sr{n}:{variant}", random_bits=strings)
        up = np.broadcast_to(rounded == sign * becomes, rounded.shape)
        down = rounded == sign * lower
        assert (up | down).all()
        if lower != becomes:
            counted = up.sum(axis=1).tolist()
            assert counted == [carries(Fraction(k, 64), n, variant) for k in range(64)]
        # Monotone in R: a larger string never goes down where a smaller one went up.
        assert (np.diff(up.astype(int), axis=1) >= 0).all()


@pytest.mark.parametrize("n", [1, 3, 8])
@pytest.mark.parametrize(
    ("variant", "least", "most"), [("a", -1, 0), ("b", -0.5, 0.5), ("c", -0.5, 0.5)]
)
def test_mean_over_all_strings_is_the_input_up_to_the_last_random_bit(
    n: int, variant: str, least: float, most: float
) -> None:
    """In units of 2**-n ulp. A is biased toward zero, by less than one; B and C by half at most."""
    size = 1 << n
    fractions = np.arange(1024) / 1024
    x = np.broadcast_to((1 + fractions / 8)[:, None], (1024, size))
    rounded = ps.round_to(x, f"e4m3:sr{n}:{variant}", random_bits=np.arange(size))
    errors = (rounded.mean(axis=1) - x[:, 0]) * 8 * size  # exact: few bits, powers of two
    assert (errors >= least).all()
    assert (errors <= most).all()
    assert (errors > -1).all()
    assert (errors[:: 1024 // size] == 0).all()


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e8m0", "e2m1", "fp16", "q3.4", "uq0.8"])
def test_exact_values_never_change(name: str, assert_same_bits: Compare) -> None:
    fmt = ps.get_format(name)
    assert fmt.width is not None
    values = ps.decode(
        np.arange(0, 1 << fmt.width, 5 if fmt.width > 8 else 1, dtype=np.uint32), fmt
    )
    for r in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        for variant in ("sr1", "sr8:b", "sr31:c", "sr", "sr:b", "sr:c"):
            rounded = ps.round_to(values, f"{name}:{variant}", random_bits=np.uint32(r))
            assert_same_bits(rounded, values, inputs=values, what=variant)


@pytest.mark.parametrize("n", [8, 17, 31, 32])
@pytest.mark.parametrize("variant", ["a", "b", "c"])
def test_first_string_that_carries(n: int, variant: str) -> None:
    """With many bits, look at the two strings around the threshold only, in float64."""
    rng = np.random.default_rng(n)
    size = 1 << n
    fractions = [Fraction(int(k), 1 << 40) for k in rng.integers(1, 1 << 40, 200, dtype=np.uint64)]
    fractions += [
        Fraction(2 * k + 1, 2 * size) for k in (0, 1, 2, size - 2, size - 1)
    ]  # N-bit ties
    fractions += [Fraction(1, 1 << 44), 1 - Fraction(1, 1 << 44)]
    thresholds = []
    for f in fractions:
        nearest = {"a": math.floor(f * size), "b": math.floor(f * size + Fraction(1, 2))}
        thresholds.append(nearest.get(variant, round(f * size)))
    x = np.array([float(1 + f / 8) for f in fractions])
    spec = f"e4m3:sr{n}:{variant}"
    first = np.array([size - t for t in thresholds])
    goes_up = ps.round_to(x, spec, random_bits=np.minimum(first, size - 1)) == 1.125
    assert goes_up.tolist() == [t > 0 for t in thresholds]
    stays = ps.round_to(x, spec, random_bits=np.maximum(first - 1, 0)) == 1.0
    assert stays.tolist() == [t < size for t in thresholds]


def test_only_the_low_bits_are_used() -> None:
    x = np.linspace(1.0, 2.0, 50, dtype=np.float32)
    r = np.arange(50, dtype=np.uint32) % 8
    rounded = ps.round_to(x, "e4m3:sr3", random_bits=r)
    for high in (8, 0xFFFFFFF8):
        np.testing.assert_array_equal(
            ps.round_to(x, "e4m3:sr3", random_bits=r | np.uint32(high)), rounded
        )
    as_signed = (r | np.uint32(0xFFFFFFF8)).view(np.int32)
    np.testing.assert_array_equal(ps.round_to(x, "e4m3:sr3", random_bits=as_signed), rounded)


def test_random_bits_broadcast() -> None:
    x = np.full((3, 4), 1.0625, np.float32)  # half way between 1 and 1.125
    rows = ps.round_to(x, "e4m3:sr1", random_bits=np.array([[0], [1], [0]]))
    assert rows.tolist() == [[1.0] * 4, [1.125] * 4, [1.0] * 4]
    columns = ps.round_to(x, "e4m3:sr1", random_bits=[0, 1, 0, 1])
    assert columns[0].tolist() == [1.0, 1.125, 1.0, 1.125]
    assert (ps.round_to(x, "e4m3:sr1", random_bits=1) == 1.125).all()
    large = ps.round_to(np.full((200, 200), 1.0625), "e4m3:sr1", random_bits=np.arange(200) % 2)
    assert large[7, :4].tolist() == [1.0, 1.125, 1.0, 1.125]


@pytest.mark.parametrize("library", [np, jnp])
def test_missing_random_bits(library: Any) -> None:
    x = library.ones(3, dtype=np.float32)
    with pytest.raises(ValueError, match="random_bits is missing: mode 'sr' of e4m3:sr8 needs one"):
        ps.round_to(x, "e4m3:sr8")
    with pytest.raises(ValueError, match="random_bits is missing"):
        jax.jit(lambda v: ps.round_to(v, "e4m3:sr8"))(x)
    with pytest.raises(ValueError, match="random_bits is missing"):
        round_bits(np.zeros(1, np.uint32), ps.RoundingSpec.parse("e4m3:sr8"), FLOAT32)


def test_random_bits_of_wrong_shape_or_type() -> None:
    x = np.ones((2, 3), np.float32)
    for shape in ((2,), (3, 3), (1, 2, 3)):
        with pytest.raises(
            ValueError,
            match=r"random_bits has shape .*allowed are shapes that broadcast to \(2, 3\)",
        ):
            ps.round_to(x, "e4m3:sr", random_bits=np.zeros(shape, np.uint32))
    with pytest.raises(TypeError, match="random_bits has dtype float64; allowed are integers"):
        ps.round_to(x, "e4m3:sr", random_bits=0.5)


def test_other_modes_ignore_random_bits() -> None:
    x = np.linspace(0, 3, 20, dtype=np.float32)
    np.testing.assert_array_equal(ps.round_to(x, "e4m3", random_bits=7), ps.round_to(x, "e4m3"))


def test_bits_from_jax_neither_change_the_library_nor_round_float64() -> None:
    """1 + 2**-30 once lost its last bit in a float32, since JAX bits decided the library."""
    x = np.array([1 + 2.0**-30])
    r = jnp.array([0xFFFFFFFF], jnp.uint32)
    rounded = ps.round_to(x, "bf16:sr", random_bits=r)
    assert isinstance(rounded, np.ndarray)
    assert rounded.dtype == np.float64
    assert rounded.tolist() == [1 + 2.0**-7]
    with pytest.raises(ValueError, match="x is float64 and random_bits are traced by JAX"):
        jax.jit(lambda r: ps.round_to(x, "bf16:sr", random_bits=r))(r)
    traced = jax.jit(lambda r: ps.round_to(np.full(1, 1.5, np.float32), "bf16:sr", random_bits=r))(
        r
    )
    assert traced.tolist() == [1.5]


@pytest.mark.long
def test_same_bits_under_numpy_jit_and_vmap(assert_same_bits: Compare) -> None:
    x = np.random.default_rng(0).standard_normal((40, 50)).astype(np.float32)
    r = np.random.default_rng(1).integers(0, 1 << 32, x.shape, dtype=np.uint32)
    for name in ("bf16:sr", "e4m3:sr8:b", "fp16:sr13:c"):
        expected = ps.round_to(x, name, random_bits=r)

        def rounded(x: Any, r: Any, name: str = name) -> Any:
            return ps.round_to(x, name, random_bits=r)

        assert_same_bits(jax.jit(rounded)(x, r), expected, inputs=x, what=name)
        assert_same_bits(jax.vmap(rounded)(x, r), expected, inputs=x, what=name)


def test_mean_over_random_strings_is_unbiased() -> None:
    """400,000 draws: the mean is within five standard deviations of the input."""
    rng = np.random.default_rng(11)
    count, fraction = 400_000, 0.3
    x = np.full(count, 1 + fraction / 8)
    up = ps.round_to(x, "e4m3:sr", random_bits=rng.integers(0, 1 << 32, count)) == 1.125
    deviation = math.sqrt(fraction * (1 - fraction) / count)
    assert abs(up.mean() - fraction) < 5 * deviation


def test_variants_are_those_of_the_standard() -> None:
    assert [str(v) for v in StochasticVariant] == ["a", "b", "c"]
    # One bit, half of a quarter: A cuts it off, B rounds it up, C to even (down).
    x = np.full(1, 1 + 0.25 / 8, np.float32)
    for variant, becomes in (("a", 1.0), ("b", 1.125), ("c", 1.0)):
        rounded = ps.round_to(x, f"e4m3:sr1:{variant}", random_bits=[1])
        assert rounded.tolist() == [becomes]
