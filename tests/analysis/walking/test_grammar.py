"""Expressions are read as they are meant; anything else is refused quickly, in one line."""

import re
import time
from contextlib import suppress
from fractions import Fraction

import pytest

import precsim as ps
from precsim.analysis.walking.grammar import MAX_DEPTH, Dot, Negation, Number, Operation, Sum, parse


def number(text: str) -> Number:
    return Number(text, Fraction(text))


def test_operators_bind_as_in_python() -> None:
    product = Operation("multiply", (number("2"), number("3")))
    assert parse("1 + 2*3") == Operation("add", (number("1"), product))
    difference = Operation("subtract", (number("1"), number("2")))
    assert parse("1-2-3") == Operation("subtract", (difference, number("3")))
    assert parse("(1-2)") == difference
    assert parse("1 - -2") == Operation("subtract", (number("1"), number("-2")))
    assert parse("-(1-2)") == Negation(difference)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0x1.8p-3", Fraction(3, 16)),
        ("2**-24", Fraction(1, 2**24)),
        ("2^3", Fraction(8)),
        ("-1e-3", Fraction(-1, 1000)),
        (".5", Fraction(1, 2)),
    ],
)
def test_numbers_are_taken_exactly(text: str, value: Fraction) -> None:
    assert parse(text) == Number(text, value)


def test_signs_of_zeros_and_of_infinities_are_kept() -> None:
    assert str(parse("-0").value) == "-0.0"  # type: ignore[union-attr]
    assert parse("-inf").value == float("-inf")  # type: ignore[union-attr]


def test_functions() -> None:
    one, two = number("1"), number("2")
    found = parse("Kahan([1, 1 + 2])")
    assert isinstance(found, Sum)
    assert str(found.order) == "kahan"
    assert str(parse("blocked4([1])").order) == "blocked4"  # type: ignore[union-attr]
    assert parse("dot([1],[2])") == Dot((one,), (two,), "", None)
    spec = "e4m3[saturate,rtz]_e4m3_fp32"
    assert parse(f"dot([1], [2], {spec}, c = 2)") == Dot((one,), (two,), spec, two)
    assert parse("dot([1],[2],c=1)") == Dot((one,), (two,), "", one)


REFUSED = {
    "": "has the end at character 1",
    "(1 + 2": "has the end at character 7; allowed there are ')'",
    "1 + 2)": "has ')' at character 6",
    "1 2": "has '2' at character 3",
    "1 +": "has the end",
    "1 // 2": "has '/ 2' at character 4",
    "9**9**9": "as powers are for numbers with integer exponents",
    "(1+1)**2": "as powers are for numbers",
    "1e999999999": "the exponent of '1e999999999' is 999999999",
    "2**99999999": "an exponent of '2**99999999' is not allowed",
    "sqt(2)": "did you mean 'sqrt'?",
    "__import__('os')": "the function '__import__' at character 1",
    "x + 1": "has 'x + 1' at character 1",
    "sqrt": "has 'sqrt' at character 1",
    "sqrt(1, 2)": "has ', 2)' at character 7; allowed there are ')'",
    "sum(1, 2)": "allowed there are '['",
    "sum([])": "has '])' at character 6",
    "dot([1], [1, 2])": "lists of 1 and 2 numbers",
    "dot([1], [1], )": "allowed there are a product such as h100:fp16",
    "dot([1], [1], h100:fp16, v100:fp16)": "allowed there are ')'",
    "0.1 + \N{ARABIC-INDIC DIGIT ONE}": "at character 7",
    "lambda: 0": "has 'lambda: 0' at character 1",
    "1 if 1 else 2": "has 'if 1 else 2' at character 3",
    "(" * 500 + "1" + ")" * 500: f"nested deeper than {MAX_DEPTH} levels",
    "-" * 900 + "1": "more than 400 numbers and operations",
    "+".join(["1"] * 500): "more than 400 numbers and operations",
    "1" * 3000: "expression has 3000 characters; allowed are 2000",
    "1" * 1500: "is not a number of at most 1000 characters",
    "sum([" * 100: "nested deeper",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: f"{text[:20]}-{len(text)}")
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(REFUSED[text])) as refused:
        ps.walk(text, "fp16")
    message = str(refused.value)
    assert "\n" not in message
    assert len(message) < 400


def test_hostile_texts_take_no_time() -> None:
    """The largest that are allowed: the exact value is refused where it would fill the memory."""
    start = time.process_time()
    for text in REFUSED:
        with suppress(ValueError):
            ps.walk(text, "fp64")
    with pytest.raises(ValueError, match="expression has an exact value of"):
        ps.walk("*".join(["1e9999"] * 150), "fp64")
    assert ps.walk("*".join(["3"] * 190), "fp64").exact == 3**190
    assert time.process_time() - start < 20


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="expression is 3; allowed are texts"):
        ps.walk(3, "fp16")  # type: ignore[arg-type]
