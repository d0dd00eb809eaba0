"""The page and the answers over HTTP, for this machine alone."""

import json
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from precsim.explorer.answers import answer
from precsim.explorer.data import LARGEST_FILE

HOST = "127.0.0.1"
LARGEST_REQUEST = LARGEST_FILE * 4 // 3 + 500_000
"""Bytes of a request: a file in base64, and what else is asked."""

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_files() -> dict[str, bytes]:
    """Return the files of the page, by their path below it.

    Examples
    --------
    >>> "index.html" in page_files()
    True
    """
    found: dict[str, bytes] = {}
    left = [("", files("precsim.explorer") / "page")]
    while left:
        before, folder = left.pop()
        for entry in folder.iterdir():
            if entry.is_dir():
                left.append((f"{before}{entry.name}/", entry))
            elif entry.name.rpartition(".")[2] in _TYPES:
                found[before + entry.name] = entry.read_bytes()
    return found


class Server(ThreadingHTTPServer):
    """Serves the page and answers its questions, to this machine alone."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        """Listen on a port; 0 stands for any that is free."""
        self.files = page_files()
        super().__init__((HOST, port), _Handler)

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{HOST}:{self.server_address[1]}/"

    @property
    def names(self) -> set[str]:
        """The names by which a browser of this machine may call the server."""
        return {f"{name}:{self.server_address[1]}" for name in (HOST, "localhost")}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that has left before the answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "precsim"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        if not self._is_ours() or (path := self._path()) is None:
            return
        path = path.removeprefix("/") or "index.html"
        if path not in self.server.files:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
            return
        kind = _TYPES[path.rpartition(".")[2]]
        self._send(HTTPStatus.OK, self.server.files[path], f"{kind}; charset=utf-8")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if not self._is_ours() or (path := self._path()) is None:
            return
        if path != "/ask":
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
            return
        if self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a request is JSON")
            return
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "a request says its length")
            return
        if len(length) > 10 or int(length) > LARGEST_REQUEST:
            self._refuse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the request has {length[:20]} bytes; allowed are at most {LARGEST_REQUEST}",
            )
            return
        try:
            request = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            self._refuse(HTTPStatus.BAD_REQUEST, "the request is not JSON")
            return
        try:
            found = answer(request)
        except Exception as error:  # noqa: BLE001 a defect, which the page has to show
            found = {"error": f"precsim failed, which is a defect: {type(error).__name__}: {error}"}
        self._send_json(HTTPStatus.OK, found)

    def _path(self) -> str | None:
        try:
            return urlsplit(self.path).path
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST, "the address is not understood")
            return None

    def _is_ours(self) -> bool:
        """Refuse other hosts' names and other sites' pages; names have no case."""
        host, origin = self.headers.get("Host", "").lower(), self.headers.get("Origin")
        origin = None if origin is None else origin.lower()
        if host not in self.server.names or origin not in (None, f"http://{host}"):
            self._refuse(HTTPStatus.FORBIDDEN, "only the page of this server may ask")
            return False
        return True

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True
        self._send_json(status, {"error": why})

    def _send_json(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._send(status, json.dumps(content, allow_nan=False).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the terminal shows where the page is, and how to end."""
