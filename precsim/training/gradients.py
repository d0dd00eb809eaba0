"""The gradient of a step: of a model that computes with `Layers`, and of any other one.

Both return the loss, the gradient of every weight, and the events of every rounding, by place.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.arithmetic.elementwise import divide
from precsim.formats.arguments import shown
from precsim.rounding.scaled.delayed import DelayedScale
from precsim.rounding.scaled.scale import Scale
from precsim.training.config import TrainConfig
from precsim.training.layers import Layers
from precsim.training.losses import checked_loss, loss_named
from precsim.training.network import Network
from precsim.training.recipes.accumulation import (
    Accumulator,
    Measured,
    accumulate_gradients,
)
from precsim.training.recipes.gradients import scaled_gradient
from precsim.training.recipes.layer_scales import LayerScale
from precsim.training.recipes.leaves import is_trained
from precsim.training.recipes.loss_scaling import LossScale
from precsim.training.setup import Layered, Setup
from precsim.training.watched import Watched, probe
from precsim.transform.emulate import check_rules, trace
from precsim.transform.interpreter import evaluate
from precsim.transform.noise import fold_in
from precsim.transform.operation import Context
from precsim.transform.policy import Policy, Rule
from precsim.transform.tensor_scaling import LAYER, adapts, delayed
from precsim.transform.values import Value
from precsim.transform.watch import Watch

LOSS = "precsim_loss"
"""The scope of the loss, which is computed in float32, outside the policy."""


class Given(NamedTuple):
    """What one evaluation of loss and gradient takes."""

    params: Any
    state: Any
    """What the model keeps besides its weights."""
    inputs: Any
    targets: Any
    loss_scale: LossScale
    key: Array
    scales: Mapping[str, Scale]
    """Of the operands whose scale has a state, by name."""
    residuals: Any = None
    """What earlier sums over shards have lost, where that is fed back; see `AllReduce`."""


class Found(NamedTuple):
    """What one evaluation of loss and gradient returns."""

    loss: Array
    """Not scaled."""
    scaled: Any
    """The gradient of factor * loss."""
    model_state: Any
    """What the model keeps besides its weights."""
    forward: dict[str, Array]
    """Place -> int32 events of shape (7,)."""
    backward: dict[str, Array]
    largest: dict[str, Array]
    """Path of an operand of a product -> its largest magnitude."""
    untrusted: Array
    """Products whose bits cannot be trusted."""
    finite: Any = True
    """Whether the gradient of each microbatch is finite, where there are several."""
    residuals: Any = None
    """What the sum over shards has lost."""


Gradient = Callable[[Given], Found]


def make_gradient(setup: Setup, backend: str) -> Gradient:
    """Return the gradient of a setup's loss under its policy."""
    model = setup.model
    if isinstance(model, Layered):
        gradient = _layered(setup, model.module.apply, backend)
    else:
        gradient = _emulated(setup, model, backend)
    count = setup.config.accumulate
    return gradient if count == 1 else _in_microbatches(gradient, setup.config)


def _in_microbatches(gradient: Gradient, config: TrainConfig) -> Gradient:
    """Return the mean loss and gradient of microbatches, and all that they count."""
    count, accumulator = config.accumulate, Accumulator.parse(config.accumulator)

    def mean(given: Given) -> Found:
        def run(part: Any, n: Array, state: Any) -> tuple[Measured, Any]:
            inputs, targets = part
            key = fold_in(given.key, n)
            of_part = given._replace(state=state, inputs=inputs, targets=targets, key=key)
            found = gradient(of_part)
            summed = found.loss, found.forward, found.backward, found.untrusted
            return Measured(summed, found.largest, found.model_state), found.scaled

        measured, scaled, finite = accumulate_gradients(
            run,
            (given.inputs, given.targets),
            count,
            accumulator,
            key=given.key,
            passed_on=given.state,
        )
        loss, forward, backward, untrusted = measured.summed
        return Found(
            divide(loss, np.float32(count), "fp32"),
            scaled,
            measured.passed_on,
            forward,
            backward,
            measured.largest,
            untrusted,
            finite,
        )

    return mean


