"""A walk has the bits of the operations that it explains, and says truly why."""

import json
import math
import random
import re
from fractions import Fraction

import numpy as np
import pytest

import precsim as ps
from precsim.analysis.walking.reasons import explain_rounding
from precsim.analysis.walking.walk import walk

FORMATS = ("fp16", "e5m2:saturate", "q3.4", "fp32:rtz", "binary8p4se")


def same(x: float, y: float) -> bool:
    return (x == y and math.copysign(1, x) == math.copysign(1, y)) or (
        math.isnan(x) and math.isnan(y)
    )


def expression(draw: random.Random, depth: int) -> str:
    if depth == 0 or draw.random() < 0.2:
        return draw.choice(("0.1", "3", "1e-3", "0.7", "2.5", "-0.0", "1e5", "7"))
    left, right = (expression(draw, depth - 1) for _ in range(2))
    return f"({left} {draw.choice('+-*')} {right})"


def test_in_fp64_it_is_what_python_computes() -> None:
    draw = random.Random(0)
    for _ in range(60):
        text = expression(draw, 4)
        # Python has its own opinion of -(0.0), which is a number to `walk`.
        assert same(walk(text, "fp64").value, eval(text)), text


def test_0_1_plus_0_2() -> None:
    found = ps.walk("0.1 + 0.2", "fp64")
    assert found.value == 0.1 + 0.2 == 0.30000000000000004
    assert found.exact == Fraction(3, 10)
    assert [step.operation for step in found.steps] == ["input", "input", "add"]
    last = found.steps[-1].rounding
    assert last.is_tie
    assert last.reason == "half way, a tie: rne takes the even one, whose last bit is 0"
    assert last.below_bits.endswith("1")
    assert last.above_bits.endswith("0")


@pytest.mark.parametrize(
    "order", ["sequential", "pairwise", "kahan", "two_sum", "blocked3", "exact"]
)
def test_sums_are_those_of_accumulate(order: str) -> None:
    draw = np.random.default_rng(1)
    for spec in FORMATS:
        for count in (1, 2, 5, 7):
            x = np.asarray(ps.round_to(draw.normal(size=count) * 2, spec))
            name = "sum" if order == "sequential" else order
            text = f"{name}([{', '.join(map(float.hex, x.tolist()))}])"
            expected = float(ps.accumulate(x, spec, order=order))
            assert same(walk(text, spec).value, expected), (text, spec)


def test_sums_of_negative_zeros_are_those_of_accumulate() -> None:
    for spec in ("fp16", "fp16:rtn", "e4m3fnuz"):
        for name, order in (("sum", "sequential"), ("pairwise", "pairwise"), ("kahan", "kahan")):
            for count in (1, 2, 3):
                expected = float(ps.accumulate(np.array([-0.0] * count), spec, order=order))
                text = f"{name}([{', '.join(['-0'] * count)}])"
                assert same(walk(text, spec).value, expected), (spec, text)


def test_kahan_of_three_ones_beside_2048() -> None:
    assert ps.walk("sum([2048, 1, 1, 1])", "fp16").value == 2048
    assert ps.walk("kahan([2048, 1, 1, 1])", "fp16").value == 2052
    assert ps.walk("kahan([2048, 1, 1, 1])", "fp16").exact == 2051


def test_operations_are_those_of_the_oracle() -> None:
    for spec in ("fp16", "e4m3:rtz", "bf16:flush_after_rounding"):
        x, y, z = (ps.oracle.round_exact(v, spec).value for v in (0.3, -7.5, 1e-4))
        given = {
            "0.3 / -7.5": ("divide", x, y),
            "fma(0.3, -7.5, 1e-4)": ("fma", x, y, z),
            "sqrt(0.3)": ("sqrt", x),
            "sqrt(-7.5)": ("sqrt", y),
            "0.3 / 0": ("divide", x, 0.0),
        }
        for text, (operation, *operands) in given.items():
            expected = ps.oracle.compute_exact(operation, *operands, spec=spec)  # type: ignore[arg-type]
            found = walk(text, spec)
            assert same(found.value, expected.value), text
            names = [f.name.lower().replace("_", " ") for f in expected.flags if f.name]
            assert list(found.steps[-1].rounding.flags) == names


