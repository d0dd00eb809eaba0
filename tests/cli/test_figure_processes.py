"""Processes side by side: every task is answered, whatever happens to a process."""

import multiprocessing
import os
import time

from precsim.cli.figure_processes import side_by_side


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
