"""Each format has the numbers that its specification prints (facts.csv, one row a format)."""

import csv
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import precsim as ps

with (Path(__file__).parent / "facts.csv").open(encoding="utf-8", newline="") as _file:
    FACTS = list(csv.DictReader(_file))
SMALL = [row for row in FACTS if row["num_finite"]]

each_row = pytest.mark.parametrize("row", FACTS, ids=lambda row: row["format"])
each_small_row = pytest.mark.parametrize("row", SMALL, ids=lambda row: row["format"])


def codes_in(text: str) -> list[int]:
    """Read hexadecimal codes and ranges, such as "7d-7f fd-ff"."""
    codes: list[int] = []
    for part in text.split():
        first, _, last = part.partition("-")
        codes += range(int(first, 16), int(last or first, 16) + 1)
    return codes


def float_format(row: dict[str, str]) -> ps.FloatFormat:
    fmt = ps.get_format(row["format"])
    assert isinstance(fmt, ps.FloatFormat)
    return fmt


def all_values(fmt: ps.FloatFormat) -> np.ndarray:
    assert fmt.width is not None
    return np.asarray(ps.decode(np.arange(1 << fmt.width, dtype=np.uint32), fmt))


def test_table_covers_every_named_float() -> None:
    assert set(ps.list_formats(kind="float")) <= {row["format"] for row in FACTS} | {"tiny"}
    assert all(row["source"] for row in FACTS)


@each_row
def test_exponents_and_bias(row: dict[str, str]) -> None:
    fmt = float_format(row)
    printed = tuple(int(row[key]) for key in ("bias", "emin", "emax"))
    assert (fmt.bias, fmt.emin, fmt.emax) == printed


@each_row
def test_largest_and_smallest_values(row: dict[str, str]) -> None:
    fmt = float_format(row)
    printed = tuple(_number(row[key]) for key in ("max", "min_normal", "min_subnormal"))
    assert (fmt.max_finite, fmt.min_normal, fmt.min_subnormal) == printed


@each_row
def test_codes_of_extreme_values(row: dict[str, str]) -> None:
    fmt = float_format(row)
    assert int(ps.encode(fmt.max_finite, fmt)) == int(row["max_code"], 16)
    smallest_code = 1 if fmt.has_zero else 0
    assert int(ps.encode(fmt.min_subnormal, fmt)) == smallest_code


@each_row
def test_unit_roundoff_is_half_the_gap_above_one(row: dict[str, str]) -> None:
    fmt = float_format(row)
    assert Fraction(fmt.unit_roundoff) == Fraction(1, 2**fmt.precision)
    assert fmt.machine_epsilon == 2 * fmt.unit_roundoff


@each_small_row
def test_codes_of_nan_and_infinity(row: dict[str, str]) -> None:
    values = all_values(float_format(row))
    assert np.flatnonzero(np.isnan(values)).tolist() == codes_in(row["nans"])
    assert np.flatnonzero(np.isinf(values)).tolist() == codes_in(row["infinities"])


@each_small_row
def test_numbers_of_codes(row: dict[str, str]) -> None:
    values = all_values(float_format(row))
    counted = [int(f(values).sum()) for f in (np.isfinite, np.isnan, np.isinf)]
    assert counted == [int(row[key]) for key in ("num_finite", "num_nan", "num_infinity")]


@pytest.mark.parametrize(
    "row", [row for row in FACTS if row["sum_positive"]], ids=lambda row: row["format"]
)
def test_sum_of_positive_finite_values(row: dict[str, str]) -> None:
    values = all_values(float_format(row))
    positive = values[np.isfinite(values) & (values > 0)]
    assert math.fsum(positive) == float(row["sum_positive"])


@pytest.mark.parametrize(
    ("name", "below_one", "above_one"),
    [("e4m3", 55, 70), ("e5m2", 59, 63), ("e2m3", 7, 23), ("e3m2", 11, 19), ("e2m1", 1, 5)],
)
def test_numbers_of_values_below_and_above_one(name: str, below_one: int, above_one: int) -> None:
    values = all_values(float_format({"format": name}))
    finite = values[np.isfinite(values)]
    assert int(((finite > 0) & (finite < 1)).sum()) == below_one
    assert int((finite > 1).sum()) == above_one


# OFP8 1.0, tables 1 and 2: (format, code, value).
OFP8_CODES = [
    ("e4m3", 0b0_1111_110, 448.0),
    ("e4m3", 0b0_0001_000, 2.0**-6),
    ("e4m3", 0b0_0000_111, 0.875 * 2.0**-6),
    ("e4m3", 0b0_0000_001, 2.0**-9),
    ("e4m3", 0b1_0000_000, -0.0),
    ("e5m2", 0b0_11110_11, 57344.0),
    ("e5m2", 0b0_00001_00, 2.0**-14),
    ("e5m2", 0b0_00000_11, 0.75 * 2.0**-14),
    ("e5m2", 0b0_00000_01, 2.0**-16),
    ("e5m2", 0b0_11111_00, math.inf),
    ("e5m2", 0b1_11111_00, -math.inf),
    ("e2m3", 0b0_00_111, 0.875),  # OCP MX 1.0, 5.3.2: the largest subnormals
    ("e3m2", 0b0_000_11, 0.1875),
    ("e8m0", 0x00, 2.0**-127),  # OCP MX 1.0, 5.4.1
    ("e8m0", 0x7F, 1.0),
]


@pytest.mark.parametrize(("name", "code", "value"), OFP8_CODES)
def test_printed_codes(name: str, code: int, value: float) -> None:
    decoded = ps.decode(code, name)
    assert float(decoded) == value
    assert math.copysign(1, float(decoded)) == math.copysign(1, value)
    assert int(ps.encode(value, name)) == code


@pytest.mark.parametrize(
    ("name", "binades"), [("e4m3", 18), ("e5m2", 32), ("fp16", 40)]
)  # Micikevicius et al., arXiv 2209.05433, 3.1, for the 8-bit formats
def test_dynamic_range_in_binades(name: str, binades: int) -> None:
    fmt = float_format({"format": name})
    assert fmt.emax - round(math.log2(fmt.min_subnormal)) + 1 == binades


def test_unlimited_range_has_no_codes_and_no_ends() -> None:
    fmt = float_format({"format": "float(e=inf,p=11)"})
    assert fmt.exponent_bits is None
    assert fmt.width is None
    assert fmt.max_finite == math.inf
    assert fmt.min_normal == fmt.min_subnormal == 0.0
    with pytest.raises(ValueError, match="unlimited exponent range, hence no emin"):
        _ = fmt.emin
    with pytest.raises(ValueError, match="has no codes"):
        ps.decode([1], fmt)
    with pytest.raises(ValueError, match="unlimited exponent range, hence no codes"):
        ps.encode([1.0], fmt)


def _number(text: str) -> float:
    return float.fromhex(text) if text.startswith("0x") else float(text)
