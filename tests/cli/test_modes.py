"""`precsim show --mode`: one mode for all formats, or all modes side by side."""

import json
from fractions import Fraction
from typing import Any

import pytest

import precsim as ps
from precsim.cli.main import main


def formats(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert main(["show", *words, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["formats"]
    return found


def test_every_mode_side_by_side(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = formats(["17/16", "e4m3", "e5m2:saturate", "--mode", "all"], capsys)
    assert [entry["format"] for entry in found[:2]] == ["e4m3", "e4m3:rna"]
    assert len(found) == 2 * len(ps.RoundingMode)
    for entry in found:
        value = ps.oracle.round_exact(Fraction(17, 16), entry["format"]).value
        assert float(entry["value"]) == value
    for columns in ("60", "80", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["show", "17/16", "fp64", "e4m3", "mxfp4", "--mode", "all"]) == 0
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= int(columns)
        assert not any(line != line.rstrip() for line in out.splitlines())
        assert "nearest, ties to even" in " ".join(out.split())
    assert "  rne   1       0.5 ulp   0 0111 000   nearest, ties to even\n" in out
    assert "  rna   1.125   0.5 ulp   0 0111 001   nearest, ties away from zero\n" in out


def test_one_mode_for_all_formats(capsys: pytest.CaptureFixture[str]) -> None:
    found = formats(["0.1", "--mode", "rtz"], capsys)
    assert [entry["format"] for entry in found] == ["fp32:rtz", "fp16:rtz", "bf16:rtz", "e4m3:rtz"]
    for words, message in (
        (["0.1", "fp16:rtz", "--mode", "rtp"], "--mode is 'rtp', but spec 'fp16:rtz' says rtz"),
        (["0.1", "--mode", "rtx"], "'all'; did you mean 'rtz'?"),
        (["fp16", "--mode", "rtz"], "--mode is given, but nothing is rounded"),
        (["--code", "1", "fp16", "--mode", "rtz"], "--mode is given, but nothing is rounded"),
    ):
        assert main(["show", *words]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["all", "rne"])
def test_a_mode_beside_one_that_a_format_names(
    mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "0.1", "fp16:rtz", "--mode", mode]) == 2
    said = f"--mode is '{mode}', but spec 'fp16:rtz' says rtz; allowed is one of the two"
    assert said in capsys.readouterr().err
