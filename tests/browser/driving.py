"""A real browser without a network, and the two ways to serve the explorer's page.

It needs Debian's Chromium, playwright and the npm packages (docs/explanation/explorer-in-a-tab.md).
"""

import functools
import shutil
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from precsim.explorer.server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Route, ViewportSize

NODE_MODULES = Path(__file__).parent.parent.parent / "node_modules"
DESKTOP: "ViewportSize" = {"width": 1280, "height": 800}
PHONE: "ViewportSize" = {"width": 390, "height": 844}
PATIENCE = 60_000
"""Milliseconds that a page may take, on a machine that does other things too."""

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = [
    "--no-sandbox",  # which the user root cannot have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


@contextmanager
def started() -> Iterator["Browser"]:
    """Start the Chromium of this machine."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        raise FileNotFoundError(f"no browser: none of {', '.join(_NAMES)} is on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_FLAGS)
        yield browser
        browser.close()


@contextmanager
def _serving(server: ThreadingHTTPServer) -> Iterator[str]:
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


def serving_files(folder: Path) -> AbstractContextManager[str]:
    """Serve a folder, as any server of static files does."""
    handler = functools.partial(_Quiet, directory=str(folder))
    return _serving(ThreadingHTTPServer(("127.0.0.1", 0), handler))


def serving_answers() -> AbstractContextManager[str]:
    """Serve the page as `precsim explore` does."""
    return _serving(Server())


def settle(page: "Page") -> None:
    """Wait until the page shows the answer to what is chosen."""
    page.wait_for_selector("#loading", state="detached")
    page.wait_for_selector("section[aria-busy=false]:not([hidden]) .output > *", state="attached")


def section(page: "Page") -> "Locator":
    """Return the panel that is shown."""
    return page.locator("section:not([hidden])")


def panels(page: "Page") -> list[str]:
    """Return the names of the panels, in order."""
    links = page.locator("nav a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    return [link.partition("?")[0].removeprefix("#/") for link in links]


def open_panel(page: "Page", name: str, **chosen: str) -> None:
    """Show a panel, as a link of the page does."""
    page.evaluate("() => document.activeElement?.blur()")  # typing ends before one leaves
    page.goto(f"{page.url.partition('#')[0]}#/{name}?{urlencode(chosen)}")
    page.evaluate("() => new Promise((resolve) => setTimeout(resolve))")  # after its hashchange
    page.wait_for_selector(f"#panel-{name}:not([hidden])")
    settle(page)


@contextmanager
def opened(browser: "Browser", address: str) -> Iterator["Page"]:
    """Open the page; whatever it asks of another origin is refused, and is an error."""
    # Without motion no color is looked at halfway between two looks.
    context = browser.new_context(viewport=DESKTOP, reduced_motion="reduce")
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
    settle(page)
    yield page
    context.close()
    if elsewhere or faults:
        raise AssertionError(f"requests to other origins: {elsewhere}; errors: {faults}")
