"""What a network computes besides its matrix products, twice: by the platform, and portably.

Both modules have the same functions. `platform` is what XLA makes of jax.numpy: it is fast, but
the bits (of all but relu, which rounds nothing) depend on the device and the version. `portable`
has the same bits everywhere, forward and backward.
"""

import importlib
from typing import Any


def functions_of(name: str) -> Any:
    """Return the module of a policy's `functions`."""
    return importlib.import_module(f"precsim.training.functions.{name}")
