"""The workers of a sweep: they listen to this machine only, and are replaced."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from precsim.sweeps import crew
from precsim.sweeps.coordinate import _result_of
from precsim.sweeps.crew import LOOPBACK, cluster, ended_by_sigterm, require_dask


def kill_workers() -> None:
    psutil = pytest.importorskip("psutil")
    for child in psutil.Process().children():
        with suppress(psutil.Error, ProcessLookupError):
            if any("spawn_main" in word for word in child.cmdline()):
                os.kill(child.pid, signal.SIGKILL)


def test_without_dask_one_line_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install 'precsim\[cluster\]'"):
        require_dask()


def test_what_is_started_listens_to_this_machine_only() -> None:
    pytest.importorskip("distributed")
    psutil = pytest.importorskip("psutil")
    with cluster(None, 0) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        places = {c.laddr.ip for c in psutil.Process().net_connections() if c.status == "LISTEN"}
        assert places == {"127.0.0.1"}
        port = client.cluster.scheduler.http_server.port
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"http://127.0.0.1:{port}/status", timeout=5)


def test_scheduler_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(crew, "_ANSWER", 0.2)
    with (
        pytest.raises(ValueError, match=r"--scheduler is tcp://127\.0\.0\.1:9, which does not an"),
        cluster("tcp://127.0.0.1:9", 1),
    ):
        pass


def test_sigterm_ends_a_sweep_as_an_exception_does_and_only_there() -> None:
    before, ended = signal.getsignal(signal.SIGTERM), []

    def wait() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            ended.append(signal.getsignal(signal.SIGTERM))

    with ended_by_sigterm(), pytest.raises(SystemExit) as caught:
        wait()
    assert caught.value.code == 143
    assert ended == [signal.SIG_IGN]
    assert signal.getsignal(signal.SIGTERM) is before


def test_killed_process_leaves_no_warning_of_shared_semaphores() -> None:
    code = (
        "import multiprocessing, os; from precsim.sweeps.crew import _begin_tracker; "
        "_begin_tracker(); lock = multiprocessing.get_context('spawn').Lock(); os.kill(os.getpid(), 9)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )
    assert (found.returncode, found.stderr) == (-signal.SIGKILL, "")


@pytest.mark.slow
def test_worker_is_replaced_also_where_it_is_killed_before_it_has_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(crew, "_GRACE", 20.0)
    with cluster(None, 1) as client:
        kill_workers()  # before the first one is there
        client.wait_for_workers(1, timeout=200)
        kill_workers()
        until = time.monotonic() + 10
        while time.monotonic() < until:  # and while it starts again
            kill_workers()
            time.sleep(0.2)
        client.wait_for_workers(1, timeout=200)
        assert client.submit(os.getpid, pure=False).result(timeout=200) != os.getpid()


def test_result_that_went_with_its_worker_is_not_waited_for() -> None:
    pytest.importorskip("distributed")
    with cluster(None, 1) as client:
        client.wait_for_workers(1, timeout=200)
        (worker,) = client.nthreads()
        future = client.submit(json.dumps, {"seconds": 1.0}, workers=[worker], pure=False)
        assert future.exception() is None  # it is ready, and not fetched
        kill_workers()
        assert _result_of(future, worker, client) is None


def test_scheduler_that_goes_is_one_line() -> None:
    distributed = pytest.importorskip("distributed")
    there = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, host=LOOPBACK, dashboard_address=None
    )

    def wait() -> None:
        with there, cluster(there.scheduler_address, 1) as client:
            future = client.submit(time.sleep, 100)
            there.close()
            future.result()

    with pytest.raises(OSError, match=r"the scheduler at tcp://127.0.0.1:\d+ is gone; finished"):
        wait()
