"""Names of other stacks: what they stand for, and what each stack does at the end of a format.

The table is typed in from ONNX (docs, technical/float8.md), ml_dtypes (include/float8.h) and
arXiv 2209.05433; ml_dtypes itself is compared bit for bit in test_against_casts.py.
"""

import math

import numpy as np
import pytest

import precsim as ps
from precsim.rounding.presets import PRESETS

INF, NAN = math.inf, math.nan
MEANINGS = {
    "trn": "rtn",
    "trn_zero": "rtz",
    "rnd": "rnp",
    "rnd_zero": "rnz",
    "rnd_inf": "rna",
    "rnd_min_inf": "rnn",
    "rnd_conv": "rne",
    "rnd_conv_odd": "rno",
    "sat": "saturate",
    "sat_zero": "saturate_zero",
    "sat_sym": "saturate_symmetric",
    "satfinite": "saturate:saturate_infinity",
    "satpropagate": "saturate:propagate_or_saturate",
    "satnone": "infinity_or_max:propagate_or_saturate",
    "onnx": "infinity:propagate",
    "onnx_saturate": "saturate:saturate_infinity",
    "ml_dtypes": "infinity:propagate",
    "ml_dtypes_saturate": "saturate:propagate",
}


def test_every_preset_has_a_meaning_here() -> None:
    assert set(MEANINGS) == set(PRESETS)


@pytest.mark.parametrize("preset", MEANINGS)
def test_preset_stands_for_these_parts(preset: str) -> None:
    name = "q3.4" if preset.startswith(("trn", "rnd", "sat_")) or preset == "sat" else "e4m3"
    spec = ps.RoundingSpec.parse(f"{name}:{preset}")
    assert spec == ps.RoundingSpec.parse(f"{name}:{MEANINGS[preset]}")
    assert ps.RoundingSpec.parse(str(spec)) == spec


def test_presets_combine_with_other_parts() -> None:
    spec = ps.RoundingSpec.parse("q3.4:rnd_conv_odd:sat_sym:nan_to_zero")
    assert str(spec) == "q3.4:rno:saturate_symmetric:nan_to_zero"
    assert (
        str(ps.RoundingSpec.parse("e5m2:sr8:onnx_saturate"))
        == "e5m2:sr8:saturate:saturate_infinity"
    )
    assert str(ps.RoundingSpec.parse("binary8p4se:satnone:rto")) == "binary8p4se:rto"


def test_some_presets_depend_on_the_format() -> None:
    """ONNX leaves infinities of FNUZ formats NaN; ml_dtypes has -0 in place of a missing NaN."""
    assert str(ps.RoundingSpec.parse("e4m3fnuz:onnx_saturate")) == "e4m3fnuz:saturate"
    assert str(ps.RoundingSpec.parse("e2m1:ml_dtypes")) == "e2m1:nan_to_negative_zero"
    assert str(ps.RoundingSpec.parse("e4m3:ml_dtypes")) == "e4m3"
    saturated = ps.RoundingSpec.parse("e3m2:ml_dtypes_saturate")
    assert str(saturated) == "e3m2:saturate:nan_to_negative_zero"


