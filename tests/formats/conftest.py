"""What the tests of formats share."""

from collections.abc import Iterator

import pytest

from precsim.formats.numbers import canonical, registered


@pytest.fixture
def registry() -> Iterator[None]:
    """Let a test register formats; they are forgotten after it."""
    names, formats = list(canonical), dict(registered)
    yield
    canonical[:] = names
    registered.clear()
    registered.update(formats)
