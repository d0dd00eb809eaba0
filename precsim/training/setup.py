"""What decides a training step, besides its data: config, model, loss, measure, optimizer."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from precsim.arithmetic.sums.order import PAIRWISE
from precsim.formats.arguments import shown
from precsim.products.backends import resolve_backend
from precsim.rounding.spec import RoundingSpec
from precsim.training.config import TrainConfig
from precsim.training.data.dataset import Data, Problem, kind_of, usual_loss
from precsim.training.data.stream import Stream
from precsim.training.losses import (
    Loss,
    Metric,
    check_outputs,
    check_targets,
    loss_named,
    metric_named,
)
from precsim.training.models.registry import MODELS
from precsim.training.network import (
    Network,
    as_network,
    checked_weights,
    of_layers,
    of_module,
)
from precsim.training.own_objects import load_object
from precsim.training.parallel.devices import SHARDS
from precsim.training.recipes.optimizers import buffers_of, find_buffers, make_optimizer
from precsim.transform.identity import leaves_products
from precsim.transform.policy import Policy


@dataclass(frozen=True, eq=False)
class Layered:
    """A model that computes with `Layers`; a module with `init` and `apply`."""

    name: str
    module: Any


@dataclass(frozen=True, slots=True)
class Setup:
    """What decides a step. Equal setups share what is compiled."""

    config: TrainConfig
    model: Layered | Network
    loss: str | Loss
    metric: str | Metric
    optimizer: optax.GradientTransformation | None = None
    """None: that of the config."""
    classes: int = 0
    """Of the targets; 0 where they are numbers."""
    mesh: Mesh | None = None
    """The devices that share out each step; None for one. It changes no bit."""

    def check_outputs(self, outputs: Any, targets: Any) -> None:
        """Refuse outputs of the model that the loss cannot compare with targets."""
        check_outputs(self.loss, outputs, targets, self.classes)

    @property
    def rule(self) -> optax.GradientTransformation:
        """The optimizer."""
        return make_optimizer(self.config) if self.optimizer is None else self.optimizer

    def buffers(self, state: Any) -> Any:
        """Return which leaves of the optimizer's state are buffers, one per weight."""
        if self.optimizer is None:
            return buffers_of(self.config, state)
        return find_buffers(self.optimizer, state)

    @property
    def metric_name(self) -> str:
        """What is measured on the examples for testing."""
        is_name = isinstance(self.metric, str)
        return str(self.metric if is_name else getattr(self.metric, "__name__", "metric"))

    def under(self, policy: Policy) -> "Setup":
        """Return the same with another policy."""
        return replace(self, config=replace(self.config, policy=policy))

    def without_schedule(self) -> "Setup":
        """Forget what the compiled functions do not depend on."""
        return replace(self, config=replace(self.config, steps=1, seed=0, snapshots=1))

    def initial(self, problem: Problem, inputs: Any) -> tuple[Any, Any]:
        """Return the first weights and the first state of the model, for a batch of examples."""
        if isinstance(self.model, Layered):
            rng = np.random.default_rng([self.config.seed, 1])
            return self.model.module.init(rng, problem), ()
        weights, state = self.model.init(self.config.seed, inputs)
        # A step takes over the memory of what it is given; the user's arrays stay theirs.
        own = jax.tree.map(lambda x: x.copy() if isinstance(x, jax.Array) else x, state)
        return checked_weights(self.model, weights), own


