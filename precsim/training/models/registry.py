"""The models that a run can name."""

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """A module with ``init(rng, problem)``, which returns weights by name, and ``apply``."""

    module: str
    reads: tuple[str, ...]
    """What its examples may be: "images", "characters"."""
    is_plain: bool = True
    """Whether ``apply(params, inputs)`` is plain JAX, run under `emulate`; else it takes `Layers`.
    """

    def load(self) -> Any:
        """Return the module; it loads JAX."""
        return importlib.import_module(self.module)


def _layered(name: str, reads: str) -> Model:
    return Model(f"precsim.training.models.{name}", (reads,), is_plain=False)


MODELS = {
    "mlp": _layered("mlp", "images"),
    "cnn": _layered("cnn", "images"),
    "transformer": _layered("transformer", "characters"),
}
