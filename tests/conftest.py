"""Settings that must be in place before jax or matplotlib is imported; what many tests use."""

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# For the tests marked gpu: JAX_PLATFORMS=cuda,cpu python -m pytest -m gpu
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")  # commands leave the user's as it is


def _folder(word: str) -> str:
    if not Path(word).is_dir():
        raise argparse.ArgumentTypeError(f"{word!r} is not a folder")
    return str(Path(word).resolve())  # a string, which pytest-xdist can send to its processes


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the only way by which a test reads files outside the repository."""
    text = "folder of published files; without it the tests that compare with them are skipped"
    parser.addoption("--data-dir", type=_folder, metavar="DIR", help=text)


@pytest.fixture
def data_dir(request: pytest.FixtureRequest) -> Path:
    """Return the folder of published files that ``--data-dir`` names, or skip the test."""
    folder: str | None = request.config.getoption("--data-dir")
    if folder is None:
        pytest.skip("compares with published files: pytest --data-dir=DIR")
    return Path(folder)


@pytest.fixture
def compilations() -> Iterator[Callable[[Callable[[], Any]], int]]:
    """Return a function that calls another one and counts the programs that XLA compiles for it."""
    import jax

    programs = [0]

    def listen(event: str, duration_secs: float, **options: Any) -> None:
        programs[0] += event.endswith("/backend_compile_duration")

    def count(run: Callable[[], Any]) -> int:
        before = programs[0]
        jax.block_until_ready(run())  # type: ignore[no-untyped-call]
        return programs[0] - before

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield count
    jax.monitoring.unregister_event_duration_listener(listen)
