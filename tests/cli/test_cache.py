"""The cache of compiled programs: it changes no bit, and nothing that happens to it stops a run."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from precsim.cli import cache
from precsim.cli.main import main
from tests.training.conftest import forget_compiled
from tests.training.test_loop import one_layer

SETTINGS = (
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_enable_xla_caches",
)
PREFIX = "/jax/compilation_cache/cache_"


def settings() -> dict[str, Any]:
    return {name: getattr(jax.config, name) for name in SETTINGS}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a cache folder of the test's own; the cache is on, as it is for users."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = settings()
    jax.config.update("jax_enable_compilation_cache", True)  # type: ignore[no-untyped-call]
    yield tmp_path / "cache" / "precsim"
    for name, value in before.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]


def seen_by(command: Callable[[], Any], *words: str) -> dict[str, Any]:
    """Return JAX's settings while a command runs that has these words."""
    seen: list[dict[str, Any]] = []

    @cache.with_cache
    def run(args: Namespace) -> int:
        seen.append(settings())
        command()
        return 0

    before = settings()
    assert run(Namespace(no_cache="--no-cache" in words)) == 0
    assert settings() == before
    return seen[0]


@pytest.fixture
def train(tmp_path: Path) -> Iterator[Callable[..., tuple[dict[str, Any], Counter[str]]]]:
    """Return a function that trains by the command: the hashes, and what the cache did."""
    counted: Counter[str] = Counter()

    def listen(event: str, **options: Any) -> None:
        if event.startswith(PREFIX):
            counted[event.removeprefix(PREFIX)] += 1

    def call(name: str, *words: str) -> tuple[dict[str, Any], Counter[str]]:
        counted.clear()
        forget_compiled()
        out = tmp_path / name
        run = ["train", "--policy", "fp32", "--steps", "3", "--backend", "native"]
        assert main([*run, "--verify-bits", "1", "--out", str(out), *words]) == 0
        steps = json.loads(next(out.rglob("hashes.json")).read_text())["steps"]
        return steps, counted.copy()

    jax.monitoring.register_event_listener(listen)
    with one_layer():
        yield call
    jax.monitoring.unregister_event_listener(listen)


@pytest.mark.long
def test_a_cold_a_warm_and_no_cache_give_the_same_bits(
    train: Callable[..., tuple[dict[str, Any], Counter[str]]],
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    none, did = train("none", "--no-cache")
    assert (did, place.exists()) == (Counter(), False)
    cold, did = train("cold")
    assert did["misses"] >= 2  # the step, and the prediction of classes
    warm, did = train("warm")
    assert did["hits"] >= 2
    assert did["misses"] == 0
    assert none == cold == warm
    assert capsys.readouterr().err == ""


def test_a_damaged_program_is_one_line_and_compiled_anew(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        for factor in (2.0, 3.0):
            assert jax.jit(lambda x, by=factor: x * by)(np.float32(7)) == 7 * factor

    seen_by(command)
    files = list(place.rglob("*-cache"))
    assert len(files) >= 2
    for file in files:
        file.write_bytes(file.read_bytes()[:-7])
    assert capsys.readouterr().err == ""
    seen_by(command)
    note = capsys.readouterr().err
    assert note.startswith("precsim: note: Error reading persistent compilation cache entry")
    assert (note.count("\n"), f"to mend it, delete {place}" in note) == (1, True)


@pytest.mark.slow
def test_processes_that_share_an_empty_cache_all_end_well(tmp_path: Path, place: Path) -> None:
    words = ["train", "--policy", "fp32", "--backend", "native", "--steps", "2"]
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "true"}

    def start(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "precsim", *words, "--out", str(tmp_path / name)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    together = [start("first"), start("second")]
    told = [process.communicate()[1] for process in together]
    later = start("third")
    told.append(later.communicate()[1])
    assert [process.returncode for process in (*together, later)] == [0, 0, 0]
    assert told[2] == ""
    assert list(place.rglob("jit_step-*-cache"))
    weights = [
        (tmp_path / name / "weights" / "fp32.safetensors").read_bytes()
        for name in ("first", "second", "third")
    ]
    assert weights[0] == weights[1] == weights[2]


def test_the_cache_is_in_the_folder_of_this_kind_of_processor(place: Path) -> None:
    seen = seen_by(lambda: None)
    folder = Path(seen["jax_compilation_cache_dir"])
    assert folder.parent == place / "programs"
    assert folder.stat().st_mode & 0o077 == 0  # whoever can write there can run programs
    assert seen["jax_persistent_cache_enable_xla_caches"] == "none"


def test_what_the_user_told_jax_is_left_alone(tmp_path: Path, place: Path) -> None:
    own = str(tmp_path / "own")
    jax.config.update("jax_compilation_cache_dir", own)  # type: ignore[no-untyped-call]
    assert seen_by(lambda: None)["jax_compilation_cache_dir"] == own
    assert not seen_by(lambda: None, "--no-cache")["jax_enable_compilation_cache"]
    jax.config.update("jax_compilation_cache_dir", None)  # type: ignore[no-untyped-call]
    jax.config.update("jax_enable_compilation_cache", False)  # type: ignore[no-untyped-call]
    assert seen_by(lambda: None)["jax_compilation_cache_dir"] is None
    assert not place.exists()


def test_jax_is_as_before_after_a_command_that_fails() -> None:
    before = settings()

    @cache.with_cache
    def run(args: Namespace) -> int:
        raise ValueError("bad input")

    with pytest.raises(ValueError, match="bad input"):
        run(Namespace(no_cache=False))
    assert settings() == before


@pytest.mark.parametrize("way", ["a file in its place", "read-only", "no home"])
def test_a_folder_that_cannot_be_used_is_one_line(
    way: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    if way == "a file in its place":
        place.parent.write_text("")
    elif way == "read-only":
        monkeypatch.setattr(os, "access", lambda *_: False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
        monkeypatch.setattr(Path, "home", no_home)
    assert seen_by(lambda: None)["jax_compilation_cache_dir"] is None
    note = capsys.readouterr().err
    assert note.startswith("precsim: note: compiled programs are not kept in")
    assert note.count("\n") == 1


@pytest.mark.parametrize(
    ("system", "variable", "below"),
    [
        ("linux", "XDG_CACHE_HOME", ".cache/precsim"),
        ("darwin", "", "Library/Caches/precsim"),
        ("win32", "LOCALAPPDATA", "AppData/Local/precsim"),
    ],
)
def test_the_place_that_each_system_has(
    system: str, variable: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.user_folder() == tmp_path / below
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "there"))
        assert cache.user_folder() == tmp_path / "there" / "precsim"


def test_what_was_used_longest_ago_is_deleted_first(tmp_path: Path) -> None:
    for k, name in enumerate(("oldest", "a/old", "a/new")):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(100))
        os.utime(file, (1000 + k, 1000 + k))
    os.utime(tmp_path / "a/old", (2000, 1001))  # it was read lately
    cache.shrink(tmp_path, 300)
    assert len(list(tmp_path.rglob("*"))) == 4
    cache.shrink(tmp_path, 199)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["old"]
    cache.shrink(tmp_path / "missing", 0)
