"""`RoundingSpec`: the strings that stand for it, and what it refuses."""

import dataclasses
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import precsim as ps
from precsim.rounding.modes import (
    EvenRule,
    InfinityMode,
    NanMode,
    OverflowMode,
    RoundingMode,
    StochasticVariant,
    SubnormalMode,
)

E4M3 = ps.get_format("e4m3")
FLOATS = ["fp16", "e4m3", "e8m0", "e2m1", "float(e=6,p=10)", "float(e=inf,p=4)", "binary8p4se"]
FLOATS += ["binary5p1uf"]
FIXED = ["q3.4", "uq0.8", "q-2.8", "uq9.-3"]
FLOAT_OVERFLOW = ["infinity", "infinity_or_max", "saturate"]
FIXED_OVERFLOW = ["saturate", "saturate_symmetric", "saturate_zero", "wrap"]


@st.composite
def specs(draw: st.DrawFn) -> ps.RoundingSpec:
    """Draw any valid spec."""
    is_fixed = draw(st.booleans())
    mode = draw(st.sampled_from(RoundingMode))
    fmt = ps.get_format(draw(st.sampled_from(FIXED if is_fixed else FLOATS)))
    nans = [NanMode.STAYS] if fmt.has_nan else list(NanMode)
    if not fmt.has_negative_zero and NanMode.NEGATIVE_ZERO in nans:
        nans.remove(NanMode.NEGATIVE_ZERO)
    subnormals = [SubnormalMode.GRADUAL]
    if isinstance(fmt, ps.FloatFormat):
        has_chop = (
            bool(fmt.width) and fmt.precision >= 3 and mode in ("rne", "rtp", "rtn", "rtz", "sr")
        )
        subnormals = [m for m in SubnormalMode if has_chop or m != "flush_as_chop"]
    return ps.RoundingSpec(
        format=fmt,
        mode=mode,
        overflow=draw(st.sampled_from(FIXED_OVERFLOW if is_fixed else FLOAT_OVERFLOW)),
        infinities=draw(st.sampled_from(InfinityMode)),
        nans=draw(st.sampled_from(nans)),
        even=draw(st.sampled_from(EvenRule)),
        subnormals=draw(st.sampled_from(subnormals)),
        num_random_bits=draw(st.integers(1, 32)) if mode == "sr" else 0,
        stochastic_variant=draw(st.sampled_from(StochasticVariant)),
    )


@pytest.mark.long
@hypothesis.settings(deadline=None, derandomize=True, max_examples=150)
@hypothesis.given(specs(), st.randoms(use_true_random=False))
def test_string_and_spec_are_the_same_thing(spec: ps.RoundingSpec, random: Any) -> None:
    """Also with the parts in any order."""
    text = str(spec)
    assert ps.RoundingSpec.parse(text) == spec
    name, *parts = text.split(":")
    random.shuffle(parts)
    assert ps.RoundingSpec.parse(":".join([name, *parts])) == spec


@hypothesis.settings(deadline=None, derandomize=True, max_examples=150)
@hypothesis.given(specs())
def test_the_string_is_the_shortest(spec: ps.RoundingSpec) -> None:
    """Without any one of its parts it stands for another spec, or for none."""
    name, *parts = str(spec).split(":")
    for k in range(len(parts)):
        shorter = ":".join([name, *parts[:k], *parts[k + 1 :]])
        try:
            assert ps.RoundingSpec.parse(shorter) != spec
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("e4m3", {}),
        ("e4m3:rtz:saturate", {"mode": "rtz", "overflow": "saturate"}),
        ("e4m3:saturate:rtz", {"mode": "rtz", "overflow": "saturate"}),
        ("fp16:flush_after_rounding", {"subnormals": "flush_after_rounding"}),
        ("fp16:flush_before_rounding", {"subnormals": "flush_before_rounding"}),
        ("fp16:flush_as_chop:rtp", {"subnormals": "flush_as_chop", "mode": "rtp"}),
        ("bf16:sr8", {"mode": "sr", "num_random_bits": 8}),
        ("bf16:sr", {"mode": "sr", "num_random_bits": 32}),
        ("bf16:sr32", {"mode": "sr", "num_random_bits": 32}),
        ("bf16:sr:c", {"mode": "sr", "stochastic_variant": "c", "num_random_bits": 32}),
        ("q3.4", {"overflow": "saturate"}),
        ("q3.4:rtn:wrap", {"mode": "rtn", "overflow": "wrap"}),
        ("e5m2:saturate_infinity", {"infinities": "saturate_infinity"}),
        ("float(e=6,p=10):rto", {"mode": "rto"}),
        ("e8m0:even_code:rno", {"even": "even_code", "mode": "rno"}),
        ("e2m1:nan_to_max", {"nans": "nan_to_max"}),
        ("q3.4:saturate_zero", {"overflow": "saturate_zero"}),
        ("e4m3:infinity_or_max", {"overflow": "infinity_or_max"}),
        ("e4m3:propagate_or_saturate", {"infinities": "propagate_or_saturate"}),
        ("binary8p4se:infinity:propagate", {"overflow": "infinity", "infinities": "propagate"}),
    ],
)
def test_parse(text: str, fields: dict[str, Any]) -> None:
    name = text.partition(":")[0]
    assert ps.RoundingSpec.parse(text) == ps.RoundingSpec(format=ps.get_format(name), **fields)


