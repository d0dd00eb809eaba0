"""The server: this machine alone, the page's own questions alone, nothing too large."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from typing import Any

import pytest

from precsim.explorer.answers import answer
from precsim.explorer.server import HOST, LARGEST_REQUEST, Server, page_files

ASKED = {"question": "number", "value": "0.1", "format": "e4m3"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def sent(
    server: Server,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection(HOST, server.server_address[1], timeout=10)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    found = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return found


def asked(server: Server, request: Any, **headers: str) -> tuple[int, Any]:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    named = {"Content-Type": "application/json", **headers}
    status, _, content = sent(server, "POST", "/ask", body, named)
    return status, json.loads(content)


def test_the_page_and_its_files(server: Server) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/?x=1", "text/html"),
        ("/app.js", "text/javascript"),
        ("/panels/bits.js", "text/javascript"),
        ("/style.css", "text/css"),
        ("/icon.svg", "image/svg+xml"),
    ):
        status, headers, content = sent(server, "GET", path)
        assert status == 200
        assert headers["Content-Type"] == f"{kind}; charset=utf-8"
        assert content in page_files().values()
        assert "default-src 'self'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path", ["/nothing", "/../answers.py", "/%2e%2e/answers.py", "/panels", "//etc/passwd", "/ask"]
)
def test_nothing_else_is_served(server: Server, path: str) -> None:
    status, _, content = sent(server, "GET", path)
    assert status == 404
    assert json.loads(content) == {"error": "there is no such page"}


def test_answers_are_those_of_python(server: Server) -> None:
    assert asked(server, ASKED) == (200, answer(ASKED))
    assert asked(server, {"question": "x"})[1] == answer({"question": "x"})
    port = server.server_address[1]
    own = f"http://{HOST}:{port}"
    assert asked(server, ASKED, Origin=own)[0] == 200
    named = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    assert asked(server, ASKED, **named)[0] == 200
    named = {"Host": f"LOCALHOST:{port}", "Origin": f"http://LocalHost:{port}"}
    assert asked(server, ASKED, **named)[0] == 200


def test_head_answers_as_get_without_a_body(server: Server) -> None:
    for path in ("/", "/nothing"):
        status, headers, content = sent(server, "HEAD", path)
        expected = sent(server, "GET", path)
        assert (status, content) == (expected[0], b"")
        assert headers["Content-Length"] == str(len(expected[2]))


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_an_address_that_is_none_is_refused(
    server: Server, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection((HOST, server.server_address[1]), timeout=10) as connection:
        host = f"{HOST}:{server.server_address[1]}"
        connection.sendall(f"{method} http://[::1 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 400")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "example.com"},
        {"Host": "example.com:80"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://example.com"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1"},
    ],
)
def test_other_sites_cannot_ask(server: Server, headers: dict[str, str]) -> None:
    assert asked(server, ASKED, **headers) == (
        403,
        {"error": "only the page of this server may ask"},
    )
    assert sent(server, "GET", "/", headers=headers)[0] == 403


def test_a_form_of_another_site_cannot_ask(server: Server) -> None:
    """A form sends no JSON, and a script that sends JSON is asked for its origin first."""
    body = json.dumps(ASKED).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        status, _, content = sent(server, "POST", "/ask", body, {"Content-Type": kind})
        assert (status, json.loads(content)) == (415, {"error": "a request is JSON"})
    assert sent(server, "OPTIONS", "/ask")[0] == 501


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1e400 x"])
def test_what_is_not_json_is_refused(server: Server, body: bytes) -> None:
    assert asked(server, body) == (400, {"error": "the request is not JSON"})


def test_large_requests_are_refused_before_they_are_read(server: Server) -> None:
    with socket.create_connection((HOST, server.server_address[1]), timeout=10) as connection:
        head = (
            f"POST /ask HTTP/1.1\r\nHost: {HOST}:{server.server_address[1]}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {LARGEST_REQUEST + 1}\r\n\r\n"
        )
        connection.sendall(head.encode())
        reply = connection.makefile("rb").read()
    assert reply.startswith(b"HTTP/1.1 413")
    assert f"allowed are at most {LARGEST_REQUEST}".encode() in reply


@pytest.mark.parametrize("length", ["", "-1", "1e3", "٣"])
def test_a_request_says_its_length(server: Server, length: str) -> None:
    with socket.create_connection((HOST, server.server_address[1]), timeout=10) as connection:
        line = f"Content-Length: {length}\r\n" if length else ""
        head = (
            f"POST /ask HTTP/1.1\r\nHost: {HOST}:{server.server_address[1]}\r\n"
            f"Content-Type: application/json\r\n{line}\r\n"
        )
        connection.sendall(head.encode())
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 411")


def test_the_server_listens_to_this_machine_alone(server: Server) -> None:
    assert server.server_address[0] == HOST == "127.0.0.1"


def test_a_defect_is_an_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(request: Any) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr("precsim.explorer.server.answer", fails)
    status, found = asked(server, ASKED)
    assert status == 200
    assert found["error"] == "precsim failed, which is a defect: RuntimeError: no"
