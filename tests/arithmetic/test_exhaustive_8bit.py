"""Every pair of values of every 8-bit format, every triple of 6-bit ones, against exact integers.

The values of a format are integers in units of its quantum. A result n/d is found among the values
by bisection, comparing ``midpoint * d`` with n in Python integers (arrays of dtype object): neither
a float nor the rounding kernel takes part, so nothing has to be argued about precision.
"""

from fractions import Fraction
from functools import cache, partial
from typing import NamedTuple

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.formats.fixed_point import FixedPointFormat
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec
from tests.arithmetic.conftest import (
    OPERATIONS,
    Floats,
    assert_same_bits,
    finite_values,
    round_each,
)

PAIRWISE = ("add", "subtract", "multiply", "divide")
EIGHT_BITS = [
    name
    for kind in ("float", "fixed")
    for name in ps.list_formats(kind=kind)
    if ps.get_format(name).width == 8
]


class Table(NamedTuple):
    """The values of a format, with what lies beyond the range at both ends."""

    units: Floats
    """Finite values in units of 2**quantum, ascending, as Python integers."""
    quantum: int
    results: Floats
    """What each rank becomes, float64: below the range, the values, above the range."""
    midpoints: Floats
    """Boundaries between the ranks, in units of 2**(quantum - 1)."""
    is_even: Floats
    """Which rank takes a tie from its neighbours."""


@cache
def table(name: str) -> Table:
    fmt = ps.get_format(name)
    values = np.unique(finite_values(name)) + 0.0  # no -0
    exact = [Fraction(v) for v in values.tolist()]
    quantum = 1 - max(v.denominator for v in exact).bit_length()
    units = [int(v / Fraction(2) ** quantum) for v in exact]
    ranks = np.arange(-1, len(units) + 1)
    if isinstance(fmt, FixedPointFormat):
        lowest, highest = values[0], values[-1]
        below, above = units[0] - 1, units[-1] + 1
        is_even = (ranks + units[0]) % 2 == 0
    elif fmt.is_signed:
        highest = np.inf if fmt.has_infinity else np.nan if fmt.has_nan else values[-1]
        lowest = -highest
        # The next value if the format went on: one unit of the largest values' binade away.
        above = units[-1] + (1 << (units[-1].bit_length() - fmt.precision))
        below = -above
        is_even = (ranks - units.index(0)) % 2 == 0
    else:  # E8M0: no zero; one significand bit, which is odd, so ties go up
        lowest, highest = values[0], np.nan
        below, above = -(1 << 1000), 2 * units[-1]
        is_even = ranks < -1
    padded = np.array([below, *units, above], object)
    results = np.array([lowest, *values, highest])
    return Table(np.array(units, object), quantum, results, padded[1:] + padded[:-1], is_even)


def nearest(n: Floats, d: Floats | int, name: str) -> Floats:
    """Round ``n / d * 2**(quantum - 1)``, d > 0, to nearest even; zeros have no sign yet."""
    t = table(name)
    low, high = np.zeros(n.shape, int), np.full(n.shape, t.midpoints.size)
    for _ in range(t.midpoints.size.bit_length()):
        middle = (low + high) // 2
        is_above = (t.midpoints[np.minimum(middle, t.midpoints.size - 1)] * d < n) & (low < high)
        low, high = np.where(is_above, middle + 1, low), np.where(is_above, high, middle)
    # The rank is the number of midpoints below n / d.
    at = np.minimum(low, t.midpoints.size - 1)
    is_tie = (t.midpoints[at] * d == n) & (low < t.midpoints.size)
    rank = low + (is_tie & ~t.is_even[low])
    return np.asarray(t.results[rank])


def with_signs(result: Floats, negative: Floats, name: str, n: Floats) -> Floats:
    """Give zeros their sign, and what an unsigned format cannot hold its meaning."""
    fmt = ps.get_format(name)
    if name == "e8m0":  # no zero and no sign: NaN
        return np.where(n <= 0, np.nan, result)
    return np.where((result == 0) & negative & fmt.has_negative_zero, -0.0, result)


@cache
def pairs(name: str) -> tuple[Floats, Floats, Floats, Floats]:
    """All pairs of finite values, with both zeros; as floats, and in units of the quantum."""
    values = finite_values(name)
    t = table(name)
    units = t.units[np.searchsorted(t.results[1:-1], values)]
    x, y = np.meshgrid(values, values, indexing="ij")
    a, b = np.meshgrid(units, units, indexing="ij")
    return x.reshape(-1), y.reshape(-1), a.reshape(-1), b.reshape(-1)


@cache
def expected_pairs(operation: str, name: str) -> Floats:
    """Every result of an operation, from integers alone."""
    x, y, a, b = pairs(name)
    quantum = table(name).quantum
    assert quantum < 0
    negative = np.signbit(x) ^ np.signbit(y)
    if operation in ("add", "subtract"):
        sign = 1 if operation == "add" else -1
        n = 2 * (a + sign * b)
        both = np.signbit(x) & (np.signbit(y) == (operation == "add"))
        negative = np.where((a == 0) & (b == 0), both, n < 0).astype(bool)
        return with_signs(nearest(n, 1, name), negative, name, n)
    if operation == "multiply":
        n = 2 * a * b
        return with_signs(nearest(n, 1 << -quantum, name), negative, name, n)
    by_zero = b == 0
    n = np.where(b < 0, -a, a) * (1 << (1 - quantum))
    d = np.where(by_zero, 1, np.abs(b))
    result = with_signs(nearest(n, d, name), negative, name, n)
    beyond = table(name).results[np.where(negative, 0, -1)]
    return np.where(by_zero, np.where(a == 0, np.nan, beyond), result)


