"""The models that a run can name."""

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """A module with ``init(rng, problem)``, which returns weights by name, and ``apply``.

    One whose layers have a state beside the weights has ``init_state(params)`` too, and
    ``apply(params, inputs, state, is_training)`` returns the outputs and the new state.
    """

    module: str
    reads: tuple[str, ...]
    """What its examples may be, the kinds of a task: "images", "characters", "ratings", ..."""
    task: str = "digits"
    """The task that it learns where none is named."""
    is_plain: bool = True
    """Whether ``apply(params, inputs)`` is plain JAX, run under `emulate`; else it takes `Layers`.
    """

    def load(self) -> Any:
        """Return the module; it loads JAX."""
        return importlib.import_module(self.module)


def _layered(name: str, reads: str, task: str) -> Model:
    return Model(f"precsim.training.models.{name}", (reads,), task, is_plain=False)


def _plain(name: str, *reads: str, task: str = "digits") -> Model:
    return Model(f"precsim.training.models.{name}", reads, task)


MODELS = {
    "mlp": _layered("mlp", "images", "digits"),
    "cnn": _layered("cnn", "images", "digits"),
    "transformer": _layered("transformer", "characters", "text"),
    "linear": _plain("linear", "numbers", task="regression"),
    "logistic": _plain("logistic", "images"),
    "lenet": _plain("lenet", "images"),
    "mobilenet": _plain("mobilenet", "images"),
    "resnet": _plain("resnet", "images"),
    "gru": _plain("gru", "images", "characters", "sentences"),
    "lstm": _plain("lstm", "images", "characters", "sentences"),
    "encoder": _plain("encoder", "masked characters", "sentences", task="masked"),
    "recommender": _plain("recommender", "ratings", task="ratings"),
    "factorisation": _plain("factorisation", "ratings", task="ratings"),
    "gpt2": _layered("gpt2", "characters", "text"),
}
