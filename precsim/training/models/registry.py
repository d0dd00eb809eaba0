"""The models that a run can name."""

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """A module with ``init(rng, shape, classes)`` and ``apply(params, examples, layers)``."""

    module: str
    reads: str
    """What an example is: "images" or "characters"."""

    def load(self) -> Any:
        """Return the module; it loads JAX."""
        return importlib.import_module(self.module)


MODELS = {
    "mlp": Model("precsim.training.models.mlp", "images"),
    "cnn": Model("precsim.training.models.cnn", "images"),
    "transformer": Model("precsim.training.models.transformer", "characters"),
}