@pytest.mark.parametrize(
    ("name", "overflow", "infinities", "even"),
    [
        ("e4m3", "infinity", "propagate", "even_significand"),
        ("e8m0", "infinity", "propagate", "even_significand"),
        ("q3.4", "saturate", "propagate", "even_significand"),
        ("binary8p4se", "infinity_or_max", "propagate_or_saturate", "even_code"),
        ("binary4p2uf", "infinity_or_max", "propagate_or_saturate", "even_code"),
    ],
)
def test_defaults(name: str, overflow: str, infinities: str, even: str) -> None:
    spec = ps.RoundingSpec.parse(name)
    assert dataclasses.astuple(spec)[1:] == (
        "rne", overflow, infinities, "nan_stays", even, "gradual", 0, "a"
    )  # fmt: skip
    assert str(spec) == name


def test_parse_takes_formats_and_specs() -> None:
    fmt = ps.get_format("bf16")
    spec = ps.RoundingSpec.parse(fmt)
    assert spec.format is fmt
    assert ps.RoundingSpec.parse(spec) is spec


def test_strings_become_members() -> None:
    spec = ps.RoundingSpec(format="bf16", mode="rtz", overflow="saturate")
    assert spec.mode is RoundingMode.TOWARD_ZERO
    assert spec.overflow is OverflowMode.SATURATE
    assert spec.format is ps.get_format("bf16")


def test_equal_specs_are_one_key() -> None:
    other = ps.FloatFormat(name="mine", precision=8, exponent_bits=8)
    first, second = ps.RoundingSpec.parse("bf16"), ps.RoundingSpec(format=other)
    assert first == second
    assert hash(first) == hash(second)
    assert ps.RoundingSpec.parse("bf16:rtz") != first
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.mode = RoundingMode.TO_ODD  # type: ignore[misc]


REFUSED = [
    ("e4m3:rnee", r"unknown rounding option 'rnee'; did you mean 'rne'\?"),
    ("e4m3:saturat", r"unknown rounding option 'saturat'; did you mean 'saturate'\?"),
    ("e4m3:flush", r"did you mean 'flush_after_rounding'\?"),
    ("e4m3:###", "unknown rounding option '###'; known are rne, rna, .* and .* more$"),
    ("e4m3:", "unknown rounding option ''"),
    ("e4m4:rne", r"unknown format 'e4m4'; did you mean 'e4m3'\?"),
    ("e4m3:rne:rtz", "rounding 'e4m3:rne:rtz' gives mode twice"),
    ("e4m3:sr8:sr8", "gives mode twice"),
    ("e4m3:saturate:infinity", "gives overflow twice"),
    (
        "e4m3:wrap",
        r"overflow is 'wrap' for e4m3; allowed are 'infinity', 'infinity_or_max', 'saturate'$",
    ),
    (
        "q3.4:infinity",
        r"overflow is 'infinity' for q3.4; allowed are 'saturate', .*, 'saturate_zero', 'wrap'$",
    ),
    ("e4m3:saturate_zero", "overflow is 'saturate_zero' for e4m3; allowed are 'infinity', "),
    ("q3.4:onnx", "overflow is 'infinity' for q3.4; allowed are 'saturate', "),
    ("e4m3:nan_to_zero", "nans is 'nan_to_zero', but e4m3 has NaN"),
    ("q3.4:nan_to_negative_zero", "nans is 'nan_to_negative_zero', but q3.4 has no -0"),
    ("e4m3:satfinite:saturate", "rounding 'e4m3:satfinite:saturate' gives overflow twice"),
    ("e4m3:onnx:ml_dtypes", "gives overflow twice"),
    ("e4m3:onnx_saturat", r"unknown rounding option 'onnx_saturat'; did you mean 'onnx_saturate'"),
    ("q3.4:trn:rnd", "gives mode twice"),
    ("q3.4:flush_after_rounding", "fixed point has no subnormals"),
    ("fp16:rna:flush_as_chop", r"^mode is 'rna' with subnormals .* chop's modes, 'rne', 'rtp'"),
    ("float(e=inf,p=7):flush_as_chop", "allowed are formats with subnormals"),
    ("e2m1:flush_as_chop", "at least 3 bits of precision"),
    ("q3.4:flush_as_chop", "fixed point has no subnormals"),
    ("bf16:sr33", "num_random_bits is 33; allowed are 1 to 32"),
    ("bf16:sr0", r"unknown rounding option 'sr0'; did you mean 'sr'\?"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_errors_suggest(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ps.RoundingSpec.parse(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "nearest"}, "mode is 'nearest'; allowed are 'rne', 'rna'"),
        ({"overflow": "infinite"}, r"overflow is 'infinite'; .*did you mean 'infinity'\?"),
        ({"subnormals": "flush"}, "subnormals is 'flush'; allowed are 'gradual'"),
        ({"infinities": "keep"}, "infinities is 'keep'; allowed are 'propagate'"),
        ({"nans": "zero"}, "nans is 'zero'; allowed are 'nan_stays', 'nan_to_zero', "),
        ({"even": "code"}, r"even is 'code'; allowed are .*; did you mean 'even_code'\?"),
        ({"overflow": "satfinite"}, "overflow is 'satfinite'; allowed are 'infinity', "),
        (
            {"mode": "rne", "num_random_bits": 8},
            "num_random_bits is 8; allowed are .* 0 in the others",
        ),
        ({"mode": "sr", "num_random_bits": -1}, "num_random_bits is -1"),
        ({"mode": "sr", "stochastic_variant": "d"}, "stochastic_variant is 'd'; allowed are 'a'"),
    ],
    ids=str,
)
def test_fields_are_checked(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ps.RoundingSpec(format=E4M3, **fields)