def _layered(setup: Setup, apply: Callable[..., Any], backend: str) -> Gradient:
    """Return the gradient of a model that computes with `Layers`."""
    policy = setup.config.policy

    def gradient(given: Given) -> Found:
        params, labels = given.params, given.targets

        def loss_fn(params: dict[str, Array], probes: dict[str, Watched] | None) -> Any:
            layers = Layers(policy=policy, backend=backend, key=given.key, probes=probes)
            logits = apply(params, given.inputs, layers)
            logits = logits.reshape(-1, logits.shape[-1])
            loss = layers.functions.cross_entropy(logits, labels.reshape(-1))
            layers.check_rules()
            return loss, layers.events

        # A pass over shapes finds the places of the model: none can be forgotten.
        _, places = jax.eval_shape(lambda params: loss_fn(params, None), params)
        probes = {place: probe() for place in places}
        trained = lambda both: loss_fn(*both)
        (loss, forward), (scaled, backward) = scaled_gradient(
            trained, (params, probes), given.loss_scale, has_aux=True
        )
        backward = jax.tree.map(lambda x: x.astype(jnp.int32), backward)
        untrusted = sum(w.untrusted for w in (*forward.values(), *backward.values()))
        return Found(
            loss,
            scaled,
            given.state,
            {place: watched.events for place, watched in forward.items()},
            {place: watched.events for place, watched in backward.items()},
            {},
            jnp.asarray(untrusted, jnp.int32),
        )

    return gradient


def _emulated(setup: Setup, network: Network, backend: str) -> Gradient:
    """Return the gradient of any model: the program of loss and gradient, interpreted."""
    policy, program = with_loss_apart(setup.config.policy), _program(setup, network)

    def gradient(given: Given) -> Found:
        factor, key = jnp.asarray(given.loss_scale.factor, jnp.float32), given.key
        arguments = (given.params, given.state, given.inputs, given.targets, factor, key)
        watch = Watch()
        results = run_program(program, arguments, policy, backend, key, watch, given.scales)
        value, after, scaled = results
        counts = watch.closed()
        forward, backward = _by_place(counts.forward), _by_place(counts.backward)
        return Found(value, scaled, after, forward, backward, counts.largest, jnp.int32(0))

    return gradient


def _program(setup: Setup, network: Network) -> Callable[..., Any]:
    """Return the function whose program is interpreted: loss, state after it, gradient."""
    loss = loss_named(setup.loss)

    def program(
        params: Any, state: Any, inputs: Any, targets: Any, factor: Array, key: Array
    ) -> Any:
        def loss_fn(params: Any) -> tuple[Array, Any]:
            outputs, after = network(params, state, inputs, key, True)
            setup.check_outputs(outputs, targets)
            with jax.named_scope(LOSS):
                return checked_loss(loss(outputs, targets)), after

        return _pulled_back(factor, loss_fn, params)

    return program


