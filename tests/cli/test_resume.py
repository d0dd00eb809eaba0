"""`precsim train --resume`: a run that is killed at any moment ends as one that is not."""

import csv
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import precsim as ps
from precsim.cli import resume, run_directory
from precsim.cli.main import main

SCALED = "fp32,scale=dynamic"
MODEL = ["--model", "linear", "--optimizer", "adam"]
WORDS = ["train", *MODEL, "--policy", SCALED, "--steps", "5", "--checkpoint-every", "2"]
WORDS += ["--jobs", "1"]


@pytest.fixture(scope="module", autouse=True)
def no_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_directory, "pictures", lambda results: {})
        yield


def outcome(out: Path) -> dict[str, Any]:
    """Return all that a run leaves, besides times: numbers, weights, hashes of all state."""
    summary = json.loads((out / "summary.json").read_text())
    for row in summary["policies"]:
        del row["compile_seconds"], row["run_seconds"]
    with (out / "metrics.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    states = {}
    for folder in (out / "state").glob("*/*"):
        found = ps.replay.load_checkpoint(folder)
        states[folder.parent.name] = found.about["step"], ps.replay.hash_state(found.state)[""]
    weights = {path.name: path.read_bytes() for path in (out / "weights").iterdir()}
    kept = {name: summary[name] for name in ("complete", "policies", "failures", "weights")}
    return {"summary": kept, "rows": rows, "states": states, "weights": weights}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main([*WORDS, "--out", str(out)]) == 0
    found = outcome(out)
    assert found["summary"]["complete"] is True
    assert [state[0] for state in found["states"].values()] == [5, 5]
    return found


class Killed(BaseException):
    """Stands for SIGKILL inside a process: after it, no file changes any more."""


def killing(patch: pytest.MonkeyPatch, folder: Path, moment: int, operations: list[str]) -> None:
    """Let the operation of that number on files of a folder, and all after it, fail."""

    def counted(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def run(path: Any, *arguments: Any, **options: Any) -> Any:
            writes = name != "open" or arguments[:1] in (("wb",), ("a",))
            if isinstance(path, int) or (folder in (path, *path.parents) and writes):
                operations.append(name)
                if len(operations) > moment:
                    raise Killed
            return operation(path, *arguments, **options)

        return run

    for name in ("open", "replace", "unlink", "mkdir"):
        patch.setattr(Path, name, counted(name, getattr(Path, name)))
    patch.setattr(os, "fsync", counted("fsync", os.fsync))


def killed(words: list[str], folder: Path, moment: int) -> list[str]:
    """Run a command that is killed before an operation on files; return the operations."""
    operations: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        killing(patch, folder, moment, operations)
        try:
            main(words)
        except Killed:
            pass
        except BaseException as error:
            if not isinstance(error.__context__, Killed):
                raise
    return operations


def going_on(out: Path) -> list[str]:
    """Return the command that goes on, or begins where no run has begun."""
    begun = (out / "run.json").exists()
    return ["train", "--resume", str(out)] if begun else [*WORDS, "--out", str(out)]


def check_a_killed_run(out: Path) -> None:
    """Look at what a kill has left: readable, and complete only if it is."""
    for folder in out.glob("state/*/*"):
        if list(folder.glob("*.safetensors")):
            ps.replay.load_checkpoint(folder)  # a damaged one would warn
    if (out / "summary.json").exists():
        summary = json.loads((out / "summary.json").read_text())
        names = json.loads((out / "run.json").read_text())["policies"]
        assert not summary["complete"] or len(summary["policies"]) == len(names)


def ends_as_one_that_is_not_killed(out: Path, whole: dict[str, Any], moments: list[int]) -> None:
    for moment in moments:
        killed(going_on(out), out, moment)
        check_a_killed_run(out)
    assert main(going_on(out)) == 0
    assert outcome(out) == whole
    assert not list(out.rglob("*.tmp"))


def operations_of_a_run(folder: Path) -> int:
    return len(killed([*WORDS, "--out", str(folder / "run")], folder / "run", 10**9))


@pytest.mark.long
def test_killed_at_some_moments(whole: dict[str, Any], tmp_path: Path) -> None:
    count = operations_of_a_run(tmp_path / "counted")
    assert count > 50
    rng = random.Random(0)
    ends_as_one_that_is_not_killed(tmp_path / "first", whole, [0, 1, 2])
    for k in range(3):
        moments = [rng.randrange(count) for _ in range(2)]
        ends_as_one_that_is_not_killed(tmp_path / str(k), whole, moments)


@pytest.mark.slow
def test_killed_before_each_operation_on_files(whole: dict[str, Any], tmp_path: Path) -> None:
    for moment in range(operations_of_a_run(tmp_path / "counted")):
        ends_as_one_that_is_not_killed(tmp_path / str(moment), whole, [moment, moment // 3])


def test_a_complete_run_is_shown_again(
    whole: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*WORDS, "--out", str(out)]) == 0
    first = capsys.readouterr().out
    assert "run.json                the options, from which --resume goes on" in first
    same = ["--steps", "5", "--policy", SCALED, "--checkpoint-every", "1"]
    assert main(["train", "--resume", str(out), *same]) == 0
    again = capsys.readouterr()
    assert (again.out, again.err) == (first, "")
    assert outcome(out) == whole
    about = json.loads((out / "summary.json").read_text())["provenance"]
    assert "resumed" not in about["resumed"][0]
    assert {"date", "versions", "device"} <= set(about["resumed"][0])


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["train", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err[:16], err.count("\n")) == ("", "precsim: error: ", 1)
    return err


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed after its first checkpoint."""
    out = tmp_path_factory.mktemp("interrupted") / "run"
    killed([*WORDS, "--out", str(out)], out, 25)
    assert list(out.rglob("checkpoint-*.safetensors"))
    return out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--steps", "6"],
            "--steps is 6; the run in {} has 5 (leave it out, or begin another run)",
        ),
        (["--optimizer", "sgd"], "--optimizer is 'sgd'; the run in {} has 'adam' (leave it out,"),
        (
            ["--policy", "fp16"],
            "--policy is fp16; the run in {} has fp32 fp32,scale=dynamic (leave it out, or",
        ),
        (["--out", "other"], "--resume is given with --out; allowed is one of them"),
        (["--verify-bits", "1"], "--resume is given with --verify-bits; allowed is one of them"),
        (["--checkpoint-every", "0"], "--checkpoint-every is 0; allowed are integers from 1 on"),
    ],
)
def test_what_contradicts_the_run_is_refused(
    words: list[str], message: str, interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in interrupted.rglob("*")}
    assert message.format(interrupted) in refused(["--resume", str(interrupted), *words], capsys)
    assert {path: path.stat().st_mtime_ns for path in interrupted.rglob("*")} == before


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "which has no run.json; allowed are folders of runs with --checkpoint-every N"
    for name in ("missing", "."):
        assert said in refused(["--resume", str(tmp_path / name)], capsys)
    words = ["--verify-bits", "1", "--checkpoint-every", "1", "--out", str(tmp_path / "run")]
    assert "--verify-bits is given with --checkpoint-every" in refused(words, capsys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.update(settings={}), "its settings are not model, task, steps"),
        (lambda run: run["settings"].update(steps="5"), "its steps is '5'"),
        (lambda run: run["settings"].update(task=[]), "its task is []"),
        (lambda run: run["settings"].update(steps=10**30), "--steps is 1000000000000000000000000"),
        (lambda run: run["settings"].update(seed=-1), "--seed is -1; allowed are"),
        (lambda run: run.update(policies={}), "it has no policies"),
        (lambda run: run.update(policies={"fp32": "fp33"}), "unknown policy 'fp33'"),
        (lambda run: run.update(policies={"fp32": 5}), "is damaged"),
        (lambda run: run.update(checkpoint_every=0), "its checkpoint_every is 0; allowed are"),
        (lambda run: run.update(checkpoint_every=True), "its checkpoint_every is True"),
        (lambda run: run.pop("provenance"), "it has no 'provenance'"),
    ],
)
def test_a_run_json_that_lies_is_one_line(
    change: Callable[[Any], Any],
    message: str,
    interrupted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = json.loads((interrupted / "run.json").read_text())
    change(content)
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert message in refused(["--resume", str(tmp_path)], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"[" * 100_000, b"\xff\xfe\x00"])
def test_a_run_json_that_is_none_is_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_bytes(content)
    said = refused(["--resume", str(tmp_path)], capsys)
    assert f"{tmp_path / 'run.json'} is damaged: " in said


@pytest.mark.filterwarnings("always")
def test_a_damaged_checkpoint_is_one_line_and_the_one_before_it_is_used(
    whole: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*WORDS, "--out", str(out)]) == 0
    damaged = max((out / "state" / SCALED / "guarded").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-1])
    capsys.readouterr()
    assert main(["train", "--resume", str(out)]) == 0
    said = capsys.readouterr().err
    assert said.startswith(f"precsim: note: {damaged} is no whole checkpoint: ")
    assert said.endswith("; checkpoint-00000002.safetensors is used\n")
    assert said.count("\n") == 1
    assert outcome(out) == whole


def test_a_folder_in_use_is_refused(interrupted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fcntl")
    with resume._alone(interrupted):
        said = refused(["--resume", str(interrupted)], capsys)
    assert f"{interrupted} is in use by another run of precsim train" in said


def test_policies_keep_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Defect: two names of one policy would have had one folder of checkpoints."""
    mine = replace(ps.Policy.parse(SCALED), name="mine")
    (tmp_path / "mine.toml").write_text(mine.to_toml())
    out = tmp_path / "run"
    words = [*WORDS, "--out", str(out), "--policy", str(tmp_path / "mine.toml")]
    killed(words, out, 10**9)
    assert {path.name for path in (out / "state").iterdir()} == {"fp32", SCALED, "mine"}
    capsys.readouterr()
    assert main(["train", "--resume", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["policy"] for row in told["policies"]] == ["fp32", SCALED, "mine"]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str]], Any]:
    """Start the command in a process of its own; what it compiles, later ones find."""
    cache = tmp_path_factory.mktemp("cache")

    def start(words: list[str]) -> Any:
        return subprocess.Popen(
            [sys.executable, "-m", "precsim", *words],
            env=os.environ | {"XDG_CACHE_HOME": str(cache)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    return start


def linear(steps: int, out: Path) -> list[str]:
    """Return the command of a run that compiles quickly."""
    settings = ["--policy", "fp32", "--steps", str(steps)]
    return ["train", *MODEL, *settings, "--checkpoint-every", "50", "--out", str(out)]


def newest(out: Path) -> str:
    return max((path.name for path in out.glob("state/*/*/*.safetensors")), default="")


@pytest.mark.long
def test_two_sigkills(command: Any, tmp_path: Path) -> None:
    """Two processes are killed a random time after a checkpoint of theirs."""
    steps, out, rng = 1000, tmp_path / "run", random.Random(0)
    for _ in range(2):
        before = newest(out)
        process = command(["train", "--resume", str(out)] if before else linear(steps, out))
        while newest(out) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        assert process.poll() is None, process.communicate()[1]
        process.kill()
        process.communicate()
        check_a_killed_run(out)
    assert main(["train", "--resume", str(out)]) == 0
    assert main(linear(steps, tmp_path / "whole")) == 0
    assert outcome(out) == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_twenty_sigkills(command: Any, tmp_path: Path) -> None:
    """Processes are killed at random moments from their start on, twenty times."""
    steps, out, rng = 2000, tmp_path / "run", random.Random(1)
    start = time.monotonic()
    assert command(linear(steps, tmp_path / "whole")).communicate()[1] == b""
    duration, kills = time.monotonic() - start, 0
    while kills < 20:
        begun = (out / "run.json").exists()
        process = command(["train", "--resume", str(out)] if begun else linear(steps, out))
        try:
            process.wait(timeout=rng.uniform(0, duration))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        assert process.communicate()[1] == b""
        check_a_killed_run(out)
    process = command(["train", "--resume", str(out)])
    assert process.communicate()[1] == b""
    assert process.returncode == 0
    assert outcome(out) == outcome(tmp_path / "whole")