def test_a_number_rounds_once_and_with_its_sign() -> None:
    assert ps.walk("-0.1", "fp16", mode="rtp").value == -ps.walk("0.1", "fp16", mode="rtn").value
    assert ps.walk("1e400", "fp16").value == math.inf
    assert same(ps.walk("-0", "fp16").value, -0.0)


def test_a_sign_that_the_format_does_not_have_is_a_rounding() -> None:
    assert ps.walk("-(-4 - 4)", "q3.4").value == 7.9375
    assert ps.walk("-(3 + 1)", "uq3.4").steps[-1].operation == "negate"


@pytest.mark.parametrize("mode", list(ps.RoundingMode))
def test_the_reason_names_the_neighbour_that_was_taken(mode: str) -> None:
    draw = random.Random(2)
    spec = ps.RoundingSpec.parse(f"e4m3:{mode}")
    for _ in range(60):
        x = Fraction(draw.choice((-1, 1)) * draw.randint(1, 4000), 2 ** draw.randint(0, 12))
        bits = draw.randrange(2**32)
        found = explain_rounding(x, spec, bits)
        assert same(found.value, ps.oracle.round_exact(x, spec, random_bits=bits).value)
        if found.position is None:
            continue
        assert found.below is not None
        assert found.above is not None
        assert found.below < x < found.above
        is_upper = found.value == found.above
        assert found.is_tie == (2 * x == Fraction(found.below) + Fraction(found.above))
        for words, expected in (
            ("the upper one", is_upper),
            ("the lower one", not is_upper),
            ("toward zero", is_upper == (x < 0)),
            ("away from zero", is_upper == (x > 0)),
            ("last bit is 0", (found.above_bits if is_upper else found.below_bits)[-1] == "0"),
            ("last bit is 1", (found.above_bits if is_upper else found.below_bits)[-1] == "1"),
        ):
            assert words not in found.reason or expected, (x, found)


def test_random_bits_follow_from_the_seed() -> None:
    values = {ps.walk("1/3", "e4m3:sr8", seed=seed).value for seed in range(20)}
    assert values == {0.3125, 0.34375}
    assert ps.walk("1/3", "e4m3:sr8", seed=4) == ps.walk("1/3", "e4m3:sr8", seed=4)


def test_roots_are_said_to_be_about() -> None:
    found = ps.walk("sqrt(2) * sqrt(2)", "fp32")
    assert found.exact_text == "about 2"
    assert found.ulps == pytest.approx(-0.5)
    assert ps.walk("sqrt(9)", "fp32").exact_text == "3"


def test_spaces_are_one_space_and_numbers_behind_operators_have_parentheses() -> None:
    found = ps.walk(" -3\n +\t-0.5 ", "fp16")
    assert found.expression == "-3 + -0.5"
    assert found.steps[-1].formula == "-3 + (-0.5)"


def test_json_has_everything() -> None:
    found = json.loads(ps.walk("dot([1, 2**12], [0.3, 2**12], h100:fp16)", "fp32").to_json())
    assert found["steps"][-1]["alignment"]["terms"][0]["exponent"] == -2
    assert (
        float(found["value"]) == ps.walk("dot([1, 2**12], [0.3, 2**12], h100:fp16)", "fp32").value
    )
    assert json.loads(ps.walk("0.1", "fp16").to_json())["steps"][0]["rounding"]["is_exact"] is False


