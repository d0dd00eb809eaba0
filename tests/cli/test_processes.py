"""Processes side by side: every task is answered, whatever happens to a process."""

import multiprocessing
import os
import signal
import time

import pytest

from precsim.cli.processes import side_by_side


def square(n: int) -> str:
    """Return a square; a negative number ends the process, a large one takes forever."""
    if n < 0:
        os._exit(-n)
    if n > 99:
        time.sleep(n)
    return str(n * n)


def ended(n: int, code: int | None) -> str:
    """Return what is said of a task whose process has ended."""
    return f"{n} ended with {code}"


def test_every_task_is_answered_though_a_process_ends() -> None:
    found = sorted(side_by_side(square, [2, -3, 4, 5], 2, ended))
    assert found == ["-3 ended with 3", "16", "25", "4"]
    assert not multiprocessing.active_children()


def test_processes_end_when_the_caller_stops() -> None:
    """Defect: an interruption waited for what was being computed."""
    start = time.monotonic()
    found = side_by_side(square, [2, 1000, 1000], 2, ended)
    assert next(found) == "4"
    found.close()
    assert not multiprocessing.active_children()
    assert time.monotonic() - start < 60


def holds_interruptions_back(_: int) -> str:
    """Say whether this process never hears Ctrl-C, by a mask that it was started with."""
    return str(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no masks of signals")
def test_an_interruption_never_reaches_a_process_not_even_one_that_starts() -> None:
    """Defect: a process printed a traceback of Ctrl-C that came while it was loading."""
    assert list(side_by_side(holds_interruptions_back, [1], 1, ended)) == ["True"]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
