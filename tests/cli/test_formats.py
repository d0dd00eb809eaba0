"""`precsim formats`: complete, and true."""

import pytest

import precsim as ps
from precsim.cli.formats import FLOAT_COLUMNS, fixed_rows, float_rows
from precsim.cli.main import main


def test_every_registered_format_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats"]) == 0
    first_words = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line]
    named = {row[0] for row in float_rows() + fixed_rows()}
    assert named == set(first_words) - {"name", "s/e/p:", "s/i/f:", "u"}
    assert {row[0] for row in fixed_rows()} == set(ps.list_formats(kind="fixed"))


def test_kind_restricts_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["formats", "--kind", "fixed"])
    out = capsys.readouterr().out
    assert "q3.12" in out
    assert "fp16" not in out
    main(["formats", "--kind", "float"])
    out = capsys.readouterr().out
    assert "q3.12" not in out
    assert "fp16" in out


def power(text: str) -> float:
    base, _, exponent = text.partition("^")
    return float(base) ** int(exponent)


@pytest.mark.parametrize("row", float_rows(), ids=lambda row: row[0])
def test_rows_agree_with_their_formats(row: tuple[str, ...]) -> None:
    cells = dict(zip(FLOAT_COLUMNS, row, strict=True))
    fmt = ps.get_format(cells["name"])
    assert isinstance(fmt, ps.FloatFormat)
    assert int(cells["bits"]) == fmt.width
    assert power(cells["min normal"]) == fmt.min_normal
    if cells["min subnormal"] == "none":
        assert not fmt.has_subnormals
    else:
        assert power(cells["min subnormal"]) == fmt.min_subnormal
    assert power(cells["u"]) == fmt.unit_roundoff
    assert float(cells["max"]) == pytest.approx(fmt.max_finite, rel=1e-5)
    assert all(ps.get_format(alias) == fmt for alias in cells["aliases"].split(", "))
    assert cells["specials"].startswith("inf") == fmt.has_infinity
    assert cells["source"]


def test_tables_fit_a_terminal_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    main(["formats"])
    out = capsys.readouterr().out
    # No name or number is cut off.
    assert "…" not in out
    assert "1.79769e+308" in out
    assert "e4m3b11fnuz" in out
