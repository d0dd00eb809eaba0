"""`precsim walk`: what it prints fits, says all, and is that of `ps.walk`."""

import json
import math
import re
import time

import pytest

import precsim as ps
from precsim.cli.main import main

WALKED = [
    ("0.1 + 0.2", "fp16"),
    ("-sqrt(2) * 1e-9", "fp32"),
    ("kahan([2048, 1, 1])", "fp16"),
    ("dot([2**12, 1, 0.3], [2**12, 0.75, 0.7], c=-1)", "h100:fp16"),
    ("dot([0.1, 3], [7, 1e-3], b200:nvfp4)", "fp32"),
    ("1e400 - 1", "e4m3:rtz:saturate"),
    ("0 / 0 + 1/0", "fp16"),
    ("1/3 + pi", "bf16:sr8"),
    ("fma(0.1, 10, -1)", "fp64"),
    ("-3.3 + 0.7", "q3.4"),
    ("-two_sum([1, 2**-30, -1])", "fp16"),
    ("1e200 * 1e200", "fp64"),
    ("-1e309", "fp16"),
    ("2**1024", "fp32"),
    ("nan", "q3.4"),
    ("464", "e4m3"),
]
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["walk", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for given, spec in WALKED:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.delenv("FORCE_COLOR", raising=False)
        plain = printed(capsys, given, "--format", spec)
        assert max(map(len, plain.splitlines())) <= columns, given
        assert not any(line != line.rstrip() for line in plain.splitlines()), given
        assert "\x1b" not in plain
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        coloured = printed(capsys, given, "--format", spec)
        assert coloured != plain
        assert _ESCAPE.sub("", coloured) == plain


def test_everything_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for given, spec in WALKED:
        words = "".join(printed(capsys, given, "--format", spec).split())
        found = ps.walk(given, spec)
        for step in found.steps:
            assert "".join(step.name.split()) in words
            assert "".join(step.rounding.reason.split()) in words, step
            assert "".join(step.rounding.bits.split()) in words or step.rounding.is_exact
        assert f"unrounded{''.join(found.exact_text.split())}error" in words


def test_json_is_that_of_walk(capsys: pytest.CaptureFixture[str]) -> None:
    for given, spec in WALKED:
        found = json.loads(printed(capsys, given, "--format", spec, "--json"))
        assert found == json.loads(ps.walk(given, spec).to_json())


def test_words_mode_and_seed(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("1/3", "-", "0.1", "--mode", "sr", "--seed", "3", "--format", "e4m3", "--json")
    found = json.loads(printed(capsys, *words))
    assert found == json.loads(ps.walk("1/3 - 0.1", "e4m3", mode="sr", seed=3).to_json())


def test_0_1_plus_0_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert """\
r1 = 0.1 + 0.2
  numbers     0.0999755859375 + 0.199951171875
  exact       0.2999267578125
  lower <-    0.2998046875     0 01101 0011001100
  upper       0.300048828125   0 01101 0011001101
  because     half way, a tie: rne takes the even one, whose last bit is 0

result
  value       0.2998046875
  bits        0 01101 0011001100
  unrounded   0.3
  error       -0.0001953 absolute, 0.000651 relative, -0.8 ulp
""" in printed(capsys, "0.1 + 0.2", "--format", "fp16")


def test_bits_that_are_cut_off_stand_behind_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    given = "dot([2**12, 1], [2**12, 0.75])"
    assert """\
  term 2      1 * 0.75 = 0.75
              +0000000000000000000000000.1| 1
""" in printed(capsys, given, "--format", "h100:fp16")


HOSTILE = ["9**9**9", "1e999999999", "1" * 100_000, "(" * 5000, "[" * 5000, "\x1b[31m", "a.b.c()"]


@pytest.mark.parametrize("given", HOSTILE, ids=lambda text: f"{text[:8]!r}-{len(text)}")
def test_hostile_input_is_refused_quickly(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    start = time.process_time()
    for command in ("walk", "show"):
        assert main([command, given]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert len(err) < 500
        assert "\x1b" not in err
    assert time.process_time() - start < 5


def test_without_an_expression_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["walk"]) == 2
    assert "arguments are required: EXPRESSION" in capsys.readouterr().err


@pytest.mark.parametrize("spec", ["fp16", "fp32", "fp64"])
def test_a_value_beyond_float64_has_an_error_that_is_not_finite(
    spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for given in ("1e200 * 1e200", "1e309", "2**1024", "-1e309"):
        assert printed(capsys, given, "--format", spec).endswith("  error       not finite\n")


def test_nan_of_no_format_is_not_called_exact(capsys: pytest.CaptureFixture[str]) -> None:
    for spec in ("q3.4", "e2m1"):
        out = printed(capsys, "nan", "--format", spec)
        assert "Exact" not in out
        assert "not finite" in out


@pytest.mark.parametrize("spec", ["fp16", "e4m3", "e4m3fnuz", "fp64", "q3.4", "bf16:saturate"])
def test_numbers_of_many_digits(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Defect: where the exact result had 4,300 digits, the last line was Python's own refusal."""
    for given in ("1e4400", "-1e9999 * 1e9999", "1e-9999 / 1e9999", "sqrt(1e9999 * 1e9999)"):
        *_, last = printed(capsys, "--format", spec, "--", given).splitlines()
        assert last.startswith("  error ")
        assert ("not finite" in last) == (not math.isfinite(ps.walk(given, spec).value))


@pytest.mark.parametrize("given", ["1 / 0", "inf", "-inf", "0 / 0", "-1e9999 * inf"])
def test_no_error_where_the_exact_result_is_not_finite_either(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    *_, last = printed(capsys, "--format", "fp16", "--", given).splitlines()
    assert last.split() == ["error", "none"]