def setup_of(
    config: TrainConfig,
    problem: Problem,
    *,
    model: Any = None,
    loss: str | Loss | None = None,
    metric: str | Metric | None = None,
    optimizer: Any = None,
    mesh: Mesh | None = None,
) -> Setup:
    """Return the setup of a run; what is None is that of the config and of the data."""
    if config.delay >= config.steps:
        raise ValueError(
            f"delay is {config.delay}; allowed with steps {config.steps} are 0 to "
            f"{config.steps - 1}, as a later gradient is never applied"
        )
    if optimizer is not None and not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"optimizer is {shown(optimizer)}; allowed is one of optax")
    own_loss, own_metric = usual_loss(problem)
    loss = own_loss if loss is None else loss
    if metric is None:
        metric = "rmse" if loss == "mse" else own_metric
    loss_named(loss), metric_named(metric)
    check_targets("loss", loss, problem.classes)
    check_targets("metric", metric, problem.classes)
    if loss == "cross_entropy" and problem.is_masked:
        raise ValueError(
            "loss is 'cross_entropy', and some targets are -1; allowed is 'masked_cross_entropy', which "
            "does not count those"
        )
    if model is None and config.model in MODELS:
        _refuse_other_kind(config.model, problem)
    elif model is None:
        model = as_network(load_object(config.model, "model"))
    found = _registered(config.model, problem) if model is None else as_network(model)
    if isinstance(found, Layered) and not _is_for_layers(config.policy):
        assert problem is not None
        found = _without_layers(found, problem)
    if mesh is not None and config.shards % mesh.shape[SHARDS]:
        raise ValueError(
            f"shards is {config.shards}; allowed for {mesh.shape[SHARDS]} devices are multiples of "
            f"{mesh.shape[SHARDS]}"
        )
    return Setup(config, found, loss, metric, optimizer, problem.classes, mesh)


def check_classes(data: Data | Stream, config: TrainConfig, model: Any) -> None:
    """Refuse batches whose classes a model of precsim cannot know before it reads them all."""
    is_built_in = model is None and config.model in MODELS
    if is_built_in and isinstance(data, Stream) and data.problem.classes and not data.classes:
        raise ValueError(
            f"classes is not given; model {config.model!r} needs their number, which the first batch "
            "alone does not say"
        )


def _refuse_other_kind(name: str, problem: Problem) -> None:
    """Refuse data that a model of the registry cannot read."""
    kind, reads = kind_of(problem), MODELS[name].reads
    if kind not in {each.removeprefix("masked ") for each in reads}:
        raise ValueError(
            f"model is {name!r}, which reads {' or '.join(reads)}; the data are {kind}"
        )


@lru_cache(maxsize=64)
def _registered(name: str, problem: Problem) -> Layered | Network:
    module = MODELS[name].load()
    return of_module(name, module, problem) if MODELS[name].is_plain else Layered(name, module)


@lru_cache(maxsize=64)
def _without_layers(model: Layered, problem: Problem) -> Network:
    """Return a model that computes with `Layers` in plain JAX."""
    return of_layers(model.name, model.module, problem)


def for_policies(setup: Setup, policies: Iterable[Policy], problem: Problem) -> Setup:
    """Return a setup whose model can be trained under each of several policies."""
    if isinstance(setup.model, Layered) and not all(map(_is_for_layers, policies)):
        return replace(setup, model=_without_layers(setup.model, problem))
    return setup


def backends_of(setup: Setup, places: Iterable[str]) -> set[str]:
    """Return which backends run the products of a model that has these places."""
    policy, backend = setup.config.policy, setup.config.backend
    used = {spec for place in places for spec in policy.at(place).products}
    is_layered = isinstance(setup.model, Layered)
    return {
        "native"
        if backend != "emulated" and not is_layered and leaves_products(spec, [np.dtype("f4")])
        else resolve_backend(spec, backend)
        for spec in (used if is_layered else policy.products)
    }


def plain_network(setup: Setup, problem: Problem) -> Network:
    """Return the model of a setup in plain JAX."""
    model = setup.model
    return _without_layers(model, problem) if isinstance(model, Layered) else model


@lru_cache(maxsize=256)
def _is_for_layers(policy: Policy) -> bool:
    """Return whether `Layers` has all that a policy says; else the model runs under `emulate`.

    `Layers` computes softmax, normalisation and their sums in float32, in orders of their own, and
    has no state for delayed scaling.
    """
    fp32 = RoundingSpec.parse("fp32")
    for each in (policy, *(rule.policy for rule in policy.rules)):
        given = [each.softmax, each.normalisation, each.output]
        given += [each.reductions] if each.reductions != each.elementwise else []
        if any(spec not in (None, fp32) for spec in given) or each.reduction_order != PAIRWISE:
            return False
        products = (each.forward, each.dgrad, each.wgrad)
        if any(spec.rotation is not None or spec.has_random_operands for spec in products):
            return False
        if each.tensor_scaling not in ("none", "current"):
            return False
    return True
