"""A real browser without a network, and the two ways to serve the explorer's page.

It needs Debian's Chromium, playwright and the npm packages (docs/how-to/serve-the-explorer.md):
python -m pytest -m browser
"""

import functools
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from precsim.explorer import site
from precsim.explorer.server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

NODE_MODULES = Path(__file__).parent.parent.parent / "node_modules"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",  # which the user root cannot have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
PATIENCE = 60_000
"""Milliseconds that a page may take, on a machine that does other things too."""


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Start the Chromium of this machine."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, f"no browser: none of {', '.join(NAMES)} is on the PATH"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield started
        started.close()


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[str]:
    """Serve in a thread and return the address."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the page that needs no server."""
    built = tmp_path_factory.mktemp("explore")
    fault = site.build(built, NODE_MODULES / "pyodide")
    assert fault is None, fault
    return built


@pytest.fixture(scope="session")
def addresses(folder: Path) -> Iterator[dict[str, str]]:
    """Serve the page both ways: with Python behind it, and as files with Python in the tab."""
    files = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    with serving(Server()) as server, serving(files) as tab:
        yield {"server": server, "tab": tab}


@contextmanager
def opened(browser: "Browser", address: str, **options: Any) -> Iterator["Page"]:
    """Open the page; whatever it asks of another origin is refused, and fails the test."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    origin = urlsplit(address).netloc
    elsewhere: list[str] = []
    faults: list[str] = []

    def check(route: "Route") -> None:
        if urlsplit(route.request.url).netloc == origin:
            route.continue_()
        else:
            elsewhere.append(route.request.url)
            route.abort()

    context.route("**/*", check)
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.goto(address)
    page.wait_for_function("/Python \\d/.test(document.querySelector('[role=status]').textContent)")
    yield page
    context.close()
    assert elsewhere == []
    assert faults == []


@pytest.fixture(scope="session", params=["server", "tab"])
def page(
    request: pytest.FixtureRequest, browser: "Browser", addresses: dict[str, str]
) -> Iterator["Page"]:
    """Return the page of one way to serve it, once it can answer."""
    with opened(browser, addresses[request.param]) as found:
        yield found


@pytest.fixture(scope="session")
def tab(browser: "Browser", addresses: dict[str, str]) -> Iterator["Page"]:
    """Return the page whose Python runs in the tab, once it can answer."""
    with opened(browser, addresses["tab"]) as found:
        yield found