def check_pairs(operation: str, name: str, *, jitted: bool) -> None:
    x, y, _, _ = pairs(name)
    run = partial(OPERATIONS[operation][0], spec=name)
    a, b = x.astype(np.float32), y.astype(np.float32)
    got = (jax.jit(run) if jitted else run)(a, b)
    expected = expected_pairs(operation, name).astype(np.float32)
    assert_same_bits(got, expected, x, y, note=f"{name} {operation}")


@pytest.mark.long
@pytest.mark.parametrize("name", EIGHT_BITS)
def test_every_pair(name: str) -> None:
    for operation in PAIRWISE:
        check_pairs(operation, name, jitted=False)


@pytest.mark.long
@pytest.mark.parametrize("operation", PAIRWISE)
def test_every_pair_jitted(operation: str) -> None:
    """The same code, compiled; formats differ in constants only."""
    check_pairs(operation, "e4m3", jitted=True)


def expected_triples(name: str) -> tuple[list[Floats], Floats]:
    values = finite_values(name)
    t = table(name)
    units = t.units[np.searchsorted(t.results[1:-1], values)]
    x, y, z = (v.reshape(-1) for v in np.meshgrid(values, values, values, indexing="ij"))
    a, b, c = (v.reshape(-1) for v in np.meshgrid(units, units, units, indexing="ij"))
    n = 2 * a * b + c * (1 << (1 - t.quantum))
    product_negative = np.signbit(x) ^ np.signbit(y)
    zeros = (a * b == 0) & (c == 0)
    negative = np.where(zeros, product_negative & np.signbit(z), n < 0).astype(bool)
    return [x, y, z], with_signs(nearest(n, 1 << -t.quantum, name), negative, name, n)


@pytest.mark.parametrize("name", ["e2m3", "e3m2"])
def test_every_triple_of_six_bits(name: str) -> None:
    """2**18 fused multiply-adds each; e2m3 jitted, e3m2 in NumPy."""
    operands, expected = expected_triples(name)
    assert expected.size == 1 << 18
    run = partial(ps.fma, spec=name)
    got = (jax.jit(run) if name == "e2m3" else run)(*(v.astype(np.float32) for v in operands))
    assert_same_bits(got, expected.astype(np.float32), *operands, note=name)


def test_all_values_take_part() -> None:
    counts = {"e4m3": 254, "e5m2": 248, "e8m0": 255, "q3.4": 256, "e2m3": 64, "e3m2": 64}
    for name, count in counts.items():
        values = finite_values(name)
        assert values.size == count
        assert np.unique(values).size == count - ps.get_format(name).has_negative_zero
    assert len(EIGHT_BITS) >= 10


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_the_integer_reference_agrees_with_the_oracle(name: str) -> None:
    """Two definitions that share no code: bisection among values, and the oracle of operations."""
    x, y, _, _ = pairs(name)
    chosen = np.random.default_rng(7).integers(0, x.size, 60)
    for operation in PAIRWISE:
        expected = expected_pairs(operation, name)[chosen]
        got = [ps.oracle.compute_exact(operation, x[k], y[k], spec=name).value for k in chosen]
        assert_same_bits(np.array(got), expected, x[chosen], y[chosen], note=f"{name} {operation}")


# The other rules against the oracle, each distinct exact result once. Those are float64 numbers:
# sums of multiples of 2**-17 below 2**17 need 36 bits, products of two significands 10 bits.
# Quotients are not, but different ones have different float64 quotients: a/b and c/d differ
# relatively by abs(ad - bc)/(ad), 2**-11 or more for significands of at most 5 bits, and float64
# division errs by 2**-53.
OTHER_RULES = ["e4m3:rtz", "e4m3:rtp:saturate", "e5m2:rtn", "e5m2:rna", "e5m2:rto", "e4m3:raz"]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["e4m3fnuz", "ieee_e3m4", *OTHER_RULES])
@pytest.mark.parametrize("operation", PAIRWISE)
def test_every_pair_under_other_rules(operation: str, text: str) -> None:
    spec = RoundingSpec.parse(text)
    x, y, _, _ = pairs(spec.format.name)
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = np.asarray(getattr(np, operation)(x, y))
    if spec.mode is RoundingMode.TOWARD_NEGATIVE and operation in ("add", "subtract"):
        addend = y if operation == "add" else -y
        cancels = (exact == 0) & ((x != 0) | (np.signbit(x) != np.signbit(addend)))
        exact = np.where(cancels, -0.0, exact)
    expected = round_each(exact, spec, (x, y) if operation == "divide" else ())
    got = OPERATIONS[operation][0](x.astype(np.float32), y.astype(np.float32), spec)
    assert_same_bits(got, expected.astype(np.float32), x, y, note=f"{text} {operation}")


@pytest.mark.slow
@pytest.mark.parametrize("text", ["e3m2:rtz", "e2m3:rtp", "e2m3:rna"])
def test_every_triple_under_other_rules(text: str) -> None:
    spec = RoundingSpec.parse(text)
    (x, y, z), _ = expected_triples(spec.format.name)
    a, b, c = (v.astype(np.float32) for v in (x, y, z))
    got = ps.fma(a, b, c, spec)
    expected = round_each(x * y + z, spec)
    assert_same_bits(got, expected.astype(np.float32), x, y, z, note=text)