# (input, format, onnx_saturate, onnx, ml_dtypes, ml_dtypes_saturate). arXiv 2209.05433, E4M3:
# numbers beyond the largest saturate, infinity and NaN are NaN, which is ml_dtypes_saturate.
STACKS = [
    (464.0, "e4m3", 448.0, 448.0, 448.0, 448.0),
    (465.0, "e4m3", 448.0, NAN, NAN, 448.0),
    (1e9, "e4m3", 448.0, NAN, NAN, 448.0),
    (-1e9, "e4m3", -448.0, NAN, NAN, -448.0),
    (61439.0, "e5m2", 57344.0, 57344.0, 57344.0, 57344.0),
    (61440.0, "e5m2", 57344.0, INF, INF, 57344.0),
    (-1e9, "e5m2", -57344.0, -INF, -INF, -57344.0),
    (1e9, "e4m3fnuz", 240.0, NAN, NAN, 240.0),
    (-1e9, "e5m2fnuz", -57344.0, NAN, NAN, -57344.0),
    (INF, "e4m3", 448.0, NAN, NAN, NAN),
    (-INF, "e4m3", -448.0, NAN, NAN, NAN),
    (INF, "e5m2", 57344.0, INF, INF, INF),
    (-INF, "e5m2", -57344.0, -INF, -INF, -INF),
    (INF, "e4m3fnuz", NAN, NAN, NAN, NAN),
    (-INF, "e5m2fnuz", NAN, NAN, NAN, NAN),
    (NAN, "e4m3", NAN, NAN, NAN, NAN),
    (NAN, "e5m2", NAN, NAN, NAN, NAN),
    (NAN, "e4m3fnuz", NAN, NAN, NAN, NAN),
    (-0.0, "e4m3", -0.0, -0.0, -0.0, -0.0),
    (-0.0, "e5m2", -0.0, -0.0, -0.0, -0.0),
    (-0.0, "e4m3fnuz", 0.0, 0.0, 0.0, 0.0),
    (-1e-9, "e5m2fnuz", 0.0, 0.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("x", "name", "results"), [(r[0], r[1], r[2:]) for r in STACKS])
def test_what_stacks_do_at_the_end_of_a_format(
    x: float, name: str, results: tuple[float, ...]
) -> None:
    stacks = ("onnx_saturate", "onnx", "ml_dtypes", "ml_dtypes_saturate")
    for stack, expected in zip(stacks, results, strict=True):
        spec = f"{name}:{stack}"
        found = [ps.round_to(x, spec).item(), ps.round_to(np.float32(x), spec).item()]
        for value in [*found, ps.oracle.round_exact(x, spec).value]:
            assert np.array_equal(value, expected, equal_nan=True), spec
            assert math.isnan(expected) or math.copysign(1, value) == math.copysign(1, expected)


@pytest.mark.parametrize(
    ("spec", "sign"), [("e4m3:onnx", -1), ("e5m2:onnx_saturate", -1), ("e4m3fnuz:onnx", 1)]
)
def test_nan_keeps_its_sign_where_the_format_has_it(spec: str, sign: int) -> None:
    assert math.copysign(1, ps.round_to(-np.float64(NAN), spec).item()) == sign


@pytest.mark.parametrize(
    ("policy", "positive", "negative"),
    [
        ("nan_stays", NAN, -NAN),
        ("nan_to_zero", 0.0, 0.0),
        ("nan_to_negative_zero", -0.0, 0.0),  # ml_dtypes: NaN is -0, and -NaN its negative
        ("nan_to_max", 6.0, 6.0),
    ],
)
def test_fates_of_nan(policy: str, positive: float, negative: float) -> None:
    """Infinities are not touched by it."""
    expected = np.array([positive, negative, 6.0, -6.0])
    x = np.array([NAN, -NAN, INF, -INF])
    spec = f"e2m1:{policy}"
    assert ps.round_to(x, spec).tobytes() == expected.tobytes()
    for v, result in zip(x.tolist(), expected.tolist(), strict=True):
        exact = ps.oracle.round_exact(v, spec).value
        assert np.array_equal(exact, result, equal_nan=True)
        assert math.isnan(result) or math.copysign(1, exact) == math.copysign(1, result)


def test_e8m0_has_two_rules_for_ties() -> None:
    """Ties go up by significand (ml_dtypes, fpy2), to the even field by code (P3109, gfloat)."""
    x = [1.5, 3.0, 6.0, 12.0, 2.0**-127 * 1.5, 2.0**-126 * 1.5, 2.0**126 * 1.5]
    up = [2.0, 4.0, 8.0, 16.0, 2.0**-126, 2.0**-125, 2.0**127]
    assert ps.round_to(x, "e8m0").tolist() == up
    even_code = [2.0, 2.0, 8.0, 8.0, 2.0**-127, 2.0**-125, 2.0**127]
    codes = ps.encode(even_code, "e8m0")
    assert (codes % 2 == 0).all()
    assert ps.round_to(x, "e8m0:even_code").tolist() == even_code


def test_a_format_without_zero_and_nan_takes_zero_to_its_smallest_value() -> None:
    """It has nothing else for it; zero once became NaN, which the format has not."""
    fmt = ps.FloatFormat(
        name="powers", precision=1, exponent_bits=4, specials=ps.Specials.NONE,
        has_subnormals=False, is_signed=False,
    )  # fmt: skip
    assert ps.round_to([0.0, -0.0, -1.0, 1e9], fmt).tolist() == [2.0**-7, 2.0**-7, 2.0**-7, 2.0**8]
    assert ps.oracle.round_exact(0.0, fmt) == (2.0**-7, ps.oracle.Flags.INVALID)
