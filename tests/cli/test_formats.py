"""`precsim formats`: complete, and true."""

import json
import re

import pytest

import precsim as ps
from precsim.cli.format_rows import FLOAT_COLUMNS, facts, row_of
from precsim.cli.main import main


def test_every_registered_format_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats"]) == 0
    first_words = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line]
    assert set(ps.list_formats()) <= set(first_words)


def test_kind_restricts_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["formats", "--kind", "fixed"])
    out = capsys.readouterr().out
    assert "q3.12" in out
    assert "fp16" not in out
    main(["formats", "--kind", "float"])
    out = capsys.readouterr().out
    assert "q3.12" not in out
    assert "fp16" in out


def test_a_format_alone_shows_its_facts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "mxfp4"]) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[:2])
    assert shown == {"name": "mxfp4", "element": "e2m1"}
    for name in ps.list_formats():
        assert dict(facts(ps.get_format(name)))["name"] == name


def test_json_has_every_format_with_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats", "--json"]) == 0
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert tuple(found) == ps.list_formats()
    for kind in ("float", "fixed", "block", "affine"):
        names = [name for name, entry in found.items() if entry["kind"] == kind]
        assert tuple(names) == ps.list_formats(kind=kind)
    for name, entry in found.items():
        fmt = ps.get_format(name)
        for key in ("precision", "bias", "max_finite", "fraction_bits", "block_size", "bits"):
            assert entry.get(key) == getattr(fmt, key, None)
        assert all(ps.get_format(alias) == fmt for alias in entry["aliases"])
    assert main(["formats", "--json", "--kind", "affine"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(ps.list_formats(kind="affine"))


def power(text: str) -> float:
    base, _, exponent = text.partition("^")
    return float(base) ** int(exponent)


@pytest.mark.parametrize("name", ps.list_formats(kind="float"))
def test_rows_agree_with_their_formats(name: str) -> None:
    fmt = ps.get_format(name)
    cells = dict(zip(FLOAT_COLUMNS, row_of(fmt), strict=True))
    assert cells["name"] == name
    assert isinstance(fmt, ps.FloatFormat)
    assert int(cells["bits"]) == fmt.width
    assert power(cells["min normal"]) == fmt.min_normal
    if cells["min subnormal"] == "none":
        assert not fmt.has_subnormals
    else:
        assert power(cells["min subnormal"]) == fmt.min_subnormal
    assert power(cells["u"]) == fmt.unit_roundoff
    assert float(cells["max"]) == pytest.approx(fmt.max_finite, rel=1e-5)
    aliases = cells["aliases"].split(", ") if cells["aliases"] else []
    assert all(ps.get_format(alias) == fmt for alias in aliases)
    assert aliases or fmt.specials.is_p3109
    assert cells["specials"].startswith("inf") == fmt.has_infinity
    assert ("no -0" in cells["specials"]) == (fmt.is_signed and not fmt.has_negative_zero)
    assert cells["source"]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_tables_fit_a_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    main(["formats"])
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, out.splitlines())) <= columns
    # No name or number is cut off.
    assert "…" not in out
    assert "1.79769e+308" in out
    assert "e4m3b11fnuz" in out
