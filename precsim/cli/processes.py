"""Tasks side by side: processes that take one after the other, and end when this one stops."""

import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

Task = TypeVar("Task")
Done = TypeVar("Done")


def side_by_side(
    work: Callable[[Task], Done],
    tasks: Sequence[Task],
    jobs: int,
    lost: Callable[[Task, int | None], Done],
) -> Generator[Done, None, None]:
    """Yield what `work` returns for each task, as it comes, from at most `jobs` processes.

    A process that ends in the middle of a task gives ``lost(task, exit code)``, and the other
    tasks go on. If the caller stops, or is interrupted, all processes are ended; they themselves
    never hear Ctrl-C.
    """
    waiting = list(reversed(tasks))
    busy: dict[Connection, tuple[SpawnProcess, Task]] = {}
    processes: list[SpawnProcess] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                with _uninterrupted():
                    channel, process = _start(work)
                    processes.append(process)
                busy[channel] = process, _give(channel, waiting)
            ready = wait(list(busy))
            for channel in [each for each in busy if each in ready]:
                process, task = busy.pop(channel)
                try:
                    done = channel.recv()
                except (EOFError, OSError):
                    process.join()
                    yield lost(task, process.exitcode)
                    continue
                if waiting:
                    busy[channel] = process, _give(channel, waiting)
                else:
                    channel.close()  # which ends the process
                yield done
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(5)
            process.kill()  # one that does not heed


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back, for good in a process that starts meanwhile; this one hears it later."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(work: Callable[[Any], Any]) -> tuple[Connection, SpawnProcess]:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work))
    process.start()
    theirs.close()
    return ours, process


def _give(channel: Connection, waiting: list[Task]) -> Task:
    task = waiting.pop()
    with suppress(OSError):  # the process has ended, as `recv` will say
        channel.send(task)
    return task


def _serve(channel: Connection, work: Callable[[Any], Any]) -> None:
    """Do tasks until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for Windows, where it cannot be held back
    with suppress(EOFError, OSError):
        while True:
            task = channel.recv()
            channel.send(work(task))
