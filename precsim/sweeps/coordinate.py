"""Runs a sweep: hands cells to the workers of a dask cluster, and writes down what comes back.

Only this process writes the file of results. Workers get texts and return texts.
"""

import json
import logging
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from precsim.sweeps import work
from precsim.sweeps.cell import Cell
from precsim.sweeps.store import Run, Store
from precsim.sweeps.waiting import Times, Waiting

LOOPBACK = "127.0.0.1"
INSTALL = "pip install 'precsim[cluster]'"
_OF_CACHE = (
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_enable_xla_caches",
)
_ANSWER = 10.0
"""Seconds that a scheduler has to answer."""
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


def require_dask() -> None:
    """Refuse to begin where what a sweep runs on is not installed."""
    try:
        import cryptography  # noqa: F401
        import distributed  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(f"a sweep needs {error.name}, which is not installed: {INSTALL}") from None


@contextmanager
def cluster(scheduler: str | None, workers: int) -> Iterator[Any]:
    """Connect to a scheduler, or start one here with so many workers; yield the client.

    What is started here listens to this machine only, by TLS with a key that is made for it: other
    users of the machine cannot send it work. There is no dashboard: its server has no page.

    Raises
    ------
    ValueError
        If dask is not installed, or no scheduler answers.
    """
    require_dask()
    import dask
    from distributed import Client, LocalCluster, Security

    settings: dict[str, Any] = {
        "distributed.scheduler.allowed-failures": 0,  # the coordinator counts and tries again
        "distributed.scheduler.worker-ttl": None,  # a clock that is set, or a long compilation
        "distributed.scheduler.work-stealing": False,
        "distributed.admin.low-level-log-length": 0,
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    if scheduler is not None:
        try:
            there = Client(scheduler, timeout=_ANSWER, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(
                f"--scheduler is {scheduler}, which does not answer: {error}"
            ) from None
        with there as client:
            yield client
        return
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host=LOOPBACK,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": f"{LOOPBACK}:0"},
            memory_limit=0,
            security=Security.temporary(),
            silence_logs=logging.CRITICAL,
            env=_cache_settings(),
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        client.register_plugin(_settling(workers))
        yield client


def _cache_settings() -> dict[str, str]:
    """Return how this process keeps compiled programs, as variables of the workers."""
    import jax

    values = {name: getattr(jax.config, name) for name in _OF_CACHE}
    return {name.upper(): str(value) for name, value in values.items() if value is not None}


def _settling(count: int) -> Any:
    """Return what lets each worker settle, also one that comes in the place of a dead one."""
    from distributed import WorkerPlugin

    class Settling(WorkerPlugin):  # type: ignore[misc, unused-ignore]
        def setup(self, worker: Any) -> None:
            work.settle(int(worker.name), count)

    return Settling()


def check_programs(client: Any, cells: Sequence[Cell], tell: Callable[[str], None]) -> list[str]:
    """Check each program of the cells on the workers, by a pass over shapes; return the faults."""
    programs: dict[str, Cell] = {}
    for cell in cells:
        programs.setdefault(cell.program, cell)
    tell(f"checking {len(programs)} programs")
    found = client.gather(
        client.map(work.check, [cell.text for cell in programs.values()], pure=False)
    )
    return [
        f"policy {cell.config.policy.name}, model {cell.config.model}: {fault}"
        for cell, fault in zip(programs.values(), found, strict=True)
        if fault
    ]


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
                future = client.submit(
                    work.run, cell.text, versions, workers=[worker], allow_other_workers=True,
                    pure=False,
                )  # fmt: skip
                running[future] = (cell, worker)
                future.add_done_callback(ended.put)
        standing.running, standing.workers = len(running), sum(threads.values())
        if threads:
            seen = time.monotonic()
        elif time.monotonic() - seen > _NO_WORKER:
            seen = time.monotonic()
            tell(standing, "no worker is there; waiting for one")
        for future in _ended(ended):
            cell, worker = running.pop(future)
            key = keys[cell.text]
            result = _result_of(future)
            if result is None:
                deaths[key] = deaths.get(key, 0) + 1
                standing.deaths += 1
                waiting.died(cell, worker, again=deaths[key] < tries)
                tell(standing, f"a worker died in {cell.label}, try {deaths[key]} of {tries}")
                if deaths[key] < tries:
                    continue
                result = {"error": f"worker died ({tries} times)", "tries": tries}
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
    try:
        yield futures.get(timeout=_PATIENCE)
        while True:
            yield futures.get_nowait()
    except queue.Empty:
        return


def _result_of(future: Any) -> dict[str, Any] | None:
    """Return what a worker has sent; None if the worker died."""
    from distributed import KilledWorker

    error = future.exception()
    if isinstance(error, KilledWorker):
        return None
    if error is not None:  # of the cluster itself: what a run raises is in its text
        return {"error": f"{type(error).__name__}: {error}"}
    found: dict[str, Any] = json.loads(future.result())
    return found
