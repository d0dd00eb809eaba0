"""Numbers as people write them: read exactly, refused in one line, written exactly."""

import math
from fractions import Fraction

import pytest

from precsim.formats.written import (
    CONSTANTS,
    approximate,
    exact_decimal,
    exact_text,
    hex_float,
    parse_number,
)

NUMBERS = [
    ("3.14", Fraction(157, 50)),
    ("-3.14", Fraction(-157, 50)),
    ("+.5", Fraction(1, 2)),
    ("5.", Fraction(5)),
    ("-1e-3", Fraction(-1, 1000)),
    ("1E3", Fraction(1000)),
    ("0x1.8p-3", Fraction(3, 16)),
    ("-0x1.8p-3", Fraction(-3, 16)),
    ("0XA", Fraction(10)),
    ("0x.1p4", Fraction(1)),
    ("0x1.00000000000000000001p0", 1 + Fraction(1, 2**80)),
    ("1/3", Fraction(1, 3)),
    ("-1/3", Fraction(-1, 3)),
    ("0x1p-3/0.1", Fraction(5, 4)),
    ("inf", math.inf),
    ("-Infinity", -math.inf),
    ("0", Fraction(0)),
    ("2**-24", Fraction(1, 2**24)),
    ("2^-24", Fraction(1, 2**24)),
    ("3*2**-24", Fraction(3, 2**24)),
    ("-2**2", Fraction(-4)),
    ("1/2/3", Fraction(1, 6)),
    ("1+2**-11", 1 + Fraction(1, 2**11)),
    ("1 - 1/4 + 2^2", Fraction(19, 4)),
    ("1-1", Fraction(0)),
    ("PI/pi", Fraction(1)),
    ("(1+2**-11)*3", 3 * (1 + Fraction(1, 2**11))),
    ("-(1/3)**(1+1)", Fraction(-1, 9)),
]


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_numbers_are_read_exactly(text: str, value: Fraction | float) -> None:
    assert parse_number(text) == value
    assert parse_number(f" {text}") == value


def test_pi_and_e_are_right_to_100_digits() -> None:
    gmpy2 = pytest.importorskip("gmpy2")
    with gmpy2.context(precision=400):
        known = {"pi": gmpy2.const_pi(), "e": gmpy2.exp(gmpy2.mpfr(1))}
        for name, value in known.items():
            numerator, denominator = value.as_integer_ratio()
            error = abs(CONSTANTS[name] - Fraction(int(numerator), int(denominator)))
            assert error < Fraction(1, 10**99)
    assert float(parse_number("pi")) == math.pi
    assert float(parse_number("e")) == math.e


def test_negative_zero_and_nan_are_kept() -> None:
    for text in ("-0", "-0.0", "-0x0p5", "-0/7"):
        assert math.copysign(1, parse_number(text)) == -1
    assert math.isnan(parse_number("nan"))
    assert math.copysign(1, parse_number("-nan")) == -1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        ".",
        "1/",
        "/2",
        "0x",
        "e5",
        "1e",
        "0xg",
        "--1",
        "1_000",
        "½",
        "٣",
        "2**",
        "2***3",
        "1+-1",
        "pie",
        "1 2",
    ],
)
def test_what_is_not_a_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        parse_number(text)


@pytest.mark.parametrize(
    "value", [0.1, 1 / 3, 1e300, 5e-324, 2.0**-17, 1e21, 1e-6, 123456789.0, -0.5, 100.0]
)
def test_decimal_is_exact(value: float) -> None:
    assert Fraction(exact_decimal(value)) == Fraction(value)
    assert float.fromhex(hex_float(value)) == value


def test_approximation_has_four_digits() -> None:
    assert approximate(Fraction(2, 3)) == "0.6667"
    assert approximate(Fraction(123456)) == "123500"
    assert approximate(Fraction(0)) == "0"
    assert approximate(Fraction(1, 30000)) == "3.333e-5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(" * 60 + "1" + ")" * 60, "60 parentheses; allowed are 50"),
        ("(1", "'\\(1' is not a number"),
        ("1)", "'1\\)' is not a number"),
        ("()", "is not a number"),
        ("2**(1/2)", "an exponent of .* is not allowed"),
        ("(((9**9)**9)**9)**999", "has too many digits"),
    ],
)
def test_wrong_parentheses_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_number(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(10) ** 400, "1e+400"),
        (Fraction(1, 10**400), "1e-400"),
        (Fraction(-1, 3), "-1/3"),
        (Fraction(5, 3**40), "4.1126316699849795406...e-19"),
        (Fraction(2) ** 69, "590295810358705651712"),
        (Fraction(2) ** 70, "1.180591620717411303424e+21"),
        (Fraction(7, 10**7), "7e-7"),
        (0.1, "0.10000000000000000555..."),
        (0.5, "0.5"),
        (-0.0, "-0"),
        (math.inf, "inf"),
    ],
)
def test_exact_text(value: Fraction | float, text: str) -> None:
    assert exact_text(value) == text


def test_exact_text_is_exact_unless_it_ends_in_dots() -> None:
    for numerator in (1, -3, 7**20, 10**25 + 1, 12345678):
        for denominator in (1, 3, 2**10, 5**12, 10**7, 2**60, 7**9, 10**44):
            value = Fraction(numerator, denominator)
            text = exact_text(value)
            if "..." not in text:
                assert Fraction(text) == value
            else:
                assert abs(Fraction(text.replace("...", "")) - value) < abs(value) / 10**18


@pytest.mark.parametrize(
    "text", ["3" + "\r" * 2_000 + "4", "-" + "\u2028" * 2_000 + "4", "1\n" * 900]
)
def test_a_long_number_is_refused_in_one_line(text: str) -> None:
    """Found by `conformance.fuzz`."""
    with pytest.raises(ValueError, match="is not a number of at most") as raised:
        parse_number(text)
    assert len(str(raised.value).splitlines()) == 1
