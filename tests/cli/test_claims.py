"""`precsim claims`: what the pages show is what it prints; bad input is one line."""

import re
from pathlib import Path

import pytest

from precsim.cli.main import main

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["explanation/claims.md", "faq.md"])
def test_pages_show_what_is_printed(
    page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"```console\n\$ precsim (claims \d+)\n(.*?)```", text, re.DOTALL)
    assert found
    for words, shown in found:
        assert main(words.split()) == 0
        assert capsys.readouterr().out.strip() == shown.strip()


def test_unknown_row_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "pi"]) == 2
    message = "precsim: error: ROW is 'pi'; allowed are the numbers 1 to 76, separated by spaces\n"
    assert capsys.readouterr().err == message
