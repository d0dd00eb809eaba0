"""Settings that have to be in place before jax or matplotlib is first imported; a count of compilations."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

# For the tests marked gpu: JAX_PLATFORMS=cuda,cpu python -m pytest -m gpu
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture
def compilations() -> Iterator[Callable[[Callable[[], Any]], int]]:
    """Return the function that calls another one, and counts what XLA was given to compile meanwhile."""
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
