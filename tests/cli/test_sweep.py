"""`precsim sweep`: a true sweep of two runs, its words and its errors."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from precsim.cli.main import main
from precsim.cli.policies import read_policy, read_schedule
from precsim.sweeps.cell import versions
from precsim.sweeps.grid import read_grid
from precsim.sweeps.store import Store
from tests.sweeps.made import cell_of, failed_run, run_of_cell

ROOT = Path(__file__).parents[2]
GRID = """
policies = ["p=fp32,update=bf16"]
models = ["linear"]
seeds = [4]
[settings]
steps = 3
"""


def precsim(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.run(
        [sys.executable, "-m", "precsim", *words],
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which a sweep of two runs has ended."""
    pytest.importorskip("distributed")
    pytest.importorskip("cryptography")
    path = tmp_path_factory.mktemp("sweep")
    (path / "grid.toml").write_text(GRID, "utf-8")
    found = precsim(path, "sweep", "grid.toml", "--workers", "1", "--json")
    assert found.returncode == 0, found.stderr
    assert found.stderr.splitlines()[:2] == [
        "grid.sqlite: 2 runs, 0 done, 0 failed, 2 to run, time known after the first runs",
        "checking 2 programs",
    ]
    (path / "first.json").write_text(found.stdout, "utf-8")
    return path


def test_table_of_a_sweep(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = json.loads((folder / "first.json").read_text("utf-8"))
    assert block["settings"] == {"model": "linear"}
    assert [row["policy"] for row in block["rows"]] == ["fp32", "p=fp32,update=bf16"]
    assert [row["done"] for row in block["rows"]] == [1, 1]
    assert block["rows"][1]["gaps"]["final_loss"]["count"] == 1
    assert main(["sweep", "table", str(folder / "grid.sqlite")]) == 0
    printed = capsys.readouterr().out
    assert "test rmse" in printed
    assert "0.95 confidence by Student's t" in printed


def test_row_has_all_that_made_it(folder: Path) -> None:
    with Store(folder / "grid.sqlite") as store:
        runs = list(store.runs())
        ((_, command, facts, grid),) = store.sessions()
    assert command.endswith("sweep grid.toml --workers 1 --json")
    assert (json.loads(facts), grid) == (versions(), GRID)
    for run in runs:
        assert run.is_done
        assert set(run.result) == {"metrics", "weights_hash", "seconds", "provenance"}
        assert run.result["provenance"]["cores"] >= 1


def test_same_command_again_finds_all_done(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(folder / "grid.toml"), "--no-cache"]) == 0
    captured = capsys.readouterr()
    assert "2 runs, 2 done, 0 failed, 0 to run" in captured.err
    assert "p=fp32,update=bf16" in captured.out
    assert "Every number: precsim sweep table " in captured.out


def made(folder: Path) -> Path:
    """Write a file of 12 runs, of which 2 failed and 2 are missing."""
    file = folder / "runs.sqlite"
    cells = [cell_of(policy, seed) for policy in ("fp32", "bf16", "fp16") for seed in range(4)]
    runs = [run_of_cell(cell, k + k % 5 / 4, 90.0) for k, cell in enumerate(cells[:8])]
    runs += [failed_run(cell, "worker died (3 times)") for cell in cells[8:10]]
    with Store(file, create=True) as store:
        store.begin({c.key(versions()): c.text for c in cells}, versions(), "precsim sweep", "")
        store.copy([], runs)
    return file


