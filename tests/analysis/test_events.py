"""Range events, in every mode and format, against the exact oracle; the same under jit."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from precsim.formats.carrier import FLOAT32, FLOAT64
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.registry import get_format
from precsim.rounding.events import Events, classify, count_events, first_beyond
from precsim.rounding.modes import OverflowMode, RoundingMode, SubnormalMode
from precsim.rounding.oracle import Flags, round_exact
from precsim.rounding.round_to import round_to
from precsim.rounding.spec import RoundingSpec

MODES = ("rne", "rna", "rnz", "rno", "rnp", "rnn", "rtz", "raz", "rtp", "rtn", "rto")
FORMATS = ("e4m3", "e4m3fnuz", "e5m2", "e2m1", "q3.4", "uq0.8", "float(e=4,p=3)", "fp16", "bf16")
# What decides at the end of the range: the odd code of infinity, the largest value instead of
# infinity or NaN, parity of codes with one significand bit, no sign; the smallest value minus the
# largest, or zero.
P3109 = ("binary8p4se", "binary8p3ue", "binary4p2sf", "binary6p1se", "binary6p1uf", "binary5p5uf")
ENDS = (*P3109, "binary5p2se:satpropagate", "e4m3:infinity_or_max", "e8m0:even_code")
FIXED_ENDS = ("q3.4:sat_sym", "q3.4:sat_zero", "uq0.8:sat_zero", "q3.4:sat_sym:nan_to_zero")


def edges(spec: RoundingSpec) -> np.ndarray:
    """Numbers around everything that decides: zero, smallest values, largest values."""
    fmt = spec.format
    if isinstance(fmt, FixedPointFormat):
        points = [0.0, fmt.resolution, fmt.max_value, fmt.min_value, fmt.max_value + fmt.resolution]
        step = fmt.resolution
    else:
        points = [0.0, fmt.min_subnormal, fmt.min_normal, fmt.max_finite, 1.0]
        step = fmt.min_subnormal
    last = 2.0 ** (math.floor(math.log2(points[3])) - 3) if points[3] > 0 else step
    found = [
        p + k * q for p in points for k in (-1, -0.5, 0, 0.25, 0.5, 1, 2) for q in (step, last)
    ]
    values = np.array([*found, 1e30, math.inf], np.float64)
    values = np.concatenate([values, -values])
    near = np.concatenate([np.nextafter(values, np.inf), np.nextafter(values, -np.inf)])
    return np.unique(np.concatenate([values, near]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [*FORMATS, *ENDS, *FIXED_ENDS])
def test_events_follow_the_flags_of_the_oracle(name: str, mode: str) -> None:
    compare_with_oracle(RoundingSpec.parse(f"{name}:{mode}"))


@pytest.mark.parametrize("subnormals", list(SubnormalMode))
@pytest.mark.parametrize("is_signed", [True, False])
@pytest.mark.parametrize("mode", ["rne", "raz", "rtz", "rtp", "rtn"])
def test_events_without_subnormals_or_sign(mode: str, is_signed: bool, subnormals: str) -> None:
    fmt = FloatFormat(name="test", precision=3, exponent_bits=3, is_signed=is_signed)
    if subnormals == "flush_as_chop" and mode == "raz":
        return  # chop has no such mode
    compare_with_oracle(
        RoundingSpec(format=fmt, mode=RoundingMode(mode), subnormals=SubnormalMode(subnormals))
    )


@pytest.mark.parametrize("subnormals", list(SubnormalMode)[:-1])
def test_events_of_an_unsigned_format_that_has_no_subnormals(subnormals: str) -> None:
    """Flushing changes nothing there; thresholds of subnormals that it has not were used once."""
    fmt = FloatFormat(
        name="test", precision=3, exponent_bits=3, is_signed=False, has_subnormals=False
    )
    compare_with_oracle(RoundingSpec(format=fmt, subnormals=SubnormalMode(subnormals)))


def compare_with_oracle(spec: RoundingSpec) -> None:
    """Two independent definitions: comparisons with a threshold, and an exact rounding's flags."""
    values = edges(spec)
    events = classify(values, round_to(values, spec), spec)
    for i, x in enumerate(values.tolist()):
        result, flags = round_exact(x, spec)
        out = Flags.OVERFLOW in flags or (Flags.INVALID in flags and math.isfinite(x))
        assert events.overflowed[i] == (math.isfinite(x) and not math.isfinite(result)), x
        assert (events.overflowed[i] or events.saturated[i]) == (
            out or (math.isinf(x) and math.isfinite(result))
        ), x
        assert events.underflowed[i] == (x != 0 and result == 0 and not out and math.isfinite(x)), x
        fmt = spec.format
        least = 0.0 if isinstance(fmt, FixedPointFormat) else fmt.min_normal
        assert events.subnormal[i] == (0 < abs(result) < least), x


