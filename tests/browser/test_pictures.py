"""The pictures of the documentation are small, and can be taken again."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.pictures import LARGEST, PICTURES, take

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_pictures_of_the_documentation_are_those_that_are_taken_and_shown() -> None:
    kept = {path.stem: path.stat().st_size for path in (DOCS / "explore").glob("*.png")}
    assert kept.keys() == PICTURES.keys()
    assert max(kept.values()) <= LARGEST
    page = (DOCS / "explanation" / "explorer-in-a-tab.md").read_text("utf-8")
    assert [name for name in kept if f"(../explore/{name}.png)" not in page] == []


@pytest.mark.browser
def test_pictures_can_be_taken_again(browser: "Browser", tmp_path: Path) -> None:
    assert [path.stem for path in take(browser, tmp_path)] == list(PICTURES)
    assert max(path.stat().st_size for path in tmp_path.iterdir()) <= LARGEST
