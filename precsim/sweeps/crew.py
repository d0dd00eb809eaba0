"""The workers of a sweep: those of a scheduler elsewhere, or processes that are started here."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any

from precsim.sweeps import work

LOOPBACK = "127.0.0.1"
INSTALL = "pip install 'precsim[cluster]'"
_OF_CACHE = (
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_enable_xla_caches",
)
_WATCH, _GRACE = 2.0, 60.0
"""Seconds between two looks at the workers; after which one that has not come is replaced."""
_ANSWER = 10.0
"""Seconds that a scheduler has to answer."""


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
    OSError
        If the scheduler elsewhere goes.
    """
    require_dask()
    import dask
    from distributed import Client, LocalCluster, Security

    settings: dict[str, Any] = {
        "distributed.scheduler.allowed-failures": 0,  # the coordinator counts and tries again
        "distributed.scheduler.worker-ttl": None,  # a clock that is set, or a long compilation
        "distributed.scheduler.work-stealing": False,
        "distributed.deploy.lost-worker-timeout": "1000 days",  # `_mended` does it
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
        with _told(there, scheduler):
            yield there
        return
    _begin_tracker()
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            processes=True,
            host=LOOPBACK,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": f"{LOOPBACK}:0"},
            memory_limit=0,
            security=Security.temporary(),
            silence_logs=logging.CRITICAL,
            env={name.upper(): str(value) for name, value in cache_settings().items()},
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        client.register_plugin(_settling(workers))
        local.scale(workers)
        with _mended(client, workers):
            yield client


@contextmanager
def _told(client: Any, scheduler: str) -> Iterator[None]:
    """Close a client in the end; say in a line if its scheduler has gone meanwhile."""
    logger = logging.getLogger("distributed.client")
    before = logger.level
    logger.setLevel(logging.CRITICAL)  # dask prints pages where a scheduler goes
    try:
        yield
    except Exception as error:
        if client.status == "running":
            raise
        raise OSError(
            f"the scheduler at {scheduler} is gone; finished runs are kept, and the same command "
            "goes on with another one"
        ) from error
    finally:
        with suppress(Exception):  # its scheduler is gone
            client.close(timeout=_ANSWER)
        logger.setLevel(before)


def _begin_tracker() -> None:
    """Start the process that frees what processes share, if it is not there, and let it be quiet.

    Where this process is killed it frees all, and would warn of that on the terminal.
    """
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")  # its command line has them
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.pop()


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end this process as an exception does: workers end, and files are closed."""

    def end(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end itself is not disturbed
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _mended(client: Any, count: int) -> Iterator[None]:
    """Replace workers that stay away: dask starts those again that die once they have come.

    Which ones are missing is decided by `scale`: to fewer, it drops those that are not there.
    """
    end = threading.Event()

    def watch() -> None:
        complete = time.monotonic()
        while not end.wait(_WATCH):
            with suppress(Exception):  # the cluster is closing, or too busy to answer
                there = len(client.nthreads())
                if there >= count:
                    complete = time.monotonic()
                elif time.monotonic() - complete > _GRACE:
                    client.cluster.scale(there)
                    end.wait(_WATCH)
                    client.cluster.scale(count)
                    complete = time.monotonic()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def cache_settings() -> dict[str, Any]:
    """Return how this process keeps compiled programs, by JAX's names, for others to do so too."""
    import jax

    values = {name: getattr(jax.config, name) for name in _OF_CACHE}
    return {name: value for name, value in values.items() if value is not None}


def _settling(count: int) -> Any:
    """Return what lets each worker settle, also one that comes in the place of a dead one."""
    from distributed import WorkerPlugin

    class Settling(WorkerPlugin):  # type: ignore[misc, unused-ignore]
        def setup(self, worker: Any) -> None:
            work.settle(int(worker.name), count)

    return Settling()
