"""The kernel rounds results of arithmetic, whose exact value does not fit into a carrier.

The exact number is the carrier value plus (tail + rest * 2**-width) * 2**-width of its last bit.
What is below the last word given is told by that word's own last bit.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.formats.carrier import FLOAT32, FLOAT64, Carrier
from precsim.rounding.kernel.kernel import round_bits
from precsim.rounding.modes import OverflowMode

Format = ps.FloatFormat | ps.FixedPointFormat
Grid = Callable[[Format, Any], np.ndarray]
Compare = Callable[..., None]


def words(x: np.ndarray, carrier: Carrier, seed: int) -> np.ndarray:
    """Tails at and around the half way point, the ends, and anywhere; 0 beside infinity and NaN."""
    rng = np.random.default_rng(seed)
    top = 1 << (carrier.width - 1)
    special = [0, 1, 2, top - 1, top, top + 1, top + (top >> 1), 2 * top - 1, 2 * top - 2, top >> 1]
    made = rng.integers(0, 2 * top, x.size, dtype=np.uint64)
    chosen = np.array(special, np.uint64)[rng.integers(0, len(special), x.size)]
    made = np.where(np.arange(x.size) % 3 == 0, made, chosen)
    return np.where(np.isfinite(x), made, 0).astype(carrier.uint_dtype)


def last_bit(v: Any, carrier: Carrier) -> int:
    """Exponent of the last bit of a finite carrier value."""
    exponent = int(np.frexp(np.float64(v))[1]) - 1
    return max(exponent if v else carrier.emin, carrier.emin) - carrier.trailing


def oracle_with_tail(
    x: np.ndarray,
    tail: np.ndarray,
    r: np.ndarray,
    spec: ps.RoundingSpec,
    carrier: Carrier,
    more: list[Any],
) -> np.ndarray:
    """Round the numbers whose part after the tail is `more` of the tail's last bit.

    NaN where wrapping needs bits that are not known.
    """
    values = []
    for v, t, m, n in zip(x, tail, more, r, strict=True):
        number: float | Fraction = float(v)
        if np.isfinite(v) and (t or m):
            unit = Fraction(2) ** (last_bit(v, carrier) - carrier.width)
            number = (abs(Fraction(float(v))) + (int(t) + m) * unit) * (-1 if np.signbit(v) else 1)
            if spec.overflow is OverflowMode.WRAP and m:
                assert isinstance(spec.format, ps.FixedPointFormat)
                if last_bit(v, carrier) > -spec.format.fraction_bits:
                    number = np.nan
        name = "fp32" if carrier is FLOAT32 else "fp64"
        values.append(ps.oracle.round_exact(number, spec, random_bits=int(n), carrier=name).value)
    return np.array(values).astype(x.dtype)


def tail_inputs(fmt: Format, carrier: Carrier, grid: Grid) -> Any:
    """Return the grid."""
    return grid(fmt, carrier.float_dtype)


def check_with_tail(
    x: np.ndarray, r: np.ndarray, spec: ps.RoundingSpec, carrier: Carrier, compare: Compare
) -> None:
    """Round with a tail alone, and with a tail and a rest."""
    tail, rest = words(x, carrier, int(r.sum()) % 1000), words(x, carrier, int(r.sum()) % 1001)
    patterns = x.view(carrier.uint_dtype)
    rounded = round_bits(patterns, spec, carrier, tail=tail & ~carrier.uint(1), random_bits=r)
    expected = oracle_with_tail(x, tail & ~carrier.uint(1), r, spec, carrier, [0] * x.size)
    compare(rounded.view(x.dtype), expected, inputs=x, what=f"{spec}, tail")
    # The last bit of a word by itself stands for something below it, unless N bits reach that far.
    if spec.num_random_bits <= 30 or carrier is FLOAT64:
        below = [Fraction(int(t & 1), 3) for t in tail]
        rounded = round_bits(patterns, spec, carrier, tail=tail, random_bits=r)
        expected = oracle_with_tail(x, tail, r, spec, carrier, below)
        compare(rounded.view(x.dtype), expected, inputs=x, what=f"{spec}, sticky tail")
    size = 1 << carrier.width
    rest[rest == size - 1] -= 1  # which would stand for ones without end
    below = [(int(t) + Fraction(int(t & 1), 3)) / size for t in rest]
    rounded = round_bits(patterns, spec, carrier, tail=tail, rest=rest, random_bits=r)
    expected = oracle_with_tail(x, tail, r, spec, carrier, below)
    compare(rounded.view(x.dtype), expected, inputs=x, what=f"{spec}, tail and rest")


def test_kernel_with_tail_equals_oracle(
    fmt: Format, carrier: Carrier, specs: Any, draws: Any, grid: Grid, assert_same_bits: Compare
) -> None:
    """Every other spec, the others with the other carrier: the oracle is slow."""
    points = tail_inputs(fmt, carrier, grid)
    stride = max(1, points.size // 7)
    for k, spec in list(enumerate(specs(fmt)))[carrier is FLOAT64 :: 2]:
        x = np.sort(points[k % stride :: stride])
        check_with_tail(x, draws(x.size, k), spec, carrier, assert_same_bits)


@pytest.mark.slow
def test_kernel_with_tail_equals_oracle_on_the_whole_grid(
    fmt: Format, carrier: Carrier, specs: Any, draws: Any, grid: Grid, assert_same_bits: Compare
) -> None:
    x = np.sort(tail_inputs(fmt, carrier, grid))
    for k, spec in enumerate(specs(fmt)):
        check_with_tail(x, draws(x.size, k), spec, carrier, assert_same_bits)


@pytest.mark.parametrize(
    ("name", "width"), [("q3.20", 32), ("uq0.8", 32), ("q9.-3", 32), ("q3.12", 64)]
)
def test_wrap_far_outside_the_format(
    name: str, width: int, specs: Any, draws: Any, assert_same_bits: Compare
) -> None:
    """The tail enters the integer where the quantum is finer than the carrier's last bit."""
    carrier = FLOAT32 if width == 32 else FLOAT64
    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.FixedPointFormat)
    first = carrier.precision - fmt.fraction_bits - 3
    exponents = np.arange(first, min(first + carrier.width + 6, carrier.bias + 1))
    rng = np.random.default_rng(6)
    x = np.ldexp(rng.uniform(1, 2, exponents.size), exponents).astype(carrier.float_dtype)
    x = np.concatenate([x, -x])
    for k, spec in enumerate(spec for spec in specs(fmt) if spec.overflow is OverflowMode.WRAP):
        check_with_tail(x, draws(x.size, k), spec, carrier, assert_same_bits)


