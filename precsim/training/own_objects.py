"""Objects of a user's modules, by name: ``module:factory``."""

import importlib
import sys
from typing import Any


def load_object(name: str, argument: str) -> Any:
    """Return what a factory of a module returns."""
    module, _, factory = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    return getattr(importlib.import_module(module), factory)()
