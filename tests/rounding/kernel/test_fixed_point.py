"""Fixed point: SystemC's and ac_fixed's quantisation and overflow modes, in pairs.

fixed_point.csv is typed in from their definitions (IEEE 1666, 7.10; ac_fixed reference manual): a
row for an input, a column for a quantisation mode; a cell has the one result, or those of wrap,
sat, sat_zero and sat_sym where they differ. The second part compares every pair with integers.
"""

import csv
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import precsim as ps
from precsim.oracle import Flags, round_exact
from precsim.rounding.kernel.kernel import round_array

Compare = Callable[..., None]
OVERFLOWS = ("wrap", "sat", "sat_zero", "sat_sym")

with (Path(__file__).parent / "fixed_point.csv").open(encoding="utf-8", newline="") as _file:
    ROWS = list(csv.DictReader(_file))
QUANTISATIONS = tuple(ROWS[0])[2:-1]


def is_value(x: float, expected: float) -> bool:
    """Equal, and no -0: fixed point has one zero."""
    return x == expected and (x != 0 or math.copysign(1, x) == 1)


@pytest.mark.parametrize("quantisation", QUANTISATIONS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['input']}_{row['format']}")
def test_each_pair_of_modes(row: dict[str, str], quantisation: str) -> None:
    results = row[quantisation].split()
    assert len(results) in (1, 4)
    x = float(row["input"])
    for overflow, result in zip(OVERFLOWS, results * (4 // len(results)), strict=True):
        spec = f"{row['format']}:{quantisation}:{overflow}"
        assert is_value(round_exact(x, spec).value, float(result)), spec
        assert is_value(ps.round_to(x, spec).item(), float(result)), spec
        assert is_value(ps.round_to(np.float32(x), spec).item(), float(result)), spec


def test_table_is_complete() -> None:
    assert len(QUANTISATIONS) == 8
    assert {"0.5", "-0.5", "1.5", "-1.5", "7.99", "-8.5"} <= {row["input"] for row in ROWS}


# The model: exact numbers to integers, integers to the range.


def quantised(steps: Fraction, mode: str) -> int:
    """Round a number of steps to an integer."""
    half, floor = Fraction(1, 2), math.floor(steps)
    sign, size = (-1 if steps < 0 else 1), abs(steps)
    up, down = floor + (steps != floor), floor
    match mode:
        case "rtn":
            return down
        case "rtp":
            return up
        case "rtz":
            return sign * math.floor(size)
        case "raz":
            return sign * math.ceil(size)
        case "rto":
            return down if down % 2 else up
        case "rnp":
            return math.floor(steps + half)
        case "rnn":
            return math.ceil(steps - half)
        case "rna":
            return sign * math.floor(size + half)
        case "rnz":
            return sign * math.ceil(size - half)
        case "rne":
            return round(steps)
        case "rno":
            is_tie = steps - floor == half
            return (down if down % 2 else up) if is_tie else math.floor(steps + half)
    raise AssertionError(mode)


def in_range(n: int, low: int, high: int, overflow: str) -> int:
    """What an integer becomes in the range from low to high."""
    match overflow:
        case "wrap":
            return (n - low) % (high - low + 1) + low
        case "saturate":
            return min(max(n, low), high)
        case "saturate_zero":
            return n if low <= n <= high else 0
        case "saturate_symmetric":
            return min(max(n, -high if low < 0 else 0), high)
    raise AssertionError(overflow)


MODES = ("rne", "rna", "rnz", "rno", "rnp", "rnn", "rtz", "raz", "rtp", "rtn", "rto")
LONG_OVERFLOWS = ("saturate", "saturate_symmetric", "saturate_zero", "wrap")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["q1.2", "uq1.2", "q4.-1", "q-1.4", "uq2.0"])
def test_every_pair_equals_the_integer_model(
    name: str, mode: str, assert_same_bits: Compare
) -> None:
    """Every eighth of a step in four times the range, both carriers; the oracle with its flags."""
    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.FixedPointFormat)
    step, size = Fraction(fmt.resolution), 1 << fmt.width
    low = -size // 2 if fmt.is_signed else 0
    high = low + size - 1
    eighths = np.arange(-16 * size, 16 * size + 1)
    integers = [quantised(Fraction(int(k), 8), mode) for k in eighths]
    x = eighths * (float(step) / 8)
    for overflow in LONG_OVERFLOWS:
        spec = ps.RoundingSpec.parse(f"{name}:{mode}:{overflow}")
        results = [in_range(n, low, high, overflow) for n in integers]
        expected = np.array(results) * float(step)
        for dtype in (np.float32, np.float64):
            rounded = round_array(x.astype(dtype), None, spec)
            assert_same_bits(rounded, expected.astype(dtype), inputs=x, what=spec)
        for k in range(len(overflow), x.size, 3):
            value, flags = round_exact(float(x[k]), spec)
            assert is_value(value, expected[k]), (spec, x[k])
            overflowed = results[k] != integers[k] or not low <= integers[k] <= high
            inexact = overflowed or integers[k] * step != Fraction(float(x[k]))
            assert (Flags.OVERFLOW in flags, Flags.INEXACT in flags) == (overflowed, inexact), (
                spec, x[k]
            )  # fmt: skip


