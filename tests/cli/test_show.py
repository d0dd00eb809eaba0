"""`precsim show`: numbers read exactly, and every line of its output."""

import json
import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.cli.main import main
from precsim.cli.show import rows
from precsim.cli.shown import Shown, describe, describe_code
from precsim.formats.registry import list_formats
from precsim.formats.written import exact_decimal, parse_number
from precsim.rounding.spec import RoundingSpec


def lines(exact: Fraction | float, spec: str, random_bits: int = 0) -> dict[str, str]:
    """Map each label to its content."""
    shown = describe(exact, RoundingSpec.parse(spec), random_bits)
    assert isinstance(shown, Shown)
    return {label: as_text(content) for label, content in rows(shown)}


def as_text(content: str | Sequence[tuple[str, str]]) -> str:
    return content if isinstance(content, str) else " ".join(word for word, _ in content)


@pytest.mark.parametrize(
    "value",
    ["-3.14", "-1e-3", "-inf", "-0x1.8p-3", "-1/3", "-.5", "-nan", "-0", "-pi", "-e", "-2**-3"],
)
def test_negative_numbers_are_no_options(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", value, "fp32"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(value)
    assert "bits        1 " in out


def test_pi_in_fp16() -> None:
    formula = "(-1)**0 * 2**(16-15) * 1.1001001000b = 3.140625"
    assert lines(parse_number("pi"), "fp16")["derived"] == formula


def test_every_line_for_one_number() -> None:
    assert lines(Fraction("3.14"), "e4m3") == {
        "bits": "0 1000 101 (sign, exponent, trailing significand)",
        "code": "0x45",
        "derived": "(-1)**0 * 2**(8-7) * 1.101b = 3.25",
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
    (Fraction(-448), "e4m3", "none below, -416 above"),
    (Fraction(-500), "e4m3", "none below, -448 above"),
    (Fraction(-240), "e4m3fnuz", "none below, -224 above"),
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
    (Fraction(0), "float(e=inf,p=4)", "none below, none above"),
    (math.inf, "fp16", "none below, none above"),
    (math.nan, "fp16", "none below, none above"),
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
    assert lines(math.nan, "e2m1")["bits"] == "none for this value"
    assert lines(math.nan, "e2m1")["exact"] == "no"
    assert lines(math.nan, "fp16")["exact"] == "yes"
    assert (
        lines(-math.inf, "fp16")["bits"]
        == "1 11111 0000000000 (sign, exponent, trailing significand)"
    )
    assert lines(math.inf, "e4m3")["exact"] == "no"
    assert lines(Fraction(1, 10**400), "fp64")["error"].endswith("1 relative, 2.024e-77 ulp")
    assert lines(Fraction(1), "float(e=inf,p=4)")["bits"] == "none for this value"
    for name, code in (("fp16", "0xfe00"), ("e4m3", "0xff"), ("e5m2", "0xfe")):
        minus, plus = lines(-math.nan, name), lines(math.nan, name)
        assert (minus["value"], minus["code"], plus["value"]) == ("-nan", code, "nan")
        assert plus["bits"][0] == "0"
    assert lines(-math.nan, "e4m3fnuz")["value"] == "nan"  # which has one NaN


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
        bits = shown["bits"].partition(" (")[0].replace(" ", "")
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


DIGITS = "0." + "314159265" * 22 + "31"
assert len(DIGITS) == 202

INPUTS = [
    *("0", "-0", DIGITS, "0.1", "-0.1", "1/3", "2**-24", "2^-149", "pi", "(1+2^-9)*3", "e"),
    *("1+2**-11",),
    *(
        "1e-300 fp64",
        "1e300 fp64 fp32 e4m3",
        "5e-324 fp64",
        "inf",
        "-inf",
        "nan",
        "-nan",
        "448 e4m3",
    ),
    *(
        "500 e4m3 e4m3:saturate",
        "0x1.8p-3 fp16",
        "-9 q3.4 q3.4:wrap",
        "0.3 uq0.8 q3.12",
        "1e-40 fp32",
    ),
    *(
        "1e400 fp16",
        "1/7 binary8p4se binary8p3se",
        "3 e8m0",
        "1 float(e=inf,p=4)",
        "0.1 mxfp4 nvfp4",
    ),
    *("-5.5 int8 int4_symmetric_block32", "0.1 mxint8 mxfp8_e5m2", "nan mxfp4", "mxfp4", "int8"),
    *("e4m3", "q3.4", "--code 0x3c00", "--code 0xff e4m3 e5m2", "--code 0b0111000 binary7p3sf"),
]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(INPUTS) == 40
    monkeypatch.setenv("COLUMNS", str(columns))
    for given in INPUTS:
        assert main(["show", *given.split()]) == 0
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= columns, given
        assert not any(line != line.rstrip() for line in out.splitlines()), given


def test_colours_change_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for given in (*INPUTS, "0.1 e4m3 fp32 --mode all"):
        printed = []
        for forced in ("", "1"):
            monkeypatch.setenv("FORCE_COLOR", forced)
            assert main(["show", *given.split()]) == 0
            printed.append(capsys.readouterr().out)
        assert re.sub(r"\x1b\[[0-9;]*m", "", printed[1]) == printed[0]


def test_values_are_those_of_the_oracle(capsys: pytest.CaptureFixture[str]) -> None:
    for given in INPUTS:
        words = given.split()
        if "--code" in words or len(parsed(words, capsys)) == 0:
            continue
        exact = parse_number(words[0])
        for entry in parsed(words, capsys):
            if "parts" not in entry:
                expected = ps.oracle.round_exact(exact, entry["format"]).value
                assert np.array_equal(float(entry["value"]), expected, equal_nan=True), given


def test_breaking_lines_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for given in INPUTS:
        printed = set()
        for columns in ("60", "4000"):
            monkeypatch.setenv("COLUMNS", columns)
            main(["show", *given.split()])
            printed.add("".join(capsys.readouterr().out.split()))
        assert len(printed) == 1


def parsed(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert main(["show", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    formats: list[dict[str, Any]] = found.get("formats", [])
    return formats


@pytest.mark.parametrize("given", INPUTS)
def test_json_is_parsed_back(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    for entry in parsed(given.split(), capsys):
        value = float(entry["value"])
        spec = RoundingSpec.parse(entry["format"])
        if "parts" in entry:
            assert set(entry["parts"]) in (
                {"element", "scale"},
                {"element", "scale", "tensor scale"},
                {"code", "scale", "zero point"},
            )
            continue
        hexadecimal = float.fromhex(entry["hex_float"])
        assert value == hexadecimal or (math.isnan(value) and math.isnan(hexadecimal))
        if entry["code"] is None:
            assert entry["bits"] is None
            continue
        code = int(entry["code"], 16)
        assert int("".join(entry["bits"].values()), 2) == code
        assert np.array_equal(ps.decode(code, spec.format), value, equal_nan=True)


@pytest.mark.parametrize("name", NUMBER_FORMATS)
def test_beyond_the_ends_of_a_format_is_infinity_or_nothing(name: str) -> None:
    """Defect: ``show -448 e4m3`` said "-inf below", though e4m3 has no infinity."""
    fmt = ps.get_format(name)
    if isinstance(fmt, ps.FixedPointFormat):
        highest, lowest, has_infinity = fmt.max_value, fmt.min_value, False
    else:
        highest, lowest, has_infinity = fmt.max_finite, -fmt.max_finite, fmt.has_infinity
    for factor in (1, 3):
        above = lines(factor * Fraction(highest), name)["neighbours"]
        assert above.endswith(", inf above" if has_infinity else ", none above")
        if lowest and fmt.is_signed:
            below = lines(factor * Fraction(lowest), name)["neighbours"]
            assert below.startswith("-inf below" if has_infinity else "none below")


EIGHT_BITS = [name for name in NUMBER_FORMATS if ps.get_format(name).width == 8]


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_every_code_of_a_format_of_8_bits_comes_back(name: str) -> None:
    """By ``--code``, then by the value that it says; NaN comes back as the quiet one."""
    spec = RoundingSpec.parse(name)
    expected = ps.decode(np.arange(256), name)
    for code in range(256):
        shown = describe_code(code, spec).as_dict()
        assert int(shown["code"], 16) == code
        value = float(shown["value"])
        assert np.array_equal(value, expected[code], equal_nan=True)
        assert math.copysign(1, value) == math.copysign(1, expected[code]) or math.isnan(value)
        back = describe(parse_number(shown["value"]), spec).as_dict()
        assert (back["value"], back["is_exact"]) == (shown["value"], True)
        assert back["code"] == shown["code"] or math.isnan(value)
        if math.isnan(value):  # of which there are several codes
            assert back == describe_code(int(back["code"], 16), spec).as_dict()


def test_codes_come_back_through_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for code in range(0, 256, 15):
        (shown,) = parsed(["--code", f"{code:#x}", "e4m3"], capsys)
        (back,) = parsed([shown["value"], "e4m3"], capsys)
        assert back == shown
        assert int(back["code"], 16) == code


def test_formats_may_stand_after_options(capsys: pytest.CaptureFixture[str]) -> None:
    """Defect: "unrecognized arguments: e4m3"."""
    assert main(["show", "-1/3", "--json", "e4m3", "--random-bits", "86", "e4m3:sr8"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["format"] for entry in found["formats"]] == ["e4m3", "e4m3:sr8"]
    assert found["given"] == "-1/3"


def test_a_code_shows_the_default_formats_of_its_width(capsys: pytest.CaptureFixture[str]) -> None:
    assert [entry["format"] for entry in parsed(["--code", "0x3c00"], capsys)] == ["fp16", "bf16"]
    assert [entry["format"] for entry in parsed(["--code", "0x38"], capsys)] == ["e4m3"]
    assert [entry["format"] for entry in parsed(["--code", "0 0111 000"], capsys)] == ["e4m3"]
    assert main(["show", "--code", "0 01111 0000000000"]) == 0
    assert "bf16" not in capsys.readouterr().out
    main(["show", "--code", "0x3c00", "fp16"])
    assert "derived     (-1)**0 * 2**(15-15) * 1.0000000000b = 1\n" in capsys.readouterr().out


def test_a_number_alone_in_a_block_is_what_round_to_gives(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [*list_formats(kind="block"), *list_formats(kind="affine"), "mxfp4_rceil"]
    for given in (0.1, -5.5, 300.0):
        for entry in parsed([str(np.float32(given)), *names], capsys):
            shown = np.float32(entry["value"])
            expected = ps.round_to(np.array([given], np.float32), entry["format"])[0]
            assert shown == expected, entry
    assert parsed(["0.1", "mxfp4"], capsys)[0]["derivation"] == (
        "element * scale = 6 * 2**-6 = 0.09375"
    )


def test_a_number_is_alone_where_a_scale_is_shared(capsys: pytest.CaptureFixture[str]) -> None:
    """Defect: int8, whose scale belongs to the tensor, was said to have a block."""
    for name, place in (
        ("mxfp4", "block"),
        ("int8", "tensor"),
        ("int4_symmetric_block32", "block"),
    ):
        (entry,) = parsed(["0.1", name], capsys)
        assert entry["size"].endswith(f"one number alone in its {place}")


def test_block_and_affine_formats_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for name, words in (("mxfp4", "element * scale."), ("int8", "scale * (code - zero point).")):
        assert main(["show", name]) == 0
        assert f"A value is {words}" in " ".join(capsys.readouterr().out.split())
