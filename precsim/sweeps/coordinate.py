"""Runs a sweep: hands cells to the workers of a dask cluster, and writes down what comes back.

Only this process writes the file of results. Workers get texts and return texts.
"""

import json
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from precsim.sweeps import work
from precsim.sweeps.cell import Cell
from precsim.sweeps.store import Run, Store
from precsim.sweeps.waiting import Times, Waiting
from precsim.training.data.registry import TASKS
from precsim.training.models.registry import MODELS

_PATIENCE = 0.5
"""Seconds between two looks at which workers there are."""
_NO_WORKER = 60.0
"""Seconds after which it is said that there is no worker."""


@dataclass(slots=True, kw_only=True)
class Standing:
    """How far a sweep is."""

    total: int
    done: int = 0
    failed: int = 0
    running: int = 0
    workers: int = 0
    deaths: int = 0
    times: Times
    begun: float = field(default_factory=time.monotonic)

    def seconds_left(self) -> float | None:
        """Return about how long the rest takes; None as long as nothing is known."""
        left = self.times.left()
        return None if left is None else left / max(self.workers, 1)


Tell = Callable[[Standing, str], None]
"""``tell(standing, line)``: the line is empty where only the numbers have changed."""


def counted(count: int, what: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1, "worker"), counted(2, "worker")
    ('1 worker', '2 workers')
    """
    return f"{count} {what}{'' if count == 1 else 's'}"


def check_names(cells: Sequence[Cell]) -> list[str]:
    """Make here the models and tasks of one's own that cells name; return the faults."""
    configs = [cell.config for cell in cells]
    own = [("model", c.model) for c in configs if c.model not in MODELS]
    own += [("task", c.task) for c in configs if c.task not in TASKS]
    return [fault for pair in dict.fromkeys(own) if (fault := work.check_name(*pair))]


def check_programs(
    client: Any, cells: Sequence[Cell], tries: int, tell: Callable[[str], None]
) -> list[str]:
    """Check each program of the cells on the workers, by a pass over shapes; return the faults."""
    programs: dict[str, Cell] = {}
    for cell in cells:
        programs.setdefault(cell.program, cell)
    tell(f"checking {counted(len(programs), 'program')}")
    faults: list[str] = []
    for attempt in range(1, tries + 1):
        futures = {
            name: client.submit(work.check, cell.text, pure=False)
            for name, cell in programs.items()
        }
        for name, future in futures.items():
            try:
                fault = future.result()
            except (CancelledError, OSError):  # the scheduler is gone
                raise
            except Exception as error:  # noqa: BLE001 of the cluster: a worker died
                if attempt < tries:
                    continue
                fault = _message(error)
            cell = programs.pop(name)
            if fault:
                faults.append(
                    f"policy {cell.config.policy.name}, model {cell.config.model}: {fault}"
                )
    return faults


def run_cells(
    client: Any,
    cells: Mapping[str, Cell],
    store: Store,
    facts: Mapping[str, Any],
    *,
    standing: Standing,
    tries: int,
    tell: Tell,
) -> None:
    """Run cells and store what becomes of each, as it ends.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    cells : mapping of str to Cell
        By key.
    store : Store
        The results.
    facts : mapping
        The versions that the workers have to have.
    standing : Standing
        Kept up to date.
    tries : int
        How many workers a cell may cost before it counts as failed.
    tell : callable
        Told of each change.
    """
    versions = json.dumps(facts, sort_keys=True)
    keys = {cell.text: key for key, cell in cells.items()}
    waiting = Waiting(cells.values())
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
    running: dict[Any, tuple[Cell, str]] = {}
    deaths: dict[str, int] = {}
    seen = time.monotonic()
    while len(waiting) or running:
        threads = client.nthreads()
        for worker, room in threads.items():
            busy = sum(at == worker for _, at in running.values())
            for _ in range(room - busy):
                if (cell := waiting.next(worker)) is None:
                    break
                future = client.submit(work.run, cell.text, versions, workers=[worker], pure=False)
                running[future] = (cell, worker)
                future.add_done_callback(ended.put)
        standing.running, standing.workers = len(running), sum(threads.values())
        if threads:
            seen = time.monotonic()
        elif time.monotonic() - seen > _NO_WORKER:
            seen = time.monotonic()
            tell(standing, "no worker is there; waiting for one")
        for future in [*_ended(ended), *_lost(running, threads)]:
            if future not in running:  # it has ended, and its worker is gone
                continue
            cell, worker = running.pop(future)
            key = keys[cell.text]
            result = _result_of(future, worker, client)
            if result is None:
                deaths[key] = deaths.get(key, 0) + 1
                standing.deaths += 1
                waiting.died(cell, worker, again=deaths[key] < tries)
                tell(standing, f"a worker died in {cell.label}, try {deaths[key]} of {tries}")
                if deaths[key] < tries:
                    continue
                result = {"error": f"worker died ({counted(tries, 'time')})", "tries": tries}
            waiting.ended(cell)
            run = Run(key=key, cell=cell.text, facts=versions, result=result)
            store.add(run)
            standing.times.ended(cell)
            if run.is_done:
                standing.done += 1
                standing.times.learn(cell, result["seconds"])
                tell(standing, "")
            else:
                standing.failed += 1
                tell(standing, f"{cell.label} failed: {result['error']}")


def _ended(futures: "queue.SimpleQueue[Any]") -> Iterator[Any]:
    """Yield the futures that have ended, after a wait for the first one."""
    with suppress(queue.Empty):
        yield futures.get(timeout=_PATIENCE)
        while True:
            yield futures.get_nowait()


def _lost(running: Mapping[Any, tuple[Cell, str]], there: Mapping[str, int]) -> list[Any]:
    """Return the futures whose worker is gone."""
    return [future for future, (_, worker) in running.items() if worker not in there]


def _result_of(future: Any, worker: str, client: Any) -> dict[str, Any] | None:
    """Return what a worker has sent; None if the worker is gone.

    dask keeps a task for a worker that is gone, also one whose result went with the worker, until
    one of the same address comes. That never happens, so nobody may wait for such a result.
    """
    while True:
        try:
            found: dict[str, Any] = json.loads(future.result(timeout=_PATIENCE))
            return found
        except TimeoutError:
            if worker not in client.nthreads():
                return None
        except (CancelledError, OSError):  # the scheduler is gone
            raise
        except Exception as error:  # noqa: BLE001 of the cluster: a run's own are in its text
            from distributed import KilledWorker

            return None if isinstance(error, KilledWorker) else {"error": _message(error)}


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
