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


def test_no_jobs_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "6", "--jobs", "0"]) == 2
    message = "precsim: error: --jobs is 0; allowed are integers from 1 on\n"
    assert capsys.readouterr().err == message


@pytest.mark.long
def test_claims_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    """Processes settle them; what is printed is in order and the same."""
    printed = []
    for jobs in ("1", "2"):
        assert main(["claims", "63", "6", "7", "--json", "--jobs", jobs, "--no-cache"]) == 0
        text = capsys.readouterr().out
        printed.append(re.sub(r'"(seconds|recorded)": .*', "", text))
    assert printed[0] == printed[1]
