"""The oracle, against a search in the sorted table of all values, and against printed facts."""

import csv
import math
from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.oracle import Flags, round_exact
from precsim.rounding.modes import OverflowMode, RoundingMode, SubnormalMode

DETERMINISTIC = tuple(mode for mode in RoundingMode if mode is not RoundingMode.STOCHASTIC)
SMALL = ("e4m3", "e5m2", "e3m2", "e2m1", "e4m3fnuz", "float(e=3,p=2)", "binary6p3se", "binary7p4sf")

with (Path(__file__).parent / "halfway.csv").open(encoding="utf-8", newline="") as _file:
    HALFWAY = list(csv.DictReader(_file))


def same(x: float, y: float) -> bool:
    """Equal as values of a format: NaN equals NaN, -0 differs from 0."""
    if math.isnan(x) or math.isnan(y):
        return math.isnan(x) and math.isnan(y)
    return x == y and math.copysign(1, x) == math.copysign(1, y)


def number(text: str) -> float:
    return float.fromhex(text) if "0x" in text else float(text)


@pytest.mark.parametrize("mode", DETERMINISTIC)
@pytest.mark.parametrize("row", HALFWAY, ids=lambda row: f"{row['format']}_{row['input']}")
def test_halfway_cases(row: dict[str, str], mode: RoundingMode) -> None:
    """Every row of halfway.csv, from the oracle and from the kernel."""
    x, expected = number(row["input"]), number(row[mode])
    for rounded in (
        round_exact(x, f"{row['format']}:{mode}").value,
        ps.round_to(x, row["format"], mode=mode).item(),
        ps.round_to(np.float32(x), row["format"], mode=mode).item(),
    ):
        assert same(rounded, expected), rounded


# Independent definition: the two neighbours in the table of all values, and who wins.


def choose(
    x: Fraction, lower: Fraction, upper: Fraction, lower_is_odd: bool, negative: bool, mode: str
) -> Fraction:
    """Pick a neighbour of a magnitude strictly between two."""
    nearest = lower if x - lower < upper - x else upper
    tie = x - lower == upper - x
    return {
        "rne": (upper if lower_is_odd else lower) if tie else nearest,
        "rna": upper if tie else nearest,
        "rnz": lower if tie else nearest,
        "rno": (lower if lower_is_odd else upper) if tie else nearest,
        "rnp": (lower if negative else upper) if tie else nearest,
        "rnn": (upper if negative else lower) if tie else nearest,
        "rtz": lower,
        "raz": upper,
        "rtp": lower if negative else upper,
        "rtn": upper if negative else lower,
        "rto": lower if lower_is_odd else upper,
    }[mode]


def search(
    x: Fraction, negative: bool, mode: str, values: list[Fraction], odd: list[bool]
) -> Fraction:
    """Round a magnitude to the sorted values; from the last one on, to the last one."""
    k = bisect_right(values, x) - 1
    if values[k] == x or k == len(values) - 1:
        return values[k]
    return choose(x, values[k], values[k + 1], odd[k], negative, mode)


def expected(x: Fraction, negative: bool, spec: ps.RoundingSpec, table: Any) -> tuple[float, Flags]:
    """Round and flag, with the table of values instead of arithmetic on exponents."""
    fmt, mode = spec.format, str(spec.mode)
    assert isinstance(fmt, ps.FloatFormat)
    values, odd = table
    smallest = Fraction(fmt.min_normal)
    before = spec.subnormals is SubnormalMode.FLUSH_BEFORE_ROUNDING
    if before and x < smallest:
        return (-0.0 if negative and fmt.has_negative_zero else 0.0), (
            Flags.INEXACT | Flags.UNDERFLOW if x else Flags.NONE
        )
    if spec.subnormals is SubnormalMode.NEAREST_OF_ZERO_AND_MIN:
        kept = [k for k, v in enumerate(values) if v == 0 or v >= smallest]
        values, odd = [values[k] for k in kept], [odd[k] for k in kept]
    result = search(x, negative, mode, values, odd)
    if spec.subnormals is SubnormalMode.FLUSH_AFTER_ROUNDING and result < smallest:
        result = Fraction(0)
    # Tiny (IEEE 754-2019, 7.5): the result of an unlimited range would be below the smallest
    # normal.
    below = smallest * (1 - Fraction(1, 2**fmt.precision))
    tiny = x <= below or (
        x < smallest and choose(x, below, smallest, True, negative, mode) == below
    )
    if spec.subnormals is SubnormalMode.FLUSH_TINY and tiny:
        result = Fraction(0)
    if spec.subnormals is SubnormalMode.FLUSH_AS_CHOP and result < smallest:
        raised = {"rne": result >= smallest / 2, "rtp": not negative, "rtn": negative}
        result = smallest if result and raised.get(mode) else Fraction(0)
    flags = Flags.NONE if result == x else Flags.INEXACT
    sign = -1.0 if negative else 1.0
    if result == values[-1]:
        flags |= Flags.OVERFLOW | Flags.INEXACT
        inward = mode in ("rtz", "rtp" if negative else "rtn")
        if mode == "rto":  # to the odd code, which is that of the largest value or of infinity
            inward = not fmt.has_infinity or bool(ps.encode(fmt.max_finite, fmt) % 2)
        saturates = {
            OverflowMode.SATURATE: True,
            OverflowMode.INFINITY_OR_MAX: not fmt.has_infinity,
            OverflowMode.INFINITY: not (fmt.has_infinity or fmt.has_nan),
        }[spec.overflow]
        if inward or saturates:
            return sign * fmt.max_finite, flags
        return sign * math.inf if fmt.has_infinity else math.nan, flags
    if flags and tiny:
        flags |= Flags.UNDERFLOW
    if result == 0 and not fmt.has_negative_zero:
        sign = 1.0
    return sign * float(result), flags


