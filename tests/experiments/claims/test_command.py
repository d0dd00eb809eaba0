"""The command: a paragraph for a row that is named, lines for all, JSON, and the exit status."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.claims import command, row
from experiments.claims.__main__ import main
from experiments.claims.listing import claims
from experiments.claims.row import Claim, equal


def test_list_has_a_line_for_each_row_and_cuts_none_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 76
    assert all(line.endswith(claim.says) for line, claim in zip(lines, claims(), strict=True))


def test_list_as_json_names_rows_and_gives_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["6", "63", "--list", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["claims"]
    assert first == {
        "row": 6, "section": "A. Formats, ranges, conversions",
        "says": "3.14159 in fp16 is 0.0625.", "kind": "exact", "command": "precsim claims 6",
    }  # fmt: skip
    assert second["row"] == 63


def test_json_has_every_number_and_its_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["10", "53", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["claims"]
    assert first["numbers"][0] == {
        "name": "code of 3.14", "computed": 804.0, "written": "804", "expected": 804,
        "rule": "equal", "matched": True,
    }  # fmt: skip
    assert "-inf" in [number["computed"] for number in second["numbers"]]


@pytest.mark.parametrize("word", ["0", "1,3", "1-3", "\u0663", "\u00b2", "77", "9" * 5000])
def test_unknown_row_is_one_line(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    message = f"error: ROW is {word!r}; allowed are the numbers 1 to 76, separated by spaces\n"
    assert capsys.readouterr().err == message


def one(computed: float) -> Claim:
    """Return a claim whose number should be 1."""
    return Claim(
        section="A", number=1, says="It is 1.", verdict="true", truth="It is.", kind="exact",
        measure=lambda _: equal(("it", 1, computed)),
    )  # fmt: skip


def test_what_is_not_reproduced_has_no_verdict_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "chosen", lambda _: [one(1), one(2)])
    assert main([]) == 1
    printed = capsys.readouterr().out
    assert "true               1/1" in printed
    assert "NOT REPRODUCED. It is." in printed
    assert "it: 2, which is NOT as expected: 1 (equal)" in printed
    assert "1 of 2 settled, few seeds; --full takes all" in printed


def test_no_verdict_without_a_number() -> None:
    claim = one(1)
    outcome = row.Outcome(claim=claim, checks=(), seconds=0)
    assert outcome.verdict == row.NOT_REPRODUCED


@pytest.mark.slow  # two processes load JAX
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("lines", [0, 1])
def test_an_interruption_prints_one_line(lines: int) -> None:
    """Defect: the processes that settle claims printed tracebacks. Ctrl-C reaches all of them."""
    line = [sys.executable, "-m", "precsim", "claims", "--jobs", "2"]
    with subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        if lines:
            process.stdout.readline()  # both settle claims
        else:
            while _children(process.pid) < 3:  # two, and the tracker of resources
                time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert errors == "precsim: error: interrupted\n"
    assert process.returncode == 130


def _children(number: int) -> int:
    tasks = Path(f"/proc/{number}/task")
    return sum(len((each / "children").read_text().split()) for each in tasks.iterdir())
