"""`precsim soak`: a sweep whose processes are killed has the table of one that was left alone."""

import re

import pytest

from precsim.cli import soak
from precsim.cli.main import main
from precsim.sweeps.soak import Kill, Round


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


def test_line_of_a_round_counts_kills_and_says_which_came_too_late() -> None:
    kills = (
        Kill(what="worker", process=1, done=0, seconds=0.5),
        Kill(what="coordinator", process=2, done=3, seconds=1.5),
    )
    found = Round(kills=kills, planned=2, runs=8, equal=7, differing=("a1",), seconds=9.4)
    assert soak._told(4, found) == (
        "seed 4: 1 workers and 1 coordinators killed; 7 of 8 runs have the weights of the "
        "undisturbed sweep, 9 s\ndiffers: a1"
    )
    found = Round(kills=kills, planned=5, runs=8, equal=8, differing=(), seconds=9.4)
    assert "1 workers and 1 coordinators killed (it ended before 3 more of them); " in soak._told(
        4, found
    )


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
