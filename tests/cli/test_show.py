"""`precsim show`: numbers read exactly, and every line of its output."""

import math
from fractions import Fraction

import numpy as np
import pytest

import precsim as ps
from precsim.cli.main import main
from precsim.cli.number import approximate, exact_decimal, hex_float, parse_number
from precsim.cli.show import describe
from precsim.formats.registry import list_formats
from precsim.rounding.spec import RoundingSpec


def lines(exact: Fraction | float, spec: str, random_bits: int = 0) -> dict[str, str]:
    """Map each label to its content."""
    text = describe(exact, RoundingSpec.parse(spec), random_bits).plain
    return {line[2:14].strip(): line[14:] for line in text.splitlines()[1:]}


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
]


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_numbers_are_read_exactly(text: str, value: Fraction | float) -> None:
    assert parse_number(text) == value
    assert parse_number(f" {text}") == value


def test_negative_zero_and_nan_are_kept() -> None:
    for text in ("-0", "-0.0", "-0x0p5", "-0/7"):
        assert math.copysign(1, parse_number(text)) == -1
    assert math.isnan(parse_number("nan"))
    assert math.copysign(1, parse_number("-nan")) == -1


@pytest.mark.parametrize(
    "text", ["", "-", ".", "1/", "/2", "1/2/3", "0x", "e5", "1e", "0xg", "--1", "1_000", "½", "٣"]
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
    "value", ["-3.14", "-1e-3", "-inf", "-0x1.8p-3", "-1/3", "-.5", "-nan", "-0"]
)
def test_negative_numbers_are_no_options(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", value, "fp32"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(value)
    assert "bits        1 " in out or "nan" in value


def test_every_line_for_one_number() -> None:
    assert lines(Fraction("3.14"), "e4m3") == {
        "bits": "0 1000 101  (sign, exponent, significand)",
        "code": "0x45",
        "value": "3.25",
        "hex float": "0x1.ap+1",
        "exact": "no",
        "error": "0.11 absolute, 0.03503 relative, 0.44 ulp",
        "neighbours": "3 below, 3.25 above",
        "flags": "inexact",
    }


def test_one_rounding_from_the_exact_decimal() -> None:
    # In float64 this decimal is 1.0625, a tie that goes to 1; the decimal itself is above the tie.
    decimal = "1.0625" + "0" * 40 + "1"
    assert float(decimal) == 1.0625
    assert lines(parse_number(decimal), "e4m3")["value"] == "1.125"


def test_mode_and_overflow_from_the_spec() -> None:
    assert lines(Fraction("3.14"), "e4m3:rtz")["value"] == "3"
    assert lines(Fraction(500), "e4m3")["value"] == "nan"
    assert lines(Fraction(500), "e4m3")["error"] == "not finite"
    saturated = lines(Fraction(500), "e4m3:rtz:saturate")
    assert saturated["error"] == "52 absolute, 0.104 relative, 1.625 ulp"
    assert saturated["flags"] == "inexact, overflow"
    assert lines(Fraction(-9), "q3.4:wrap")["value"] == "7"


def test_random_bits_decide_stochastic_rounding() -> None:
    third = Fraction(1, 3)  # between 0.3125 and 0.34375, two thirds of the way
    assert lines(third, "e4m3:sr8", 85)["value"] == "0.3125"
    assert lines(third, "e4m3:sr8", 86)["value"] == "0.34375"


NEIGHBOURS = [
    (Fraction(1), "e4m3", "0.9375 below, 1.125 above"),
    (Fraction(0), "e4m3", "-0.001953125 below, 0.001953125 above"),
    (-0.0, "e4m3fnuz", "-0.0009765625 below, 0.0009765625 above"),
    (Fraction(448), "e4m3", "416 below, none above"),
    (Fraction(1000), "e4m3", "448 below, none above"),
    (Fraction(70000), "fp16", "65504 below, inf above"),
    (Fraction(-70000), "fp16", "-inf below, -65504 above"),
    (Fraction(7), "e2m1", "6 below, none above"),
    (Fraction(9), "q3.4", "7.9375 below, none above"),
    (Fraction(-1), "uq0.8", "none below, 0 above"),
    (Fraction(0), "uq0.8", "none below, 0.00390625 above"),
    (Fraction(-1), "e8m0", "none below, 0x1p-127 above"),
    (Fraction(0), "e8m0", "none below, 0x1p-127 above"),
    (Fraction(1, 100), "fp16:flush_after_rounding", None),
    (Fraction(1, 2**20), "fp16:flush_after_rounding", "0 below, 0.00006103515625 above"),
    (Fraction(1), "float(e=inf,p=4)", "0.9375 below, 1.125 above"),
    (Fraction(0), "float(e=inf,p=4)", "none"),
    (math.inf, "fp16", "none"),
    (math.nan, "fp16", "none"),
]


@pytest.mark.parametrize(("exact", "spec", "expected"), NEIGHBOURS)
def test_neighbours(exact: Fraction | float, spec: str, expected: str | None) -> None:
    found = lines(exact, spec)["neighbours"]
    assert found == expected or (expected is None and "none" not in found)


@pytest.mark.parametrize("name", ["e4m3", "e2m1", "e4m3fnuz", "q3.4", "e3m2"])
def test_neighbours_of_every_value_of_a_format(name: str) -> None:
    fmt = ps.get_format(name)
    assert fmt.width is not None
    values = np.unique(ps.decode(np.arange(1 << fmt.width), fmt).astype(np.float64))
    values = values[np.isfinite(values)]
    for i in range(1, len(values) - 1):
        below, above = exact_decimal(values[i - 1] + 0.0), exact_decimal(values[i + 1] + 0.0)
        found = lines(Fraction(values[i]), name)["neighbours"].replace("-0 ", "0 ")
        assert found == f"{below} below, {above} above"


def test_special_values() -> None:
    assert lines(math.nan, "e2m1")["bits"] == "none (the format has no NaN)"
    assert lines(math.nan, "e2m1")["exact"] == "no"
    assert lines(math.nan, "fp16")["exact"] == "yes"
    assert lines(-math.inf, "fp16")["bits"] == "1 11111 0000000000  (sign, exponent, significand)"
    assert lines(math.inf, "e4m3")["exact"] == "no"
    assert lines(Fraction(1, 10**400), "fp64")["error"].endswith("1 relative, 2.024e-77 ulp")
    assert lines(Fraction(1), "float(e=inf,p=4)")["bits"] == "none (unlimited exponent range)"


NUMBER_FORMATS = list_formats(kind="float") + list_formats(kind="fixed")


@pytest.mark.parametrize("name", NUMBER_FORMATS)
def test_every_registered_format_can_be_shown(name: str) -> None:
    for exact in (
        Fraction(1, 3),
        Fraction(-5),
        Fraction(0),
        math.nan,
        -math.inf,
        Fraction(10) ** 400,
    ):
        shown = lines(exact, name)
        width = ps.get_format(name).width
        bits = shown["bits"].partition("  (")[0].replace(" ", "")
        assert len(bits) == width or shown["bits"].startswith("none")
        if "code" in shown:
            assert int(bits, 2) == int(shown["code"], 16)


def test_output_is_plain_unless_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    main(["show", "0.1", "fp16"])
    plain = capsys.readouterr().out
    assert "\x1b" not in plain
    assert plain.startswith("0.1 = 1/10\n\nfp16: 16 bits, precision 11\n")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    main(["show", "0.1", "fp16"])
    assert "\x1b[32m01011\x1b[0m" in capsys.readouterr().out


def test_default_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "1"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{name}: " in out for name in ("fp32", "fp16", "bf16", "e4m3"))