REFUSED = {
    "mxfp4": "spec is 'mxfp4'; allowed are formats of single numbers",
    "int8": "spec is 'int8'; allowed are formats of single numbers",
    "fp61": "unknown format",
    "h100:fp61": "h100 has no product",
    "bf16_bf16_fp32:kahan": "of order kahan; allowed in dot are sums in sequence",
    "int8_int8_int32": "allowed in dot are products without",
    "float(e=12,p=20)": "allowed are formats whose values float64 has",
}


@pytest.mark.parametrize("spec", REFUSED)
def test_other_specs_are_refused(spec: str) -> None:
    with pytest.raises(ValueError, match=re.escape(REFUSED[spec])):
        ps.walk("1 + 2", spec)


@pytest.mark.parametrize("name", ["fp16", "mine"])
def test_a_format_object_is_taken_itself(name: str) -> None:
    fmt = ps.FloatFormat(name=name, precision=5, exponent_bits=4)
    assert ps.walk("1/3", fmt).ulps == Fraction(-1, 3)


@pytest.mark.parametrize("mode", ["rne", "rtn", "rtz"])
@pytest.mark.parametrize("order", ["sum", "pairwise", "kahan", "two_sum", "blocked2", "exact"])
def test_zeros_have_the_sign_that_accumulate_gives_them(order: str, mode: str) -> None:
    spec = f"fp16:{mode}"
    accumulated = "sequential" if order == "sum" else order
    for terms in ([-0.0], [-0.0, -0.0], [-0.0, 0.0, -0.0], [1.0, -1.0], [-1e-30]):
        found = ps.walk(f"{order}({terms})", spec)
        last = found.steps[-1].rounding
        rounded = np.asarray(ps.round_to(np.array(terms, np.float32), spec))
        expected = ps.accumulate(rounded, spec, order=accumulated).item()
        assert repr(found.value) == repr(expected) == repr(last.value)
        if not any(terms):
            assert repr(found.exact) == repr(expected)


def test_a_negative_zero_does_not_change_without_a_step() -> None:
    found = ps.walk("sum([-0, -0])", "fp32")
    assert [step.numbers for step in found.steps] == ["-0", "0 + (-0)", "0 + (-0)"]


@pytest.mark.parametrize("spec", ["q3.4", "e2m1"])
def test_nan_is_not_exact_in_formats_without_it(spec: str) -> None:
    rounding = ps.walk("nan", spec).steps[0].rounding
    assert not rounding.is_exact
    assert rounding.reason == f"{spec} has no NaN, so that it stands outside the format"


def test_long_exact_values_are_written() -> None:
    for text in ("1e9999", "3**-9999"):
        assert len(repr(ps.walk(text, "fp16"))) < 2000
    assert "exact=Fraction(1, 3)" in repr(ps.walk("1/3", "fp16"))


def test_a_mode_beside_a_product_is_refused() -> None:
    with pytest.raises(ValueError, match="mode is 'rtp', but spec 'h100:fp16' is a product"):
        ps.walk("dot([1], [1])", "h100:fp16", mode="rtp")


def test_the_reason_at_the_end_of_the_range() -> None:
    for sign in ("", "-"):
        tie = ps.walk(f"{sign}464", "e4m3").steps[0].rounding.reason
        assert f"the next would be {sign}480: half way, a tie: rne takes the even one" in tie
    assert (
        ps.walk("470", "e4m3:rtz")
        .steps[0]
        .rounding.reason.endswith("rtz takes the one toward zero")
    )
    assert "next would be 8: nearer" in ps.walk("7.95", "q3.4").steps[0].rounding.reason
    assert (
        "nearer to the lower" in ps.walk("1.7976931348623158e308", "fp64").steps[0].rounding.reason
    )


def test_why_an_infinity_becomes_finite() -> None:
    rounding = ps.walk("1/0", "q3.4").steps[-1].rounding
    assert rounding.reason.endswith(
        "inf is not in q3.4 and becomes 7.9375, the end of the range (saturate)"
    )
    assert not rounding.is_exact
