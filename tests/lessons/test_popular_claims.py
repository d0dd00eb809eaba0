"""Lesson 12: every claim is measured, and the numbers are those that arithmetic gives."""

import importlib
from typing import Any

import pytest

pytest.importorskip("marimo")

LESSON = importlib.import_module("lessons.12_popular_claims")
MEASURED = {
    "range": ("2,139,095,039", "43.92%", "40.00%", "16.08%"),
    "pi": ("fp16: 3.140625", "bf16: 3.140625", "e4m3: 3.25", "e5m2: 3"),
    "fixed": ("whole number: 0.", "803.84", "804/256 = 3.14062"),
    "back": ("3.140625", "63,488 codes"),
    "sum": ("fp16: 256, bf16: 32", "fp16: 1000, bf16: 1000"),
    "update": ("fp32: 1.100017, fp16: 1, bf16: 1",),
    "mean": ("33,554,432", "2^-25", "In fp16 that is 0"),
    "adam": ("10⁻⁸ is 0 in fp16", "0.999 is 1 in bf16"),
    "softmax": ("is inf", "e^−17.5, is 0"),
    "memory": ("1.75 |", "0.88 |"),
}


def claims() -> dict[str, Any]:
    made = {k: v for k, v in vars(LESSON).items() if k.startswith("claim_")}
    return {name.removeprefix("claim_"): make() for name, make in made.items()}


def test_claims_are_numbered_and_measured() -> None:
    found = claims()
    assert [claim.number for claim in found.values()] == list(range(1, 11))
    assert found.keys() == MEASURED.keys()
    for name, words in MEASURED.items():
        assert found[name].verdict in LESSON.ANSWERS
        for word in words:
            assert word in found[name].measured, name


def test_a_guess_opens_the_measurement() -> None:
    claim = LESSON.claim_fixed()
    assert "guessed right" in claim.reveal("false").text
    assert "You guessed: true" in claim.reveal("true").text
    assert "You guessed nothing" in claim.reveal("<script>alert(1)</script>").text
    assert all("803.84" in claim.reveal(guess).text for guess in ("false", "true"))
