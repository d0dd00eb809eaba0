"""`precsim soak`: a sweep whose processes are killed has the table of one that was left alone."""

import re

import pytest

from precsim.cli import soak
from precsim.cli.main import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--runs", "0"), "--runs is 0; allowed are integers from 1 on"),
        (("--seed", "-1"), "--seed is -1"),
        (("--minutes", "-1"), "--minutes is -1.0"),
        (("--worker-kills", "-1"), "--worker-kills is -1"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["soak", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.slow
def test_two_hundred_runs_ten_dead_workers_and_two_dead_coordinators(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("distributed")
    pytest.importorskip("cryptography")
    assert main(["soak", "--workers", "2"]) == 0
    printed = capsys.readouterr().out
    killed = re.findall(r"^(worker|coordinator) \d+ killed after", printed, re.MULTILINE)
    assert killed.count("worker") == soak.WORKER_KILLS
    assert killed.count("coordinator") == soak.COORDINATOR_KILLS
    assert f"{soak.RUNS} of {soak.RUNS} runs have the weights" in printed
