"""A tutorial's script prints what the tutorial shows; its other snippets are doctests."""

import contextlib
import io
import runpy
from pathlib import Path

import pytest

from docs.extensions.snippets import DOCS
from tests.test_how_to import is_alike, scripts


def test_report_is_printed_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers with an exponent are what float64 leaves over, and differ between machines."""
    monkeypatch.setenv("COLUMNS", "98")
    ((script, (shown,)),) = scripts(DOCS / "tutorials" / "read-a-report.md")
    path = tmp_path / "loss.py"
    path.write_text(script, "utf-8")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        runpy.run_path(str(path), run_name="__main__")
    pairs = list(zip(shown.split(), output.getvalue().split(), strict=True))
    assert [pair for pair in pairs if "e-" not in pair[0] and not is_alike(*pair)] == []