@pytest.mark.parametrize("mode", DETERMINISTIC)
@pytest.mark.parametrize("name", SMALL)
def test_oracle_equals_table_search(
    name: str, mode: RoundingMode, value_table: Callable[[str], Any]
) -> None:
    """Two points in every other gap between neighbours, more at the ends and beyond; both signs.

    Two modes together look at all gaps.
    """
    table = value_table(name)
    values = table.magnitudes
    points = values[::8]
    rng = np.random.default_rng(len(name))
    parity = DETERMINISTIC.index(mode) % 2
    for k, (lower, upper) in enumerate(pairwise(values)):
        gap = upper - lower
        somewhere = Fraction(int(rng.integers(1, 1 << 40)), 1 << 40)
        if k % 2 == parity or len(values) < 40:
            points += [lower + gap / 2, lower + gap * somewhere]
        if k < 4 or k > len(values) - 4 or upper == ps.get_format(name).min_normal:  # type: ignore[union-attr]
            points += [
                lower + gap * Fraction(n, 1 << 60) for n in (1, (1 << 59) + 1, (1 << 60) - 1)
            ]
            points += [lower + gap * Fraction(3, 4), lower + gap * Fraction(7, 8)]
    points += [values[-1] * 2, values[-1] * 10**30, Fraction(1, 10**30)]
    overflows = (OverflowMode.INFINITY, OverflowMode.SATURATE, OverflowMode.INFINITY_OR_MAX)
    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.FloatFormat)
    has_chop = fmt.precision >= 3 and mode in ("rne", "rtp", "rtn", "rtz")
    allowed = [m for m in SubnormalMode if has_chop or m != "flush_as_chop"]
    policies = [(o, s) for s in allowed for o in overflows]
    for k, x in enumerate(points):
        overflow, subnormals = policies[k % len(policies)]
        spec = ps.RoundingSpec(format=fmt, mode=mode, overflow=overflow, subnormals=subnormals)
        for negative in (False, True):
            signed = -0.0 if negative and x == 0 else -x if negative else x
            value, flags = round_exact(signed, spec)
            wanted, wanted_flags = expected(x, negative, spec, table)
            assert same(value, wanted), (spec, signed)
            assert flags == wanted_flags, (spec, signed)