def test_ties_of_random_bits_look_below_the_pattern() -> None:
    """N = 1 and a quarter: half of the random bit. C goes to even, down, unless more follows."""
    x = np.full(3, 1 + 0.25 / 8, np.float32).view(np.uint32)
    zero = np.zeros(3, np.uint32)
    tail, rest = zero.copy(), zero.copy()
    tail[1], rest[2] = 2, 1
    for variant, becomes in (("a", [1, 1, 1]), ("b", [1.125] * 3), ("c", [1, 1.125, 1.125])):
        spec = ps.RoundingSpec.parse(f"e4m3:sr1:{variant}")
        rounded = round_bits(
            x, spec, FLOAT32, tail=tail, rest=rest, random_bits=zero + np.uint32(1)
        )
        assert rounded.view(np.float32).tolist() == becomes


@pytest.mark.parametrize("name", ["fp32", "e4m3", "e5m2fnuz", "e8m0", "q3.4"])
def test_ones_without_end_stand_for_a_number_beyond_the_carrier(
    name: str, specs: Any, draws: Any, oracle: Any, assert_same_bits: Compare
) -> None:
    x = np.array([np.finfo(np.float32).max, -np.finfo(np.float32).max])
    ones = np.full(2, 0xFFFFFFFF, np.uint32)
    for k, spec in enumerate(specs(ps.get_format(name))):
        r = draws(2, k)
        rounded = round_bits(x.view(np.uint32), spec, FLOAT32, tail=ones, rest=ones, random_bits=r)
        expected = oracle(x.astype(np.float64) * 8, r, spec)
        if spec.overflow is OverflowMode.WRAP:
            expected = oracle(np.full(2, np.nan), r, spec)
        with np.errstate(over="ignore"):
            narrow = expected.astype(np.float32)
        assert_same_bits(rounded.view(np.float32), narrow, inputs=x, what=spec)


@pytest.mark.parametrize("name", ["fp32:rne", "fp32:sr32:c", "e4m3:sr8:b", "q3.20:rna:wrap"])
def test_tails_under_jit(name: str, draws: Any, grid: Grid, assert_same_bits: Compare) -> None:
    spec = ps.RoundingSpec.parse(name)
    x = np.resize(grid(spec.format, np.float32), 512)
    arguments = (x.view(np.uint32), words(x, FLOAT32, 1), words(x, FLOAT32, 2), draws(x.size, 0))

    def kernel(patterns: Any, tail: Any, rest: Any, r: Any) -> Any:
        return round_bits(patterns, spec, FLOAT32, tail=tail, rest=rest, random_bits=r)

    expected = kernel(*arguments).view(np.float32)
    compiled = np.asarray(jax.jit(kernel)(*arguments)).view(np.float32)
    assert_same_bits(compiled, expected, inputs=x, what=name)


def test_a_tail_without_leading_number_is_not_zero() -> None:
    """Less than the carrier's smallest number once became NaN in a format without zero."""
    spec = ps.RoundingSpec.parse("e8m0")
    patterns = np.zeros(2, np.uint32)
    rounded = round_bits(patterns, spec, FLOAT32, tail=np.array([1, 0], np.uint32))
    assert rounded[0] == 0x00400000  # 2**-127, the smallest value
    assert np.isnan(rounded.view(np.float32)[1])


def test_wrap_sees_the_tail_where_the_quantum_is_finer_than_the_carriers_last_bit() -> None:
    """2**30 + tail in q3.4: float32's last bit is 2**7, eleven tail bits enter the integer."""
    spec = ps.RoundingSpec.parse("q3.4:wrap")
    patterns = np.full(3, np.float32(2.0**30), np.float32).view(np.uint32)
    # The first tail bit is worth 64, so 1.0625 begins at the seventh: 2**-6 + 2**-10 of 64.
    tail = np.array([0, (1 << 25) + (1 << 21), 1], np.uint32)
    wrapped = round_bits(patterns, spec, FLOAT32, tail=tail).view(np.float32)
    assert wrapped[:2].tolist() == [0.0, 1.0625]
    assert np.isnan(wrapped[2])  # the last bit is sticky: what else is in the number is not known
