"""Answers as learners type them, and how they are compared."""

import math
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("marimo")

from lessons.answers import is_alike, number, read, shown


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", Fraction(1, 10)),
        (" 5/8 ", Fraction(5, 8)),
        ("2**-24", Fraction(1, 2**24)),
        ("1.5 * 2^4", 24),
        ("1.5 × 2^−1", Fraction(3, 4)),
        ("1_000", 1000),
        ("1e-3", Fraction(1, 1000)),
        ("-(1 - 2**-3)", Fraction(-7, 8)),
        ("0x1p-4", Fraction(1, 16)),
        ("-0X1.8p+1", -3),
        ("0x.8 + 0x1f", Fraction(63, 2)),
        ("1e309", 10**309),
        ("1e4096", 10**4096),
        ("2**4096", 2**4096),
        (Decimal("0.1"), Fraction(1, 10)),
        (np.float32(0.5), Fraction(1, 2)),
        (3, 3),
        (0.1, Fraction(0.1)),
    ],
)
def test_numbers_are_read_exactly(text: object, value: Fraction) -> None:
    assert number(text) == value


def test_an_integer_may_have_more_digits_than_python_prints() -> None:
    assert number(10**5000) == 10**5000
    assert not is_alike(number(10**5000), 3)


def test_infinities_and_nan() -> None:
    assert (number("inf"), number("-Infinity")) == (math.inf, -math.inf)
    assert is_alike(number("nan"), math.nan)
    assert not is_alike(number("1"), math.inf)
    assert not is_alike(number("inf"), 1)


@pytest.mark.parametrize(
    "text",
    [
        "one",
        "1/0",
        "2**99999999",
        "9**9**9",
        "__import__('os')",
        "(" * 9999,
        "1,5",
        "0x",
        "1e999999999",
        "1e-99999",
        "0x1p99999",
        "0x" + "f" * 300,
        "10x5",
        "1if 2",
        "'\\d'",
        "1" * 300,
        "1j",
        "",
        "(64**4096)**4096",
        "((1/7)**4096)**4096",
    ],
)
def test_what_is_no_number_is_said(text: str) -> None:
    with (
        warnings.catch_warnings(action="error"),
        pytest.raises(ValueError, match=r"is no number\. You can write `0\.625`, `5/8`"),
    ):
        number(text)


@pytest.mark.parametrize("given", [None, [1, 2], np.arange(3), 1j, Decimal("1e999999999")])
def test_what_cannot_be_a_number_is_said(given: object) -> None:
    with pytest.raises(ValueError, match="is no number"):
        number(given)


def test_bits_have_spaces_anywhere() -> None:
    for text in ("0 011 10", "001110", "0_011_10", "0b001110", "00 11 10 "):
        assert is_alike(read(text, "0 011 10"), "0 011 10")
    with pytest.raises(ValueError, match="other signs than 0, 1 and spaces"):
        read("0 012 10", "0 011 10")


def test_words_in_any_case() -> None:
    assert is_alike(read(" BF16 ", "bf16"), "bf16")
    assert not is_alike(read("fp16", "bf16"), "bf16")


def test_tolerance_is_relative() -> None:
    assert is_alike(number("0.333"), Fraction(1, 3), within=0.01)
    assert not is_alike(number("0.33"), Fraction(1, 3), within=0.001)
    assert not is_alike(number("0.001"), 0, within=0.1)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (0.1015625, "0.1015625"),
        (Fraction(1, 3), "1/3"),
        (3.0, "3"),
        ("0 1", "0 1"),
        (math.inf, "inf"),
        (2.0**-25, "2.9802322387695312e-08"),
        (1e-7, "1e-07"),
        (10.24, "10.24"),
        (2**600 + 1, str(2**600 + 1)),
    ],
)
def test_right_answers_are_shown_as_they_can_be_typed(answer: float, text: str) -> None:
    assert shown(answer) == text
    assert is_alike(read(text, answer), answer)


@pytest.mark.parametrize("right", [0.1, 1 / 3, 2.0**-25, 5e-324, 1.7e308, Fraction(1, 3), -1e-9])
def test_digits_that_stand_for_the_right_float_are_right(right: float) -> None:
    x = float(right)
    for given in (x, np.float64(x), str(x), repr(x), f"{x:.17g}", x.hex()):
        assert is_alike(number(given), right), given
    for near in (math.nextafter(x, math.inf), math.nextafter(x, -math.inf)):
        assert not is_alike(number(near), right)
        assert not is_alike(number(str(near)), right)


def test_what_no_float_holds_is_not_taken_for_another() -> None:
    for given, right in (("1e309", 10**310), ("1e-400", 0), ("0", Fraction(1, 10**400))):
        assert not is_alike(number(given), right)
