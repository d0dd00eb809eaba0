"""What the coordinator does when runs end, fail or cost their workers, with workers that are none.

`tests/cli/test_sweep.py` has true ones.
"""

import json
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from precsim.sweeps import work
from precsim.sweeps.cell import Cell, versions
from precsim.sweeps.coordinate import (
    Standing,
    check_programs,
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
        if not isinstance(self._outcome, TimeoutError):
            call(self)

    def result(self, timeout: float | None = None) -> str:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class Client:
    """Two workers; `outcome(label, try)` is what becomes of a cell.

    An outcome `TimeoutError` is none: its worker goes, and another one comes.
    """

    def __init__(self, outcome: Callable[[str, int], str | Exception]) -> None:
        self.outcome = outcome
        self.tried: list[str] = []
        self.workers = {"a": 1, "b": 1}

    def nthreads(self) -> dict[str, int]:
        return dict(self.workers)

    def submit(self, function: Any, text: str, *facts: str, **options: Any) -> Future:
        cell = Cell.parse(text)
        self.tried.append(cell.label)
        if function is work.run:
            assert json.loads(*facts) == versions()
        outcome = self.outcome(cell.label, self.tried.count(cell.label))
        if isinstance(outcome, TimeoutError):
            (worker,) = options["workers"]
            del self.workers[worker]
            self.workers[f"after {worker}"] = 1
        return Future(outcome)


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


def test_run_whose_worker_goes_without_a_word_is_made_by_another_one(tmp_path: Path) -> None:
    lost = "bf16, linear, seed 1"
    client = Client(lambda label, n: TimeoutError() if label == lost and n == 1 else done(label))
    standing, told, _ = swept(client, tmp_path / "x.sqlite")
    assert (standing.done, standing.failed, standing.deaths) == (6, 0, 1)
    assert client.tried.count(lost) == 2
    assert told == [f"a worker died in {lost}, try 1 of 3"]


@pytest.mark.parametrize("error", [CancelledError(), ConnectionResetError("by peer")])
def test_run_is_not_failed_where_the_scheduler_goes(error: Exception, tmp_path: Path) -> None:
    lost = "bf16, linear, seed 1"
    client = Client(lambda label, _: error if label == lost else done(label))
    path = tmp_path / "x.sqlite"
    with pytest.raises(type(error)):
        swept(client, path)
    with Store(path) as store:
        assert 0 < sum(run.is_done for run in store.runs()) == len(store.states()) < len(CELLS)


def test_programs_are_checked_once_for_all_seeds_and_again_where_a_worker_dies() -> None:
    answers: list[str | Exception] = ["", RuntimeError("killed"), "too large"]
    client = Client(lambda label, _: answers.pop(0))
    assert check_programs(client, CELLS, 2, lambda line: None) == [
        "policy bf16, model linear: too large"
    ]
    assert client.tried == ["fp32, linear, seed 0", *["bf16, linear, seed 0"] * 2]
    client = Client(lambda label, _: RuntimeError("killed"))
    assert check_programs(client, CELLS[:1], 2, lambda line: None) == [
        "policy fp32, model linear: RuntimeError: killed"
    ]
