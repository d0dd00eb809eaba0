"""`RoundingSpec`: the strings that stand for it, and what it refuses."""

import dataclasses
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import precsim as ps
from precsim.rounding.spec import (
    InfinityMode,
    OverflowMode,
    RoundingMode,
    StochasticVariant,
    SubnormalMode,
)

E4M3 = ps.get_format("e4m3")
FLOATS = st.sampled_from(["fp16", "e4m3", "e8m0", "float(e=6,p=10)", "float(e=inf,p=4)"])
FIXED = st.sampled_from(["q3.4", "uq0.8", "q-2.8", "uq9.-3"])


@st.composite
def specs(draw: st.DrawFn) -> ps.RoundingSpec:
    """Draw any valid spec."""
    is_fixed = draw(st.booleans())
    mode = draw(st.sampled_from(RoundingMode))
    return ps.RoundingSpec(
        format=ps.get_format(draw(FIXED if is_fixed else FLOATS)),
        mode=mode,
        overflow=draw(
            st.sampled_from(list(OverflowMode)[1:] if is_fixed else list(OverflowMode)[:2])
        ),
        infinities=draw(st.sampled_from(InfinityMode)),
        subnormals=SubnormalMode.GRADUAL if is_fixed else draw(st.sampled_from(SubnormalMode)),
        num_random_bits=draw(st.integers(1, 32)) if mode == "sr" else 0,
        stochastic_variant=draw(st.sampled_from(StochasticVariant)),
    )


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
        ("bf16:sr8", {"mode": "sr", "num_random_bits": 8}),
        ("bf16:sr", {"mode": "sr", "num_random_bits": 32}),
        ("bf16:sr32", {"mode": "sr", "num_random_bits": 32}),
        ("bf16:sr:c", {"mode": "sr", "stochastic_variant": "c", "num_random_bits": 32}),
        ("q3.4", {"overflow": "saturate"}),
        ("q3.4:rtn:wrap", {"mode": "rtn", "overflow": "wrap"}),
        ("e5m2:saturate_infinity", {"infinities": "saturate_infinity"}),
        ("float(e=6,p=10):rto", {"mode": "rto"}),
    ],
)
def test_parse(text: str, fields: dict[str, Any]) -> None:
    name = text.partition(":")[0]
    assert ps.RoundingSpec.parse(text) == ps.RoundingSpec(format=ps.get_format(name), **fields)


def test_defaults() -> None:
    spec = ps.RoundingSpec(format=E4M3)
    assert dataclasses.astuple(spec)[1:] == (
        "rne", "infinity", "propagate", "gradual", 0, "a"
    )  # fmt: skip
    assert ps.RoundingSpec.parse("q3.4").overflow is OverflowMode.SATURATE


def test_parse_takes_formats_and_specs() -> None:
    fmt = ps.get_format("bf16")
    spec = ps.RoundingSpec.parse(fmt)
    assert spec.format is fmt
    assert ps.RoundingSpec.parse(spec) is spec


def test_strings_become_members() -> None:
    spec = ps.RoundingSpec(format="bf16", mode="rtz", overflow="saturate")  # type: ignore[arg-type]
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
    ("e4m3:###", "unknown rounding option '###'; known are rne, rna, .*, wrap, .*gradual"),
    ("e4m3:", "unknown rounding option ''"),
    ("e4m4:rne", r"unknown format 'e4m4'; did you mean 'e4m3'\?"),
    ("e4m3:rne:rtz", "rounding 'e4m3:rne:rtz' gives mode twice"),
    ("e4m3:sr8:sr8", "gives mode twice"),
    ("e4m3:saturate:infinity", "gives overflow twice"),
    ("e4m3:wrap", r"overflow is 'wrap' for e4m3; allowed are 'infinity', 'saturate'"),
    (
        "q3.4:infinity",
        r"overflow is 'infinity', which q3.4 has not; allowed are 'saturate', 'wrap'",
    ),
    ("q3.4:flush_after_rounding", "fixed point has no subnormals"),
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
