"""Answers as learners type them, and how they are compared."""

import math
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
        (np.float32(0.5), Fraction(1, 2)),
        (3, 3),
        (0.1, Fraction(0.1)),
    ],
)
def test_numbers_are_read_exactly(text: object, value: Fraction) -> None:
    assert number(text) == value


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
        "0x1e5",
        "1" * 300,
        "1j",
        "",
        "(64**4096)**4096",
        "((1/7)**4096)**4096",
    ],
)
def test_what_is_no_number_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no number\. You can write 0\.625, 5/8"):
        number(text)


@pytest.mark.parametrize("given", [None, [1, 2], np.arange(3), 1j])
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
    ],
)
def test_right_answers_are_shown_as_they_can_be_typed(answer: float, text: str) -> None:
    assert shown(answer) == text
    assert is_alike(read(text, answer), answer)