# Named cases.


def test_one_tenth_plus_two_tenths() -> None:
    """In quanta: 409.6, 819.2 and 1228.8 in q3.12; 0.8, 1.6 and 2.4 in q3.3."""
    for name, sum_of_rounded, rounded_sum in [
        ("q3.12", 410 + 819, 1229),
        ("q3.12:trn", 409 + 819, 1228),
        ("q3.4", 2 + 3, 5),
        ("q3.4:trn", 1 + 3, 4),
        ("q3.3", 1 + 2, 2),
        ("q3.3:trn", 0 + 1, 2),
        ("uq0.8:rnd_inf", 26 + 51, 77),
    ]:
        fmt = ps.RoundingSpec.parse(name).format
        assert isinstance(fmt, ps.FixedPointFormat)
        x, y = ps.round_to(0.1, name), ps.round_to(0.2, name)
        assert ps.add(x, y, name) == sum_of_rounded * fmt.resolution, name
        assert ps.add(0.1, 0.2, name) == rounded_sum * fmt.resolution, name
        assert ps.round_to(0.1 + 0.2, name) == rounded_sum * fmt.resolution, name


def test_minimum_of_symmetric_saturation() -> None:
    """SC_SAT_SYM: the smallest value is minus the largest; unsigned it is 0."""
    x = np.array([-7.9375, -7.96, -8.0, -8.0625, -1e30, 7.9375, 8.0])
    rounded = ps.round_to(x, "q3.4:sat_sym")
    assert rounded.tolist() == [-7.9375, -7.9375, -7.9375, -7.9375, -7.9375, 7.9375, 7.9375]
    assert round_exact(-8.0, "q3.4:sat_sym") == (-7.9375, Flags.OVERFLOW | Flags.INEXACT)
    assert round_exact(-7.9375, "q3.4:sat_sym") == (-7.9375, Flags.NONE)
    assert ps.round_to([-1.0, 1.0], "uq0.8:sat_sym").tolist() == [0.0, 0.99609375]
    codes = ps.encode(ps.round_to(np.linspace(-9, 9, 500), "q3.4:sat_sym"), "q3.4")
    assert 0x80 not in codes


SPECIALS = [
    # (spec, what inf, -inf and NaN become); NaN is never lost from sight unless asked for.
    ("q3.4", 7.9375, -8.0, math.nan),
    ("q3.4:sat_sym", 7.9375, -7.9375, math.nan),
    ("q3.4:sat_zero", 0.0, 0.0, math.nan),
    ("q3.4:wrap", math.nan, math.nan, math.nan),
    ("q3.4:wrap:saturate_infinity", 7.9375, -8.0, math.nan),
    ("q3.4:wrap:propagate_or_saturate", 7.9375, -8.0, math.nan),
    ("q3.4:nan_to_zero", 7.9375, -8.0, 0.0),
    ("q3.4:sat_sym:nan_to_max", 7.9375, -7.9375, 7.9375),
    ("q3.4:wrap:nan_to_zero", 0.0, 0.0, 0.0),  # an infinity has no residue: it is NaN first
    ("q3.4:wrap:nan_to_max", 7.9375, 7.9375, 7.9375),
    ("uq0.8", 0.99609375, 0.0, math.nan),
    ("uq0.8:sat_sym", 0.99609375, 0.0, math.nan),
    ("uq0.8:sat_zero:nan_to_max", 0.0, 0.0, 0.99609375),
]


@pytest.mark.parametrize(("spec", "plus", "minus", "nan"), SPECIALS)
def test_infinities_and_nan(spec: str, plus: float, minus: float, nan: float) -> None:
    given, expected = [math.inf, -math.inf, math.nan], [plus, minus, nan]
    assert np.array_equal(ps.round_to(given, spec), expected, equal_nan=True)
    assert np.array_equal(ps.round_to(np.array(given, np.float32), spec), expected, equal_nan=True)
    exact = [round_exact(x, spec) for x in given]
    assert np.array_equal([value for value, _ in exact], expected, equal_nan=True)
    is_wrapped = "wrap" in spec and "saturate" not in spec
    flags = Flags.INVALID if is_wrapped else Flags.OVERFLOW | Flags.INEXACT
    assert [f for _, f in exact] == [flags, flags, Flags.NONE]


@pytest.mark.parametrize("overflow", ["sat", "sat_zero", "sat_sym", "wrap"])
def test_far_beyond_the_range(overflow: str) -> None:
    """The carrier's largest number: a multiple of every power of two, hence 0 if it wraps."""
    for dtype in (np.float32, np.float64):
        largest = np.finfo(dtype).max
        expected = {"sat": [7.9375, -8.0], "sat_sym": [7.9375, -7.9375]}.get(overflow, [0.0, 0.0])
        assert ps.round_to(np.array([largest, -largest]), f"q3.4:{overflow}").tolist() == expected
