"""`precsim explore`: serves the page, says where, ends when it is interrupted."""

import os
import re
import signal
import subprocess
import sys
from http.client import HTTPConnection

import pytest

from precsim.cli.main import main

# A program that runs in the background of a script ignores Ctrl-C, and so would those it starts.
EXPLORE = """\
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from precsim.cli.main import main
sys.exit(main(["explore", "--no-browser"]))
"""


def test_the_command_serves_the_page_until_it_is_interrupted() -> None:
    command = [sys.executable, "-c", EXPLORE]
    environment = {**os.environ, "COLUMNS": "200"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            port = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            assert port is not None, line
            connection = HTTPConnection("127.0.0.1", int(port[1]), timeout=10)
            connection.request("GET", "/")
            assert b"precsim explorer" in connection.getresponse().read()
            connection.close()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()  # or an error above would wait for it without an end
    assert (process.returncode, out.strip(), err) == (0, "", "")


@pytest.mark.parametrize(
    ("port", "said"),
    [
        ("70000", "--port is 70000; allowed are integers from 0 to 65535"),
        ("-1", "--port is -1; allowed are integers from 0 to 65535"),
        ("x", "'x' is not a whole number"),
    ],
)
def test_ports_that_are_none(port: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "--no-browser", "--port", port]) == 2
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    from precsim.explorer.server import Server

    with Server() as taken:
        port = str(taken.server_address[1])
        assert main(["explore", "--no-browser", "--port", port]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "in use" in said
    assert f"--port is {port}" in said
