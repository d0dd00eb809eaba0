"""The file of results: nothing finished is lost, whoever is killed and whatever is full."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from precsim.sweeps.cell import versions
from precsim.sweeps.store import APPLICATION, Run, Store, alone
from tests.sweeps.made import cell_of, failed_run, run_of_cell

ROOT = Path(__file__).parents[2]
WRITER = """
import resource, sys
from pathlib import Path
from precsim.sweeps.store import Run, Store
path, first, last, *largest = sys.argv[1], *map(int, sys.argv[2:])
for size in largest:  # as on a disk that is full
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
with Store(Path(path), create=True) as store:
    for k in range(first, last):
        run = Run(key=f"k{k}", cell="{}", facts="{}", result={"metrics": {"n": k, "pad": "x" * 500}})
        store.add(run)
        print(k, flush=True)
"""


def writer(path: Path, *numbers: int) -> "subprocess.Popen[str]":
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), *map(str, numbers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return process


def keys(path: Path) -> set[str]:
    with Store(path) as store:
        return set(store.states())


def test_two_writers_one_of_them_killed(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    Store(path, create=True).__exit__(None, None, None)
    killed, other = writer(path, 0, 10_000), writer(path, 50, 150)
    assert killed.stdout is not None
    told = [int(killed.stdout.readline()) for _ in range(60)]
    killed.send_signal(signal.SIGKILL)
    told += [int(word) for word in killed.communicate()[0].split()]
    _, errors = other.communicate(timeout=60)
    assert (other.returncode, errors) == (0, "")
    found = keys(path)
    assert found >= {f"k{k}" for k in (*told, *range(50, 150))}
    assert len(found) <= max(*told, 149) + 2  # at most one more than it has told of


def test_finished_run_is_never_written_over(tmp_path: Path) -> None:
    cell = cell_of("bf16", 0)
    with Store(tmp_path / "runs.sqlite", create=True) as store:
        store.begin({cell.key(versions()): cell.text}, versions(), "precsim sweep", "")
        assert store.add(failed_run(cell, "no memory"))
        assert [run.result for run in store.runs()] == [{"error": "no memory"}]
        assert store.add(run_of_cell(cell, 1.0))
        assert not store.add(run_of_cell(cell, 2.0))
        assert not store.add(failed_run(cell, "late"))
        (run,) = store.runs()
        assert run.result["weights_hash"] == "1.0"


def test_runs_of_other_versions_are_kept_apart(tmp_path: Path) -> None:
    path, cell = tmp_path / "runs.sqlite", cell_of("bf16", 0)
    with Store(path, create=True) as store:
        store.begin({"old": cell.text}, {"jax": "0"}, "", "")
        store.add(Run(key="old", cell=cell.text, facts='{"jax": "0"}', result={"metrics": {}}))
        store.begin({"new": cell.text, "never": cell.text}, versions(), "", "")
        assert set(store.planned()) == {"new", "never"}
        assert (list(store.runs()), store.others()) == ([], 1)
        store.begin({"new": cell.text}, versions(), "", "")
        assert set(store.planned()) == {"new"}  # what was only planned is forgotten
        assert len(store.sessions()) == 3


def test_view_of_results_is_there_for_other_programs(tmp_path: Path) -> None:
    path, cell = tmp_path / "runs.sqlite", cell_of("bf16", 4)
    with Store(path, create=True) as store:
        store.add(run_of_cell(cell, 0.25))
    there = sqlite3.connect(path)
    rows = there.execute("SELECT policy, model, seed, state, test_score FROM results").fetchall()
    there.close()
    assert rows == [("bf16", "linear", 4, "done", 0.25)]


def test_disk_that_is_full_is_told_and_finished_runs_stay(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    process = writer(path, 0, 5000, 500_000)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "runs.sqlite cannot be used" in errors.splitlines()[-1]
    done = [int(word) for word in printed.split()]
    assert len(done) > 20
    assert keys(path) == {f"k{k}" for k in done}
    with Store(path) as store:  # there is room again
        assert store.add(run_of_cell(cell_of("bf16", 0), 1.0))


def test_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written"), alone(tmp_path / "file" / "x.sqlite"):
        pass
    with pytest.raises(FileNotFoundError, match=r"precsim sweep GRID\.toml makes one"):
        Store(tmp_path / "none.sqlite")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to the superuser")
def test_folder_that_is_read_only_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="cannot be written"), alone(tmp_path / "x.sqlite"):
        pass


def test_second_sweep_on_a_file_is_refused_until_the_first_one_ends(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    code = "import sys, time\nfrom pathlib import Path\nfrom precsim.sweeps.store import alone\n"
    code += "with alone(Path(sys.argv[1])):\n    print('here', flush=True)\n    time.sleep(60)"
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, env=settings
    )
    assert other.stdout is not None
    other.stdout.readline()
    with pytest.raises(ValueError, match="in use by another precsim sweep"), alone(path):
        pass
    other.kill()
    other.communicate()
    with alone(path):
        pass


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    there = sqlite3.connect(path)
    there.execute("CREATE TABLE mine (x)")
    there.commit()
    with pytest.raises(ValueError, match="is no file of precsim sweep"):
        Store(path, create=True)
    there.execute(f"PRAGMA application_id = {APPLICATION}")
    there.execute("PRAGMA user_version = 9")
    there.close()
    with pytest.raises(ValueError, match="has version 9 of the file; allowed is version 1"):
        Store(path, create=True)
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(ValueError, match="is damaged"):
        Store(path)


def test_row_that_is_not_what_was_written_is_told(tmp_path: Path) -> None:
    path, cell = tmp_path / "runs.sqlite", cell_of("bf16", 0)
    with Store(path, create=True) as store:
        store.begin({cell.key(versions()): cell.text}, versions(), "", "")
        store.add(run_of_cell(cell, 0.25))
    there = sqlite3.connect(path)
    there.execute("UPDATE runs SET result = replace(result, '0.25', '0.75')")
    there.commit()
    there.close()
    with Store(path) as store, pytest.raises(ValueError, match="is not what was written"):
        list(store.runs())


def test_clock_of_the_day_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions stay in order when the clock is set back, and no duration reads it."""
    path, cell = tmp_path / "runs.sqlite", cell_of("bf16", 0)
    with Store(path, create=True) as store:
        store.begin({"old": cell.text}, {"jax": "0"}, "first", "")
        monkeypatch.setattr(time, "time", lambda: 0.0)
        store.begin({"new": cell.text}, {"jax": "1"}, "second", "")
        assert set(store.planned()) == {"new"}
    sweeps = (ROOT / "precsim" / "sweeps").glob("*.py")
    texts = [f.read_text("utf-8") for f in [*sweeps, ROOT / "precsim" / "cli" / "sweep.py"]]
    assert not any("time.time()" in text for text in texts)
