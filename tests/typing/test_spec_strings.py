"""A field that takes the string of a spec says so to type checkers, too."""

import dataclasses
import re
from typing import Any

import pytest

import precsim as ps

THEMES: tuple[Any, ...] = (ps, ps.options, ps.replay, ps.errors, ps.kernels, ps.figures, ps.optax)
CLASSES = sorted(
    {
        found
        for theme in THEMES
        for name in dir(theme)
        if not name.startswith("_")
        and isinstance(found := getattr(theme, name), type)
        and dataclasses.is_dataclass(found)
    },
    key=lambda found: found.__name__,
)


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_documented_as_a_string_may_be_one(kind: Any) -> None:
    """``policy : Policy or str`` needs an annotation that a string, or a list, fits."""
    for field in dataclasses.fields(kind):
        said = re.search(
            rf"^    (?:\w+, )*{field.name}(?:, \w+)* : (.*)$", kind.__doc__, re.MULTILINE
        )
        if said and re.search(r"\bor str\b|\bstr or\b|^str, [A-Z]|^sequence of", said[1]):
            written = field.type if isinstance(field.type, str) else str(field.type)
            assert re.search(r"\bAny\b", written), (field.name, said[1], written)
