"""Optimizers inside of others."""

from typing import Any

import optax

from precsim.formats.arguments import shown


def with_extra_arguments(inner: Any) -> Any:
    """Return an optimizer that takes all extra arguments; refuse what is none."""
    if not (hasattr(inner, "init") and hasattr(inner, "update")):
        raise TypeError(f"inner is {shown(inner)}; allowed is an optimizer of optax")
    return optax.with_extra_args_support(inner)
