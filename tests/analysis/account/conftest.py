"""No row of any report that these tests make points into precsim's own files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import precsim as ps
from precsim.analysis.account.report import report_of

_OWN = str(Path(ps.__file__).parent)


@pytest.fixture(scope="session", autouse=True)
def _lines_of_the_user() -> Iterator[None]:
    def made(*args: Any, **kwargs: Any) -> ps.Report:
        report = report_of(*args, **kwargs)
        own = [row.line for row in report.rows if row.line.startswith(_OWN)]
        assert not own, f"rows point at {own}"
        return report

    with mock.patch("precsim.analysis.account.analyze.report_of", made):
        yield