# (input, spec, result, source): what becomes of large numbers, infinities and NaN.
INF, NAN = math.inf, math.nan
OVERFLOWS = [
    (464.0, "e4m3", 448.0, "OFP8 1.0; ml_dtypes"),
    (math.nextafter(464.0, INF), "e4m3", NAN, "OFP8 1.0; ml_dtypes"),
    (math.nextafter(464.0, INF), "e4m3:saturate", 448.0, "ONNX saturate; NVIDIA satfinite"),
    (448.5, "e4m3", 448.0, "round first, then test for overflow (onnx 4805)"),
    (61440.0, "e5m2", INF, "OFP8 1.0; ml_dtypes"),
    (math.nextafter(61440.0, 0.0), "e5m2", 57344.0, "OFP8 1.0; ml_dtypes"),
    (61440.0, "e5m2:saturate", 57344.0, "ONNX saturate"),
    (INF, "e4m3", NAN, "ONNX no saturate; ml_dtypes; arXiv 2209.05433"),
    (INF, "e4m3:saturate", NAN, "ml_dtypes kSaturate"),
    (INF, "e4m3:saturate:saturate_infinity", 448.0, "ONNX saturate"),
    (-INF, "e4m3:saturate:saturate_infinity", -448.0, "ONNX saturate"),
    (INF, "e4m3:saturate_infinity", 448.0, "only infinite inputs saturate"),
    (1e9, "e4m3:saturate_infinity", NAN, "only infinite inputs saturate"),
    (INF, "e5m2", INF, "ONNX no saturate; ml_dtypes"),
    (INF, "e5m2:saturate", INF, "ml_dtypes kSaturate"),
    (-INF, "e5m2:saturate:saturate_infinity", -57344.0, "ONNX saturate"),
    (INF, "e4m3fnuz", NAN, "ONNX, both modes; ml_dtypes"),
    (INF, "e4m3fnuz:saturate", NAN, "ONNX, both modes"),
    (1e9, "e5m2fnuz", NAN, "ONNX no saturate"),
    (1e9, "e5m2fnuz:saturate", 57344.0, "ONNX saturate"),
    (-0.0, "e4m3fnuz", 0.0, "ONNX; ml_dtypes"),
    (-1e-9, "e4m3fnuz", 0.0, "ml_dtypes"),
    (-0.0, "e4m3", -0.0, "ONNX; ml_dtypes"),
    (NAN, "e4m3:saturate", NAN, "ONNX, both modes"),
    (NAN, "e4m3fnuz:saturate", NAN, "ONNX, both modes"),
    (NAN, "q3.4", NAN, "precsim: NaN is never lost from sight"),
    (1e9, "e2m1", 6.0, "OCP MX 1.0; P3109 v4.0 SatNone of a finite format"),
    (-INF, "e3m2", -28.0, "OCP MX 1.0; ml_dtypes"),
    (0.0, "e8m0", NAN, "ml_dtypes: E8M0 has no zero"),
    (0.0, "e8m0:saturate", 2.0**-127, "ONNX cast to E8M0, saturate (onnx 7030)"),
    (1e-45, "e8m0", 2.0**-127, "ml_dtypes"),
    (-1.0, "e8m0", NAN, "ml_dtypes; P3109 v4.0, unsigned"),
    (-1.0, "e8m0:saturate", 2.0**-127, "the smallest value"),
    (2.0**128, "e8m0", NAN, "ml_dtypes"),
    (2.0**128, "e8m0:saturate", 2.0**127, "ONNX cast to E8M0"),
    (INF, "e8m0:saturate:saturate_infinity", 2.0**127, "ONNX cast to E8M0 (onnx 7030)"),
    (8.0, "q3.4", 7.9375, "SystemC SC_SAT"),
    (8.0, "q3.4:wrap", -8.0, "SystemC SC_WRAP"),
    (7.97, "q3.4:wrap", -8.0, "quantise, then wrap: 7.97 rounds to 8"),
    (-8.0625, "q3.4:wrap", 7.9375, "SystemC SC_WRAP"),
    (1000.0625, "q3.4:wrap", -7.9375, "1000 is 62 times 16 plus 8"),
    (-0.5, "uq0.8", 0.0, "SystemC SC_SAT, unsigned"),
    (-0.5, "uq0.8:wrap", 0.5, "SystemC SC_WRAP, unsigned"),
    (INF, "q3.4", 7.9375, "saturate"),
    (-INF, "q3.4", -8.0, "saturate"),
    (INF, "q3.4:wrap", NAN, "an infinity has no residue"),
    (INF, "q3.4:wrap:saturate_infinity", 7.9375, "on request"),
]


@pytest.mark.parametrize(
    ("x", "spec", "result", "source"), OVERFLOWS, ids=lambda v: f"{v:.17g}" if v != str(v) else None
)
def test_overflow_and_special_values(x: float, spec: str, result: float, source: str) -> None:
    assert same(round_exact(x, spec).value, result), source
    assert same(ps.round_to(x, spec).item(), result), source