def first_tensor_scales(
    setup: Setup, backend: str, params: Any, state: Any, inputs: Any, targets: Any
) -> dict[str, DelayedScale | LayerScale]:
    """Return the first state of each scale that has one, found by a pass over shapes.

    Operands under delayed scaling have one, and layers whose own loss scale adapts.
    """
    policy = setup.config.policy
    scalings = {p.tensor_scaling for p in (policy, *(rule.policy for rule in policy.rules))}
    options = [found for text in scalings if (found := delayed(text)) is not None]
    if isinstance(setup.model, Layered) or not (options or any(map(adapts, scalings))):
        return {}
    if len(options) > 1:
        raise ValueError(
            f"policy {policy.name!r} has several delayed scalings; allowed is one for all its rules"
        )
    # Names are numbers of operations, which depend on the examples that run at once.
    parts = setup.config.shards * setup.config.accumulate
    inputs, targets = jax.tree.map(lambda x: x[: x.shape[0] // parts], (inputs, targets))
    watch, program, apart = Watch(), _program(setup, setup.model), with_loss_apart(policy)

    def run(*arguments: Any) -> Any:
        return run_program(program, arguments, apart, backend, arguments[-1], watch)

    jax.eval_shape(run, params, state, inputs, targets, jnp.float32(1), jax.random.key(0))
    return {
        name: LayerScale.start(kind) if isinstance(kind, str) else options[0].start(kind)
        for name, kind in sorted(watch.formats.items())
    }


def refuse_idle_scales(policy: Policy, scales: Mapping[str, DelayedScale | LayerScale]) -> None:
    """Refuse own loss scales that adapt, of a rule or of the base, where no layer has one.

    `scales` are the `first_tensor_scales` under the policy.
    """
    texts = {name: x.text for name, x in scales.items() if isinstance(x, LayerScale)}
    scopes = {name.removesuffix(LAYER) for name in texts}
    followed = {policy.matching(x) for x in (*scopes, *([""] if "model" in scopes else []))}
    base = policy.tensor_scaling
    for rule in policy.rules:
        own = rule.policy.tensor_scaling
        if adapts(own) and own != base and rule not in followed:
            raise ValueError(_idle(f"rule {shown(rule.scope)}", own))
    if adapts(base) and base not in texts.values():
        raise ValueError(_idle("base", base))


def _idle(where: str, scaling: str) -> str:
    return (
        f"{where} of the policy has tensor={scaling}, which decides nothing: no product there "
        "rounds its cotangents; allowed are layers with one that does"
    )


def _pulled_back(factor: Array, loss_fn: Callable[[Any], Any], params: Any) -> Any:
    """Return the loss, the state after it, and the gradient of factor * loss."""
    value, pull_back, after = jax.vjp(loss_fn, params, has_aux=True)
    (scaled,) = pull_back(factor.astype(value.dtype))
    return value, after, scaled


def _by_place(events: Mapping[str, Array]) -> dict[str, Array]:
    """Return events by place; what stands in no named scope belongs to the model."""
    return {place or "model": counts for place, counts in sorted(events.items())}


def run_program(
    program: Callable[..., Any],
    arguments: tuple[Any, ...],
    policy: Policy,
    backend: str,
    key: Array,
    watch: Watch | None,
    scales: Mapping[str, Scale] | None = None,
) -> Any:
    """Return what a function of (params, ...) returns under a policy.

    The weights are numbers of the policy's format for them.
    """
    traced = trace(program, arguments, {}, 0)
    check_rules(_without_loss(policy), traced.program)
    context = Context(
        policy=policy, backend=backend, strict=True, key=key, watch=watch, scales=scales
    )
    stored = policy.params.format if policy.update.format == policy.params.format else None
    count = len(jax.tree.leaves(arguments[0]))
    values = traced.values()
    values[:count] = [_stored(value, stored) for value in values[:count]]
    results = [value.array for value in evaluate(traced.program, values, context)]
    return jax.tree.unflatten(jax.tree.structure(traced.shape), results)


def _stored(value: Value, fmt: Any) -> Value:
    return value._replace(format=fmt) if is_trained(value.array) else value


@lru_cache(maxsize=256)
def with_loss_apart(policy: Policy) -> Policy:
    """Return a policy that leaves the loss in float32."""
    plain = replace(Policy.parse("fp32"), name="")
    rules = (Rule(LOSS, plain), *policy.rules)
    return replace(policy, name=policy.name, rules=rules)


@lru_cache(maxsize=256)
def _without_loss(policy: Policy) -> Policy:
    """Return a policy without the rule for the loss, which may have no operation."""
    rules = tuple(rule for rule in policy.rules if rule.scope != LOSS)
    return replace(policy, name=policy.name, rules=rules)
