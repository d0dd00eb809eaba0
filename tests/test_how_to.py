"""Each how-to page has one complete script, of under 40 lines, that runs and warns of nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "how-to"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "index.md")
MAX_LINES = 40


def scripts(page: Path) -> list[str]:
    """Return the blocks of Python of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_script_runs(page: Path) -> None:
    (script,) = scripts(page)
    assert len(script.splitlines()) < MAX_LINES
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_index_lists_every_page() -> None:
    index = (FOLDER / "index.md").read_text("utf-8")
    listed = re.findall(r"^```\{toctree\}\n(.*?)^```", index, re.MULTILINE | re.DOTALL)[0].split()
    assert sorted(listed) == [page.stem for page in PAGES]
