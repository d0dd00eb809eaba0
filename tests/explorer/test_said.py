"""Texts, errors, places and labels of numbers."""

import math
from fractions import Fraction
from itertools import pairwise

import pytest

import precsim as ps
from precsim.explorer.said import Axis, error, labels, near, percent, rounded, short
from precsim.formats.written import parse_number


@pytest.mark.parametrize(
    "value",
    [0.0, -0.0, 0.1, -1.5, 2.0**-1074, -(2.0**-30), 3 * 2.0**-40, 1e300, 2.0**1023, math.inf],
)
def test_short_texts_are_exact(value: float) -> None:
    again = parse_number(short(value))
    assert again == value
    assert math.copysign(1, again) == math.copysign(1, value)


def test_texts_of_numbers_of_any_size() -> None:
    huge = Fraction(10) ** 4000
    assert near(huge) == "1e+4000"
    assert near(1 / huge) == "1e-4000"
    assert near(Fraction(5, 2)) == "2.5"
    assert near(Fraction(-1, 3)) == "-0.3333"
    assert near(2**60 * Fraction(3)) == "3.459e+18"


def test_errors_have_a_sign_and_no_size_limit() -> None:
    fmt = ps.get_format("fp16")
    assert error(65504.0, Fraction(10) ** 400, fmt) == {
        "absolute": "-1e+400",
        "relative": "1",
        "ulp": "-3.125e+398",
    }
    assert error(math.inf, Fraction(1), fmt) is None
    assert error(1.0, math.nan, fmt) is None
    assert error(0.0, 0.0, fmt) == {"absolute": "0", "relative": "0", "ulp": "0"}


def test_nan_without_a_code_has_none() -> None:
    found = rounded(math.nan, ps.RoundingSpec.parse("e2m1"))
    assert (found["code"], found["fields"], found["value"]) == (None, [], "nan")


def test_places_on_an_axis() -> None:
    linear = Axis(Fraction(-1), Fraction(3))
    assert [linear.place(Fraction(x)) for x in (-1, 0, 1, 3, 10, -10)] == [0, 25, 50, 100, 100, 0]
    assert (linear.place(math.inf), linear.place(-math.inf)) == (100, 0)
    log = Axis(Fraction(-8), Fraction(8), Fraction(1, 4))
    assert log.place(Fraction(0)) == 50
    assert [log.place(Fraction(x)) for x in (8, -8)] == [100, 0]
    steps = [log.place(Fraction(2) ** k) for k in range(-2, 4)]
    assert steps == pytest.approx([50 + 50 * k / 6 for k in range(1, 7)], abs=1e-3)
    assert log.place(Fraction(10) ** -4000) == 50


def test_labels_do_not_touch() -> None:
    texts = [f"{k / 7:.6f}" for k in range(40)]
    places = [2.5 * k for k in range(40)]
    found = labels(texts, places)
    assert found[0]["row"] == found[-1]["row"] == 2
    first = [place for place, label in zip(places, found, strict=True) if label["row"] == 2]
    assert all(b - a > 20 for a, b in pairwise(first))


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "0 %"),
        (1, 1, "100 %"),
        (1, 100, "1 %"),
        (1, 200, "0.5 %"),
        (1, 20_000, "< 0.01 %"),
        (999, 1000, "99.9 %"),
        (9999, 10_000, "> 99.9 %"),
    ],
)
def test_shares_do_not_look_like_all_or_nothing(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text
