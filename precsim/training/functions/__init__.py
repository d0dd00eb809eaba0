"""What a network computes besides its matrix products, twice: by the platform, and portably.

Both modules have the same functions. `platform` is what XLA makes of jax.numpy: fast, and with other bits on
other devices and in other versions. `portable` has the same bits everywhere, forward and backward.
"""

import importlib
from typing import Any

FUNCTIONS = ("platform", "portable")


def functions_of(name: str) -> Any:
    """Return the module of a policy's `functions`."""
    return importlib.import_module(f"precsim.training.functions.{name}")
