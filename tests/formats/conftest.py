"""What the tests of formats share."""

from collections.abc import Iterator

import pytest

from precsim.formats import registry as formats_registry


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a test register formats; they are forgotten after it."""
    with monkeypatch.context() as patch:
        patch.setattr(formats_registry, "_registered", dict(formats_registry._registered))
        patch.setattr(formats_registry, "_canonical", list(formats_registry._canonical))
        yield
