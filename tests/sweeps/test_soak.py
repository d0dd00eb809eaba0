"""The grid of a soak, and what is compared; `tests/cli/test_soak.py` kills true processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from precsim.cli.policies import read_policy, read_schedule
from precsim.sweeps import soak
from precsim.sweeps.cell import versions
from precsim.sweeps.grid import read_grid
from precsim.sweeps.store import Store
from tests.sweeps.made import cell_of, failed_run, run_of_cell


@pytest.mark.parametrize(("runs", "count"), [(1, 4), (200, 200), (201, 204)])
def test_grid_has_at_least_as_many_runs(runs: int, count: int, tmp_path: Path) -> None:
    grid = read_grid(soak.write_grid(tmp_path, runs), read_policy, read_schedule)
    assert len(grid.cells) == count
    assert {cell.config.policy.name for cell in grid.cells} == set(soak.POLICIES)


def test_only_finished_runs_have_hashes(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    cells = [cell_of("bf16", seed) for seed in range(2)]
    assert soak._done(path) == 0
    with Store(path, create=True) as store:
        store.begin({c.key(versions()): c.text for c in cells}, versions(), "", "")
        store.copy([], [run_of_cell(cells[0], 0.5), failed_run(cells[1], "no")])
    assert soak.hashes(path) == {cells[0].key(versions()): "0.5"}
    assert soak._done(path) == 2


def test_workers_are_children_that_dask_has_started() -> None:
    pytest.importorskip("psutil")
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input() # spawn_main'])"
    here = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    found: list[int] = []
    while not found and here.poll() is None:
        found = soak._workers(here.pid)
    assert len(found) == 1
    assert soak._is_alive(found[0])
    here.communicate(b"\n")
    soak._wait_for_end(found)
    assert not soak._is_alive(found[0])


def test_failed_sweep_is_told_by_the_last_line_of_its_log(tmp_path: Path) -> None:
    file = tmp_path / "x.sqlite"
    file.with_suffix(".log").write_text("checking 4 programs\nprecsim: error: no memory\n\n")
    assert soak._last_line(file) == "precsim: error: no memory"
    file.with_suffix(".log").write_text("\n")
    assert soak._last_line(file) == "it said nothing"
