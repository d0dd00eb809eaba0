"""`TrainConfig`: everything that decides a training run."""

import difflib
from dataclasses import dataclass

from precsim.training.policy import Policy

MODELS = ("mlp", "cnn")
TASKS = ("digits",)
OPTIMIZERS = ("sgd", "momentum", "adam")
BACKENDS = ("auto", "emulated", "native")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A training run: same config, same bits (on one platform and JAX version).

    Parameters
    ----------
    policy : Policy or str
        Formats.
    model : {"mlp", "cnn"}
        The network.
    task : {"digits"}
        The data set: scikit-learn's handwritten digits.
    steps : int
        Optimizer steps.
    batch_size : int
        Images per step.
    learning_rate : float
        Step size.
    optimizer : {"sgd", "momentum", "adam"}
        optax.sgd, optax.sgd with momentum 0.9, or optax.adam.
    seed : int
        Decides split, initial weights, data order and random bits; the same for every policy.
    backend : {"auto", "emulated", "native"}
        How products are computed, see `matmul`.
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
    snapshots: int = 20

    def __post_init__(self) -> None:
        """Parse the policy and check the fields."""
        object.__setattr__(self, "policy", Policy.parse(self.policy))
        choices = {"model": MODELS, "task": TASKS, "optimizer": OPTIMIZERS, "backend": BACKENDS}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                near = difflib.get_close_matches(str(value), allowed, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"{name} is {value!r}; allowed are {', '.join(map(repr, allowed))}{hint}"
                )
        for name, least in {"steps": 1, "batch_size": 1, "seed": 0, "snapshots": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; allowed are integers from {least} on"
                )
        if self.seed >= 2**32:
            raise ValueError(f"seed is {self.seed}; allowed are integers from 0 to 2**32 - 1")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate is {self.learning_rate}; allowed are positive numbers")