def test_status_tells_what_is_done_failed_and_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = made(tmp_path)
    assert main(["sweep", "status", str(file), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [found[name] for name in ("runs", "done", "failed", "left")] == [12, 8, 2, 2]
    assert found["failures"]["fp16, linear, seed 1"] == "worker died (3 times)"
    assert main(["sweep", "status", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "12 min of training" in printed
    assert re.search(r"file +intact", printed)
    assert "fp16, linear, seed 0: worker died (3 times)" in printed


def test_plan_tells_the_time_by_earlier_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, grid = made(tmp_path), tmp_path / "grid.toml"
    grid.write_text(
        'policies = ["bf16", "fp16"]\nmodels = ["linear"]\nseeds = "0-3"\n[settings]\nsteps = 3'
    )
    words = ["sweep", str(grid), "--out", str(file), "--plan", "--workers", "2"]
    assert main(words) == 0
    assert "8 done, 2 failed, 2 to run, about 2 min on 2 workers" in capsys.readouterr().err
    assert main([*words, "--retry-failed"]) == 0
    assert "8 done, 0 failed, 4 to run, about 3 min on 2 workers" in capsys.readouterr().err
    assert main([*words[:-1], "1"]) == 0
    assert "about 3 min on 1 worker\n" in capsys.readouterr().err


def test_plan_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text(GRID, "utf-8")
    assert main(["sweep", str(grid), "--plan"]) == 0
    assert "grid.sqlite: 2 runs, 0 done, 0 failed, 2 to run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["grid.toml"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('models = ["nope:fn"]', "model is 'nope:fn'; there is no module 'nope'"),
        ('models = ["json:lods"]', "module 'json' has no 'lods'"),
        ('[settings]\nmodel = "linear"\ntask = "nope:fn"', "task is 'nope:fn'; there is no module"),
    ],
)
def test_plan_makes_what_the_grid_names(
    line: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text(f'policies = ["bf16"]\n{line}\n', "utf-8")
    assert main(["sweep", str(grid), "--plan"]) == 2
    _, fault = capsys.readouterr().err.splitlines()
    assert said in fault
    assert [path.name for path in tmp_path.iterdir()] == ["grid.toml"]


def test_picture_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "plot", str(made(tmp_path)), "--out", str(tmp_path / "gaps.png")]) == 0
    assert (tmp_path / "gaps.png").stat().st_size > 1000
    assert (tmp_path / "gaps.svg").exists()


def test_rescue_copies_into_a_new_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, new = made(tmp_path), tmp_path / "new.sqlite"
    assert main(["sweep", "rescue", str(file), "--out", str(new)]) == 0
    printed = capsys.readouterr().out
    assert "10 runs copied; 0 rows could not be read" in printed
    assert f"{file}: intact" in printed
    with Store(new) as store:
        assert len(list(store.runs())) == 10
    file.write_bytes(file.read_bytes()[:-3000])
    assert main(["sweep", "status", str(file)]) == 2
    assert "is damaged" in capsys.readouterr().err
    new.unlink()
    assert main(["sweep", "rescue", str(file), "--out", str(new)]) == 0
    assert f"{file}: not intact (" in capsys.readouterr().out


def test_results_in_a_folder_for_reading_only_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: SQLite makes files beside one that it reads, unless it is told that nobody writes."""
    file, new = made(tmp_path), tmp_path / "new.sqlite"
    shown = {}
    for is_writable in (True, False):
        monkeypatch.setattr(os, "access", lambda *_, says=is_writable: says)
        with Store(file) as store:
            assert len(list(store.runs())) == 10
            assert ([file] == [*tmp_path.iterdir()]) is not is_writable
        for verb in ("status", "table"):
            assert main(["sweep", verb, str(file), "--json"]) == 0
        shown[is_writable] = capsys.readouterr().out
    assert shown[True] == shown[False]
    assert main(["sweep", "rescue", str(file), "--out", str(new)]) == 0


WRONG = (
    (("sweep", "grid.json"), "GRID is 'grid.json'; allowed are"),
    (("sweep", "table"), "precsim sweep table needs a FILE"),
    (("sweep", "table", "none.sqlite"), "none.sqlite does not exist"),
    (("sweep", "none.toml"), "No such file or directory: none.toml"),
    (("sweep", "grid.toml", "--workers", "0", "--no-cache"), "--workers is 0; allowed are"),
    (("sweep", "grid.toml", "--tries", "0", "--no-cache"), "--tries is 0; allowed are"),
    (("sweep", "rescue", "x.sqlite"), "needs --out NEW.sqlite"),
    (("sweep", "plot", "empty.sqlite"), "has no finished runs to compare"),
    (("sweep", "plot", "empty.sqlite", "--out", "a.pdf"), "--out is 'a.pdf'; allowed are"),
    (("sweep", "plot", "empty.sqlite", "--out", "grid"), "--out is 'grid'; allowed are"),
    (("sweep", "table", "empty.sqlite", "--out", "t.txt"), "--out is given with table, which"),
    (("sweep", "status", "empty.sqlite", "--out", "t.txt"), "--out is given with status, which"),
)


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_what_is_wrong_is_one_line(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grid.toml").write_text(GRID, "utf-8")
    Store(Path("empty.sqlite"), create=True).__exit__(None, None, None)
    assert main([*words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def hashes(file: Path) -> dict[str, str]:
    """Return the SHA-256 of each run's weights, by key."""
    with Store(file) as store:
        return {run.key: run.result["weights_hash"] for run in store.runs()}


@pytest.mark.slow
def test_killed_resumed_and_rescued_sweeps_have_the_weights_of_an_undisturbed_one(
    folder: Path, tmp_path: Path
) -> None:
    """The coordinator ends by SIGTERM and by SIGKILL, both quietly; then the file is cut off.

    Also a grid that cannot be trained is refused before the first run.
    """
    grid, file = tmp_path / "grid.toml", tmp_path / "grid.sqlite"
    grid.write_text(GRID.replace("[4]", '"0-5"'), "utf-8")
    command = ["sweep", "grid.toml", "--workers", "2"]
    found = precsim(tmp_path, *command, "--out", "calm.sqlite")
    assert found.returncode == 0, found.stderr
    calm = hashes(tmp_path / "calm.sqlite")
    cells = read_grid(grid, read_policy, read_schedule).cells
    assert set(calm) == {cell.key(versions()) for cell in cells}
    assert hashes(folder / "grid.sqlite").items() <= calm.items()

    settings = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    words = [sys.executable, "-m", "precsim", *command]
    before: dict[str, str] = {}
    for number in (signal.SIGTERM, signal.SIGKILL):
        with subprocess.Popen(
            words, cwd=tmp_path, env=settings, stderr=subprocess.PIPE, text=True
        ) as process:
            until = time.monotonic() + 300
            while time.monotonic() < until and (not file.exists() or not file.stat().st_size):
                time.sleep(0.1)
            while time.monotonic() < until and process.poll() is None:
                if len(hashes(file)) > len(before):
                    break
                time.sleep(0.1)
            process.send_signal(number)
            _, told = process.communicate(timeout=100)
        assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL)
        assert "Warning" not in told
        assert "Traceback" not in told
        after = hashes(file)
        assert before.items() < after.items() < calm.items()
        before = after
    found = precsim(tmp_path, *command)
    assert found.returncode == 0, found.stderr
    assert hashes(file) == calm

    cut, new = tmp_path / "cut.sqlite", tmp_path / "new.sqlite"
    cut.write_bytes(file.read_bytes()[:-9000])
    assert main(["sweep", "rescue", str(cut), "--out", str(new)]) == 0
    assert hashes(new).items() < calm.items()
    found = precsim(tmp_path, *command, "--out", "new.sqlite")
    assert found.returncode == 0, found.stderr
    assert hashes(new) == calm

    grid.write_text(GRID + "batch_size = 5000\n", "utf-8")
    found = precsim(tmp_path, *command)
    assert found.returncode == 2
    assert "batch_size is 5000; allowed for task" in found.stderr
    assert hashes(file) == calm


def test_page_has_a_grid_that_reads_and_a_script_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "how-to" / "sweep.md").read_text("utf-8")
    (grid,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (script,) = re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    made(tmp_path).rename(tmp_path / "grid.sqlite")
    monkeypatch.chdir(tmp_path)
    Path("grid.toml").write_text(grid, "utf-8")
    Path("read.py").write_text(script, "utf-8")
    assert main(["sweep", "grid.toml", "--plan"]) == 0
    (count,) = re.findall(r"(\d+) runs\. The fourth", page)
    assert f"{count} runs, 0 done" in capsys.readouterr().err
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        runpy.run_path("read.py")
    assert len(capsys.readouterr().out.splitlines()) == 8