@pytest.mark.parametrize(
    ("x", "spec", "result", "flags"),
    [
        (INF, "fp16", INF, Flags.NONE),
        (-INF, "binary8p4se", -INF, Flags.NONE),
        (INF, "e4m3", NAN, Flags.INVALID),
        (INF, "e4m3:saturate_infinity", 448.0, Flags.OVERFLOW | Flags.INEXACT),
        (-INF, "e4m3:propagate_or_saturate", -448.0, Flags.OVERFLOW | Flags.INEXACT),
        (INF, "e5m2:propagate_or_saturate", INF, Flags.NONE),
        (-INF, "e2m1", -6.0, Flags.OVERFLOW | Flags.INEXACT),
        (INF, "binary4p2sf", 3.0, Flags.OVERFLOW | Flags.INEXACT),
        (-INF, "binary4p2uf", NAN, Flags.INVALID),
        (-INF, "binary4p2uf:satfinite", 0.0, Flags.OVERFLOW | Flags.INEXACT),
        (INF, "q3.4", 7.9375, Flags.OVERFLOW | Flags.INEXACT),
        (INF, "q3.4:wrap", NAN, Flags.INVALID),
        (-1.0, "binary4p2uf", NAN, Flags.INVALID),
        (-1.0, "binary4p2uf:rtp", 0.0, Flags.INVALID),
        (-1e-9, "binary4p2uf:rtp", 0.0, Flags.INEXACT | Flags.UNDERFLOW),
        (0.0, "e8m0", NAN, Flags.INVALID),
        (NAN, "e2m1:nan_to_max", 6.0, Flags.NONE),
    ],
)
def test_flags_of_infinities_and_of_what_a_format_has_not(
    x: float, spec: str, result: float, flags: Flags
) -> None:
    """An infinity that becomes NaN is invalid, one that becomes finite overflows."""
    value, signalled = round_exact(x, spec)
    assert same(value, result)
    assert signalled == flags
    assert same(ps.round_to(x, spec).item(), result)


def test_tininess_is_detected_after_rounding_with_unlimited_range() -> None:
    """IEEE 754-2019, 7.5: this result is the smallest normal, yet the operation underflowed.

    With unlimited range the number below 2**-14 would have 11 bits and not be rounded. Found when
    the flag was taken from the delivered result.
    """
    x = Fraction(2) ** -14 - Fraction(2) ** -25
    assert round_exact(x, "fp16") == (2.0**-14, Flags.INEXACT | Flags.UNDERFLOW)
    x = Fraction(2) ** -14 - Fraction(2) ** -27
    assert round_exact(x, "fp16") == (2.0**-14, Flags.INEXACT)
    assert round_exact(Fraction(3, 2**24), "fp16") == (3 * 2.0**-24, Flags.NONE)


def test_unlimited_range_ends_where_its_carrier_ends() -> None:
    """The largest float64 rounded up once raised OverflowError."""
    largest = float(np.finfo(np.float64).max)
    assert round_exact(largest, "float(e=inf,p=7)").value == INF
    assert round_exact(-largest, "float(e=inf,p=7)").value == -INF
    assert round_exact(largest, "float(e=inf,p=7):rtz").value == 2.0**1023 * (2 - 2.0**-6)
    assert round_exact(2.0**-1074, "float(e=inf,p=7)").value == 2.0**-1074
    assert round_exact(1e39, "float(e=inf,p=7)", carrier="fp32").value == INF
    with pytest.raises(ValueError, match=r"^carrier is 'fp16'; allowed are 'fp64', 'fp32'$"):
        round_exact(1.0, "float(e=inf,p=7)", carrier="fp16")


@pytest.mark.parametrize(("dtype", "carrier"), [(np.float32, "fp32"), (np.float64, "fp64")])
@pytest.mark.parametrize("mode", RoundingMode)
def test_unlimited_range_beyond_the_carrier(mode: RoundingMode, dtype: Any, carrier: str) -> None:
    """Kernel and oracle agree on products that the carrier does not have, above and below it.

    The oracle went to infinity in every mode, and rounded twice below the smallest normal number.
    """
    info = np.finfo(dtype)
    low = info.minexp // 2
    x = np.ldexp([1.0, 1.3, 1.99, 1.0625], [low, low - 3, low - 11, low + 2]).astype(dtype)
    x = np.concatenate([x, [info.max, info.max / 3, 1.0], -x]).astype(dtype)
    y = np.ldexp([1.0, 1.7, 1.0], [low - 12, low, info.maxexp - 1]).astype(dtype)
    with np.errstate(over="ignore"):
        products = ps.multiply(x[:, None], y, f"float(e=inf,p=7):{mode}", random_bits=5)
    for k, a in enumerate(x):
        for n, b in enumerate(y):
            exact = Fraction(float(a)) * Fraction(float(b))
            value, flags = round_exact(
                exact, f"float(e=inf,p=7):{mode}", random_bits=5, carrier=carrier
            )
            assert same(float(products[k, n]), value), (a, b)
            far = abs(exact) / Fraction(float(info.max))
            assert (Flags.OVERFLOW in flags) == (far > 1), (a, b)
