"""What the coordinator does when runs end, fail or cost their workers, with workers that are none.

`tests/cli/test_sweep.py` has true ones.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from precsim.sweeps import coordinate, work
from precsim.sweeps.cell import Cell, versions
from precsim.sweeps.coordinate import (
    Standing,
    check_programs,
    cluster,
    require_dask,
    run_cells,
)
from precsim.sweeps.store import Store
from precsim.sweeps.waiting import Times
from tests.sweeps.made import cell_of, run_of_cell

CELLS = [cell_of(policy, seed) for seed in range(3) for policy in ("fp32", "bf16")]
KEYS = {cell.key(versions()): cell for cell in CELLS}


class Future:
    """What a worker has made of a cell, at once."""

    def __init__(self, outcome: str | Exception) -> None:
        self._outcome = outcome

    def add_done_callback(self, call: Callable[["Future"], None]) -> None:
        call(self)

    def exception(self) -> Exception | None:
        return self._outcome if isinstance(self._outcome, Exception) else None

    def result(self) -> str | Exception:
        return self._outcome


class Client:
    """Two workers; `outcome(label, try)` is what becomes of a cell."""

    def __init__(self, outcome: Callable[[str, int], str | Exception]) -> None:
        self.outcome = outcome
        self.tried: list[str] = []

    def nthreads(self) -> dict[str, int]:
        return {"a": 1, "b": 1}

    def submit(self, function: Any, text: str, facts: str, **options: Any) -> Future:
        assert function is work.run
        cell = Cell.parse(text)
        self.tried.append(cell.label)
        assert json.loads(facts) == versions()
        return Future(self.outcome(cell.label, self.tried.count(cell.label)))

    def map(self, function: Any, texts: list[str], **options: Any) -> list[str]:
        return ["too large" if "bf16" in Cell.parse(text).label else "" for text in texts]

    def gather(self, futures: list[str]) -> list[str]:
        return futures


def done(label: str) -> str:
    cell = next(cell for cell in CELLS if cell.label == label)
    return json.dumps(run_of_cell(cell, 1.0).result)


def swept(
    client: Client, path: Path, tries: int = 3
) -> tuple[Standing, list[str], dict[str, dict[str, Any]]]:
    """Return where the sweep stands, what was told, and the results by label."""
    standing = Standing(total=len(CELLS), times=Times(CELLS))
    told: list[str] = []
    with Store(path, create=True) as store:
        store.begin({key: cell.text for key, cell in KEYS.items()}, versions(), "", "")
        run_cells(
            client,
            KEYS,
            store,
            versions(),
            standing=standing,
            tries=tries,
            tell=lambda _, line: told.append(line),
        )
        found = {Cell.parse(run.cell).label: run.result for run in store.runs()}
    return standing, [line for line in told if line], found


def test_every_cell_is_run_once(tmp_path: Path) -> None:
    client = Client(lambda label, _: done(label))
    standing, told, found = swept(client, tmp_path / "x.sqlite")
    assert (standing.done, standing.failed, standing.deaths, told) == (6, 0, 0, [])
    assert sorted(client.tried) == sorted(found) == sorted(cell.label for cell in CELLS)
    assert standing.seconds_left() == 0


def test_failed_run_is_kept_with_its_error_and_the_others_go_on(tmp_path: Path) -> None:
    wrong = "bf16, linear, seed 1"
    failure = json.dumps({"error": "out of memory", "traceback": "..."})
    client = Client(lambda label, _: failure if label == wrong else done(label))
    standing, told, found = swept(client, tmp_path / "x.sqlite")
    assert (standing.done, standing.failed) == (5, 1)
    assert found[wrong]["error"] == "out of memory"
    assert told == [f"{wrong} failed: out of memory"]


def test_cell_that_kills_workers_is_tried_again_and_then_failed(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    killed = distributed.KilledWorker("task", None, 0)
    deadly, unlucky = "bf16, linear, seed 1", "bf16, linear, seed 2"

    def outcome(label: str, attempt: int) -> str | Exception:
        if label == deadly or (label == unlucky and attempt == 1):
            return killed  # type: ignore[no-any-return]
        return done(label)

    client = Client(outcome)
    standing, told, found = swept(client, tmp_path / "x.sqlite")
    assert (standing.done, standing.failed, standing.deaths) == (5, 1, 4)
    assert found[deadly] == {"error": "worker died (3 times)", "tries": 3}
    assert client.tried.count(deadly) == 3
    assert client.tried.count(unlucky) == 2
    assert f"a worker died in {deadly}, try 2 of 3" in told


def test_programs_are_checked_once_for_all_seeds() -> None:
    client = Client(lambda label, _: done(label))
    assert check_programs(client, CELLS, lambda line: None) == [
        "policy bf16, model linear: too large"
    ]


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
    monkeypatch.setattr(coordinate, "_ANSWER", 0.2)
    with (
        pytest.raises(ValueError, match=r"--scheduler is tcp://127\.0\.0\.1:9, which does not an"),
        cluster("tcp://127.0.0.1:9", 1),
    ):
        pass
