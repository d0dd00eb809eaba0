"""One form for all models that `emulate` runs: those of Flax, Equinox, Haiku, and functions.

A `Network` makes weights from a key and a batch of examples, and computes outputs from weights. It
may have state that no gradient changes, such as the running means of batch normalisation.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.formats.arguments import shown
from precsim.training.data.dataset import Problem
from precsim.training.plain_layers import PlainLayers
from precsim.training.recipes.leaves import is_trained

_ALLOWED = (
    "a pair (init, apply) of functions, a pair (weights, apply), a module of Flax (Linen or NNX) or "
    "of Equinox, or what hk.transform returns"
)
_TRAINING = ("is_training", "training", "train")
"""What models call the argument that is true while they learn."""
_TESTING = ("deterministic", "inference", "use_running_average")
"""What they call its opposite."""


@dataclass(frozen=True, eq=False)
class Network:
    """A model as two functions of pytrees.

    Parameters
    ----------
    name : str
        For tables and messages.
    init : callable
        ``init(seed, inputs) -> (weights, state)``; `inputs` is a batch of examples.
    apply : callable
        ``apply(weights, state, inputs, key, is_training) -> (outputs, state)``.
    """

    name: str
    init: Callable[[int, Any], tuple[Any, Any]]
    apply: Callable[[Any, Any, Any, Array, bool], tuple[Any, Any]]


def as_network(model: Any) -> Network:
    """Return the network of a user's model; TypeError, in one line, for anything else.

    The same functions, and equal modules of Linen, make the same network, so that what has been
    compiled for one run serves the next one.
    """
    if isinstance(model, Network):
        return model
    is_mutable = any(cls.__module__.startswith("flax.nnx") for cls in type(model).__mro__)
    try:
        return _built(model) if is_mutable else _built_once(model)
    except TypeError as error:
        if "unhashable" in str(error) or "hash" in str(error):
            return _built(model)
        raise


@lru_cache(maxsize=64)
def _built_once(model: Any) -> Network:
    return _built(model)


def _built(model: Any) -> Network:
    kinds = {
        "flax.linen.module": _of_linen,
        "flax.nnx.module": _of_nnx,
        "equinox._module": _of_equinox,
    }
    for cls in type(model).__mro__:
        for module, build in kinds.items():
            if cls.__module__.startswith(module):
                return build(model)
    if isinstance(model, tuple) and len(model) == 2:
        first, apply = model
        if _is_equinox(first):
            return _of_equinox(first, apply)
        if callable(apply):
            return _of_functions(first, apply)
    raise TypeError(f"model is {shown(model)}; allowed are {_ALLOWED}")


def _is_equinox(x: Any) -> bool:
    return any(cls.__module__.startswith("equinox.") for cls in type(x).__mro__)


def _accepted(function: Callable[..., Any], names: Iterable[str]) -> list[str]:
    """Return which of these names a function has as parameters."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return []
    return [name for name in names if name in parameters]


def _mode(function: Callable[..., Any], *, is_training: bool) -> dict[str, bool]:
    """Return the keyword arguments that tell a model whether it learns, as far as it takes them."""
    modes = dict.fromkeys(_accepted(function, _TRAINING), is_training)
    return modes | dict.fromkeys(_accepted(function, _TESTING), not is_training)


def _of_functions(first: Any, apply: Callable[..., Any]) -> Network:
    """Return the network of (init, apply) or (weights, apply).

    `init` takes a key and, if it has a second parameter, a batch of examples. `apply` takes the
    weights and the examples; a key or a state in the ways of Haiku; and the mode by its name.
    """
    is_haiku = type(first).__module__.startswith("haiku") or (
        _accepted(apply, ("rng",)) != [] and callable(first)
    )
    has_state = _accepted(apply, ("state",)) != []

    def init(seed: int, inputs: Any) -> tuple[Any, Any]:
        if not callable(first):
            return first, ()
        key = jax.random.key(seed)
        count = len(inspect.signature(first).parameters)
        made = first(key) if count == 1 else first(key, inputs)
        return made if has_state else (made, ())

    def run(weights: Any, state: Any, inputs: Any, key: Array, is_training: bool) -> Any:
        options: dict[str, Any] = dict(_mode(apply, is_training=is_training))
        given = [weights, state] if has_state and is_haiku else [weights]
        if is_haiku:
            given.append(key)
        elif _accepted(apply, ("key",)):
            options["key"] = key
        if has_state and not is_haiku:
            options["state"] = state
        found = apply(*given, inputs, **options)
        return found if has_state else (found, state)

    return Network(getattr(apply, "__qualname__", "function"), init, run)