def test_wrapping_counts_as_overflow() -> None:
    values = np.array([7.9375, 8.0, 16.0, -8.0, -8.0625, np.inf], np.float64)
    spec = "q3.4:wrap"
    events = classify(values, round_to(values, spec), spec)
    assert events.overflowed.tolist() == [False, True, True, False, True, False]
    assert not events.saturated.any()
    # 16 wraps to 0, which is no underflow.
    assert not events.underflowed.any()


@pytest.mark.parametrize(
    ("spec", "beyond", "within"),
    [
        ("q3.4:sat_zero", [8.0, -8.0625, 1e30, np.inf], [7.9375, -8.0, 0.03]),
        ("q3.4:sat_sym", [8.0, -8.0, -np.inf], [7.9375, -7.9375]),
        ("q3.4:sat_sym:rnd_min_inf", [-7.96875, 8.0], [7.96875, -7.96]),
        ("q3.4:sat_sym:rnd", [7.96875, -8.0], [-7.96875]),
        ("uq0.8:sat_zero", [-1.0, 1.0, -np.inf], [0.5, -0.001]),
        ("e4m3:saturate:rnp", [464.0, -465.0], [-464.0, 463.0]),
        ("e4m3:saturate:rnn", [-464.0, 465.0], [464.0, -463.0]),
        ("e4m3:saturate:rno", [464.0, -464.0], [463.0]),
        # To even at a precision of one bit: the largest value of binary6p1sf has code 1f, that of
        # se 1e.
        ("binary6p1sf", [1.5 * 2**15, -1e9, np.inf], [1.49 * 2**15, 2.0**15]),
        ("binary6p1se:satfinite", [1.6 * 2**14, np.inf], [1.5 * 2**14, -1.5 * 2**14]),
        ("binary8p4uf:satpropagate", [-1.0, 1e9, np.inf, -np.inf], [-(2.0**-22), 0.0]),
    ],
)
def test_what_counts_as_saturated(spec: str, beyond: list[float], within: list[float]) -> None:
    """By hand. Nothing of it underflowed or overflowed: zero is a saturated value too."""
    values = np.array([*beyond, *within])
    events = classify(values, round_to(values, spec), spec)
    assert events.saturated.tolist() == [True] * len(beyond) + [False] * len(within)
    assert not events.overflowed.any()
    assert not (events.underflowed & events.saturated).any()


def test_negative_numbers_that_become_nan_overflowed() -> None:
    """P3109 SatNone, unsigned; infinity is no finite input, and becomes the largest value."""
    values = np.array([-1.0, 1e9, np.inf, -np.inf])
    events = classify(values, round_to(values, "binary8p4uf"), "binary8p4uf")
    assert events.overflowed.tolist() == [True, False, False, False]
    assert events.saturated.tolist() == [False, True, True, False]


def test_every_count_by_hand() -> None:
    # e4m3: smallest subnormal 2**-9, smallest normal 2**-6, largest 448; 464 is the tie that stays.
    before = np.array(
        [0.0, -0.0, 2**-9, 2**-10, 2**-11, 2**-7, 464.0, 465.0, np.inf, np.nan], np.float32
    )
    after = round_to(before, "e4m3:saturate")
    counts = Events(*count_events(before, after, "e4m3:saturate").tolist())
    assert counts == Events(
        elements=10, nonzero=7, underflowed=2, subnormal=2, overflowed=0, saturated=1, nan=1
    )
    counts = Events(*count_events(before, round_to(before, "e4m3"), "e4m3").tolist())
    assert (counts.overflowed, counts.saturated) == (1, 0)


def test_infinite_input_that_becomes_finite_is_saturated() -> None:
    spec = "e4m3:saturate_infinity"
    before = np.array([np.inf, -np.inf], np.float32)
    events = classify(before, round_to(before, spec), spec)
    assert events.saturated.all()
    assert not events.overflowed.any()


