"""What the tests with a real browser share: python -m pytest -m browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from precsim.explorer import site
from tests.browser import driving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    with driving.started() as found:
        yield found


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the page that needs no server."""
    built = tmp_path_factory.mktemp("explore")
    fault = site.build(built, driving.NODE_MODULES / "pyodide")
    assert fault is None, fault
    return built


@pytest.fixture(scope="session")
def tab(browser: "Browser", folder: Path) -> Iterator["Page"]:
    """Return the page whose Python runs in the tab."""
    with driving.serving_files(folder) as address, driving.opened(browser, address) as page:
        yield page


@pytest.fixture(scope="session")
def served(browser: "Browser") -> Iterator["Page"]:
    """Return the page whose Python runs behind the server."""
    with driving.serving_answers() as address, driving.opened(browser, address) as page:
        yield page


@pytest.fixture(params=["served", "tab"])
def page(request: pytest.FixtureRequest) -> "Page":
    """Return the page, either way."""
    found: Page = request.getfixturevalue(request.param)
    found.set_viewport_size(driving.DESKTOP)
    found.emulate_media(color_scheme="light")
    return found