def _of_linen(module: Any) -> Network:
    """Return the network of a Linen module: collections other than "params" are its state."""
    call = type(module).__call__

    def init(seed: int, inputs: Any) -> tuple[Any, Any]:
        names = ("params", "dropout")
        rngs = dict(zip(names, jax.random.split(jax.random.key(seed), len(names)), strict=True))
        variables: dict[str, Any] = dict(
            module.init(rngs, inputs, **_mode(call, is_training=False))
        )
        return variables.pop("params"), variables

    def run(weights: Any, state: Any, inputs: Any, key: Array, is_training: bool) -> Any:
        variables = {"params": weights, **state}
        mode = _mode(call, is_training=is_training)
        if not is_training:
            return module.apply(variables, inputs, **mode), state
        return module.apply(variables, inputs, **mode, mutable=list(state), rngs={"dropout": key})

    return Network(type(module).__name__, init, run)


def _of_nnx(module: Any) -> Network:
    """Return the network of an NNX module, which has its weights already."""
    from flax import nnx

    parts: Any = nnx.split(module, nnx.Param, ...)
    graph, weights, others = parts
    call = type(module).__call__

    def init(seed: int, inputs: Any) -> tuple[Any, Any]:
        return weights, others

    def run(weights: Any, state: Any, inputs: Any, key: Array, is_training: bool) -> Any:
        merged = nnx.merge(graph, weights, state, copy=True)
        (merged.train if is_training else merged.eval)()
        outputs = merged(inputs, **_mode(call, is_training=is_training))
        if not is_training:
            return outputs, state  # testing changes nothing
        after: Any = nnx.split(merged, nnx.Param, ...)
        return outputs, after[2]

    return Network(type(module).__name__, init, run)


def _of_equinox(module: Any, state: Any = ()) -> Network:
    """Return the network of an Equinox module, which is called once per example.

    With a state, as `equinox.nn.make_with_state` returns it, examples share the axis "batch".
    """
    import equinox as eqx

    weights, static = eqx.partition(module, eqx.is_inexact_array)
    call = type(module).__call__
    has_state = not isinstance(state, tuple) or state != ()

    def init(seed: int, inputs: Any) -> tuple[Any, Any]:
        return weights, state

    def run(weights: Any, state: Any, inputs: Any, key: Array, is_training: bool) -> Any:
        whole = eqx.nn.inference_mode(eqx.combine(weights, static), value=not is_training)
        size = jax.tree.leaves(inputs)[0].shape[0]
        keys = jax.random.split(key, size) if _accepted(call, ("key",)) else None

        def one(example: Any, key: Any) -> Any:
            given = (example, state) if has_state else (example,)
            return whole(*given, **({} if key is None else {"key": key}))

        axes = (0, None if keys is None else 0)
        if not has_state:
            return jax.vmap(one, in_axes=axes)(inputs, keys), state
        return jax.vmap(one, in_axes=axes, out_axes=(0, None), axis_name="batch")(inputs, keys)

    return Network(type(module).__name__, init, run)


def of_module(name: str, module: Any, problem: Problem) -> Network:
    """Return the network of one of precsim's own models in plain JAX, see `models`."""
    has_state = hasattr(module, "init_state")

    def init(seed: int, inputs: Any) -> tuple[Any, Any]:
        weights = module.init(np.random.default_rng([seed, 1]), problem)
        return weights, module.init_state(weights) if has_state else ()

    def run(weights: Any, state: Any, inputs: Any, key: Array, is_training: bool) -> Any:
        if has_state:
            return module.apply(weights, inputs, state, is_training)
        return module.apply(weights, inputs), state

    return Network(name, init, run)


def of_layers(name: str, module: Any, problem: Problem) -> Network:
    """Return the network of one of precsim's own models that computes with `Layers`."""

    def init(seed: int, inputs: Any) -> tuple[Any, Any]:
        return module.init(np.random.default_rng([seed, 1]), problem), ()

    def run(weights: Any, state: Any, inputs: Any, key: Array, is_training: bool) -> Any:
        return module.apply(weights, inputs, PlainLayers()), state

    return Network(name, init, run)


def checked_weights(network: Network, weights: Any) -> Any:
    """Return the weights as float32 arrays of JAX; refuse a model that has none."""
    leaves = jax.tree_util.tree_leaves_with_path(weights)
    if not any(is_trained(leaf) for _, leaf in leaves):
        raise TypeError(f"model {network.name} has no weights; allowed are models that have some")
    for path, leaf in leaves:
        if is_trained(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating):
            raise TypeError(
                f"weights{jax.tree_util.keystr(path)} of model {network.name} are complex; allowed "
                "are real numbers"
            )
    as_float32 = lambda leaf: jnp.asarray(leaf, jnp.float32) if is_trained(leaf) else leaf
    return jax.tree.map(as_float32, weights)