def test_negative_zero_is_a_zero() -> None:
    before = np.array([-0.0, 0.0, -1e-9], np.float32)
    after = round_to(before, "e4m3")
    assert np.signbit(after).tolist() == [True, False, True]
    events = classify(before, after, "e4m3")
    assert events.nonzero.tolist() == [False, False, True]
    assert events.underflowed.tolist() == [False, False, True]


def test_formats_as_wide_as_the_carrier() -> None:
    for name, carrier in (("fp32", FLOAT32), ("fp64", FLOAT64)):
        spec = RoundingSpec.parse(name)
        assert first_beyond(spec, carrier) == (carrier.infinity, carrier.infinity)
    assert first_beyond(RoundingSpec.parse("float(e=inf,p=8)"), FLOAT32)[0] == FLOAT32.infinity
    before = np.array([1e-45, 3.4e38, np.inf], np.float32)
    assert count_events(before, before, "fp32").tolist() == [3, 3, 0, 1, 0, 0, 0]


def test_format_without_zero() -> None:
    # e8m0: powers of two from 2**-127; 0 and negative numbers become NaN, or the smallest value.
    before = np.array([0.0, 1e-45, -1.0, 3.0], np.float32)
    events = classify(before, round_to(before, "e8m0"), "e8m0")
    assert events.overflowed.tolist() == [True, False, True, False]
    events = classify(before, round_to(before, "e8m0:saturate"), "e8m0:saturate")
    assert events.saturated.tolist() == [False, False, True, False]
    assert not events.underflowed.any()


def test_stochastic_saturation_starts_at_the_next_value() -> None:
    # 479 may round down to 448 by chance; 480 is a value of the unlimited range.
    spec = RoundingSpec.parse("e4m3:sr:saturate")
    before = np.array([449.0, 479.0, 480.0], np.float32)
    after = round_to(before, spec, random_bits=np.zeros(3, np.uint32))
    assert after.tolist() == [448.0] * 3
    assert classify(before, after, spec).saturated.tolist() == [False, False, True]


@pytest.mark.parametrize("name", ["bf16", "e4m3", "fp32", "q3.12", "float(e=8,p=4)"])
def test_jit_counts_what_numpy_counts(name: str) -> None:
    # Float32 subnormals, which XLA flushes in floating-point arithmetic and comparisons, included.
    patterns = np.concatenate([np.arange(0, 1 << 24, 4099), np.arange(0, 1 << 31, 1 << 19)])
    bits = np.concatenate([patterns, patterns + (1 << 31)]).astype(np.uint32)
    before = bits.view(np.float32)
    expected = count_events(before, round_to(before, name), name)
    assert expected[3] > 0 or isinstance(get_format(name), FixedPointFormat)
    compiled = jax.jit(lambda x: count_events(x, round_to(x, name), name))(jnp.asarray(before))
    assert compiled.dtype == expected.dtype == np.int32
    assert compiled.tolist() == expected.tolist()


def test_subnormal_results_are_not_lost_under_jit() -> None:
    before = jnp.asarray(np.array([2.0**-130, 2.0**-133, 2.0**-135], np.float32))
    counts = jax.jit(lambda x: count_events(x, round_to(x, "bf16"), "bf16"))(before)
    assert (
        Events(*counts.tolist())._asdict() | {"elements": 0}
        == Events(
            elements=0, nonzero=3, underflowed=1, subnormal=2, overflowed=0, saturated=0, nan=0
        )._asdict()
    )


def test_wrap_is_the_only_overflow_that_depends_on_the_spec() -> None:
    spec = RoundingSpec.parse("q3.4")
    assert spec.overflow is OverflowMode.SATURATE
    assert classify(
        np.array([9.0], np.float64), np.array([7.9375], np.float64), spec
    ).saturated.all()


def test_wrong_arguments_are_named() -> None:
    x = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"after has shape \(2,\)"):
        count_events(x, x[:2], "e4m3")
    with pytest.raises(TypeError, match="after has dtype float64"):
        count_events(x, np.ones(3), "e4m3")
    with pytest.raises(ValueError, match="cannot hold fp64"):
        count_events(x, x, "fp64")
