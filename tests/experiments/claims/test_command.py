"""The command: a paragraph for a row that is named, lines for all, JSON, and the exit status."""

import json

import pytest

from experiments.claims import command, row
from experiments.claims.__main__ import main
from experiments.claims.row import Claim, equal


def test_list_has_a_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 76


def test_json_has_every_number_and_its_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["10", "53", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["claims"]
    assert first["numbers"][0] == {
        "name": "code of 3.14", "computed": 804.0, "written": "804", "expected": 804,
        "rule": "equal", "matched": True,
    }  # fmt: skip
    assert "-inf" in [number["computed"] for number in second["numbers"]]


def test_unknown_row_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0"]) == 2
    assert capsys.readouterr().err == "error: ROW is '0'; allowed are the numbers 1 to 76\n"


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
