"""One form for all models that `emulate` runs: those of Flax, Equinox, Haiku, and functions.

A `Network` makes weights from a key and a batch of examples, and computes outputs from weights. It
may have state that no gradient changes, such as the running means of batch normalisation.
"""

import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
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
_MODES = (*_TRAINING, *_TESTING)


@dataclass(frozen=True)
class Network:
    """A model as two functions of pytrees. What is compiled depends on `apply` only.

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
    init: Callable[[int, Any], tuple[Any, Any]] = field(compare=False)
    apply: Callable[[Any, Any, Any, Array, bool], tuple[Any, Any]]

    def __call__(
        self, weights: Any, state: Any, inputs: Any, key: Array, is_training: bool
    ) -> tuple[Any, Any]:
        """Apply the model; what it raises says which model, and of which inputs."""
        try:
            return self.apply(weights, state, inputs, key, is_training)
        except Exception as error:
            types = jax.tree.map(lambda x: jax.typeof(x).str_short(), inputs)
            error.add_note(f"raised by model {self.name}, applied to inputs {types}")
            raise


def as_network(model: Any) -> Network:
    """Return the network of a user's model; TypeError, in one line, for anything else.

    The same function, equal modules of Linen, and modules of NNX and Equinox that differ in their
    weights only have equal networks, so that what has been compiled for one run serves the next.
    """
    if isinstance(model, Network):
        return model
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


def _same(make: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function makes: the same object for equal arguments, if they have a hash."""
    try:
        hash(arguments)
    except TypeError:
        return make(*arguments)
    return _kept(make, *arguments)


@lru_cache(maxsize=64)
def _kept(make: Callable[..., Any], *arguments: Hashable) -> Any:
    return make(*arguments)


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function; none if Python does not know them."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def _others(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters besides the first one, the weights."""
    return dict([*_parameters(function).items()][1:])


def _accepted(function: Callable[..., Any], names: Iterable[str]) -> list[str]:
    """Return which of these names a function has as parameters."""
    parameters = _parameters(function)
    return [name for name in names if name in parameters]


def _mode(function: Callable[..., Any], *, is_training: bool) -> dict[str, bool]:
    """Return the keyword arguments that tell a model whether it learns, as far as it takes them."""
    modes = dict.fromkeys(_accepted(function, _TRAINING), is_training)
    return modes | dict.fromkeys(_accepted(function, _TESTING), not is_training)


def _of_functions(first: Any, apply: Callable[..., Any]) -> Network:
    """Return the network of (init, apply) or (weights, apply).

    `init` takes nothing, a key, or a key and a batch of examples. `apply` takes the weights and the
    examples; between or after them, by their names, a state, a key and the mode. Weights that are
    no floats (integers, booleans, random keys) are part of the state.
    """
    name = getattr(apply, "__qualname__", type(apply).__name__)
    has_state = "state" in _others(apply)

    def init(seed: int, inputs: Any) -> tuple[Any, Any]:
        made = _made(first, seed, inputs) if callable(first) else first
        if callable(first) and has_state:
            if not (isinstance(made, tuple) and len(made) == 2):
                raise TypeError(
                    f"init of model {name} returned {shown(made)}; allowed is a pair (weights, "
                    "state), as apply takes a state"
                )
            weights, state = made
        else:
            weights, state = made, ()
        _refuse_other_leaves(name, weights)
        fixed = jax.tree.map(lambda x: None if is_trained(x) else _as_array(x), weights)
        return jax.tree.map(lambda x: x if is_trained(x) else None, weights), (fixed, state)

    return Network(name, init, _same(_run_of_function, apply))


def _run_of_function(apply: Callable[..., Any]) -> Callable[..., Any]:
    has_state = "state" in _others(apply)

    def run(weights: Any, state: Any, inputs: Any, key: Array, is_training: bool) -> Any:
        fixed, state = state
        either = lambda weight, other: other if weight is None else weight
        whole = jax.tree.map(either, weights, fixed, is_leaf=lambda x: x is None)
        named = {"state": state, "key": key, "rng": key}
        modes = _mode(_written(apply), is_training=is_training)
        found = _called(apply, whole, inputs, named | modes)
        outputs, state = found if has_state else (found, state)
        return outputs, (fixed, state)

    return run


def _written(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that the user has written, which Haiku hides behind (*args, **kwargs)."""
    return getattr(function, "_original_fn", function)


def _made(init: Callable[..., Any], seed: int, inputs: Any) -> Any:
    """Call `init` with a key, a batch of examples, and the mode, as far as it has to have them."""
    key, parameters = jax.random.key(seed), _parameters(init).values()
    kinds = [each.kind for each in parameters]
    needed = [
        each
        for each in parameters
        if each.kind in _POSITIONAL and each.default is inspect.Parameter.empty
    ]
    modes = _mode(_written(init), is_training=True) if _written(init) is not init else {}
    if inspect.Parameter.VAR_POSITIONAL in kinds or len(needed) > 1:
        return init(key, inputs, **modes)
    if any(kind in _POSITIONAL for kind in kinds):
        return init(key)
    return init(**dict.fromkeys(_accepted(init, ("key", "rng")), key))


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _called(
    function: Callable[..., Any], weights: Any, inputs: Any, named: Mapping[str, Any]
) -> Any:
    """Call ``function(weights, inputs)`` with those of the named values that it takes."""
    before: list[Any] = []
    options: dict[str, Any] = {}
    has_inputs = False
    for name, parameter in _others(function).items():
        if name in named and (has_inputs or parameter.kind not in _POSITIONAL):
            options[name] = named[name]
        elif name in named:
            before.append(named[name])
        else:
            has_inputs = True
    if _written(function) is not function:
        options |= {name: named[name] for name in _accepted(_written(function), _MODES)}
    return function(weights, *before, inputs, **options)


def _refuse_other_leaves(name: str, weights: Any) -> None:
    """Refuse what is neither an array of numbers nor a number, such as a string."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        dtype = getattr(leaf, "dtype", np.asarray(leaf).dtype if np.isscalar(leaf) else None)
        if dtype is None or (isinstance(dtype, np.dtype) and dtype.kind in "OSUmM"):
            raise TypeError(
                f"weights{jax.tree_util.keystr(path)} of model {name} is {shown(leaf)}; allowed are "
                "arrays of numbers"
            )


def _as_array(leaf: Any) -> Array:
    return leaf if isinstance(leaf, jax.Array) else jnp.asarray(np.asarray(leaf))


def _of_linen(module: Any) -> Network:
    """Return the network of a Linen module: collections other than "params" are its state."""
    call = type(module).__call__

    def init(seed: int, inputs: Any) -> tuple[Any, Any]:
        names = ("params", "dropout")
        rngs = dict(zip(names, jax.random.split(jax.random.key(seed), len(names)), strict=True))
        variables: dict[str, Any] = dict(
            module.init(rngs, inputs, **_mode(call, is_training=False))
        )
        return variables.pop("params", {}), variables

    return Network(type(module).__name__, init, _same(_run_of_linen, module))


def _run_of_linen(module: Any) -> Callable[..., Any]:
    call = type(module).__call__

    def run(weights: Any, state: Any, inputs: Any, key: Array, is_training: bool) -> Any:
        variables = {"params": weights, **state}
        mode = _mode(call, is_training=is_training)
        if not is_training:
            return module.apply(variables, inputs, **mode), state
        return module.apply(variables, inputs, **mode, mutable=list(state), rngs={"dropout": key})

    return run


def _of_nnx(module: Any) -> Network:
    """Return the network of an NNX module, which has its weights already."""
    from flax import nnx

    parts: Any = nnx.split(module, nnx.Param, ...)
    graph, weights, others = parts

    def init(seed: int, inputs: Any) -> tuple[Any, Any]:
        return weights, others

    run = _same(_run_of_nnx, graph, type(module).__call__)
    return Network(type(module).__name__, init, run)


def _run_of_nnx(graph: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    from flax import nnx

    def run(weights: Any, state: Any, inputs: Any, key: Array, is_training: bool) -> Any:
        merged = nnx.merge(graph, weights, state, copy=True)
        (merged.train if is_training else merged.eval)()
        outputs = merged(inputs, **_mode(call, is_training=is_training))
        if not is_training:
            return outputs, state  # testing changes nothing
        after: Any = nnx.split(merged, nnx.Param, ...)
        return outputs, after[2]

    return run


def _of_equinox(module: Any, state: Any = ()) -> Network:
    """Return the network of an Equinox module, which is called once per example.

    With a state, as `equinox.nn.make_with_state` returns it, examples share the axis "batch".
    """
    import equinox as eqx

    weights, static = eqx.partition(module, eqx.is_inexact_array)
    has_state = not isinstance(state, tuple) or state != ()

    def init(seed: int, inputs: Any) -> tuple[Any, Any]:
        return weights, state

    run = _same(_run_of_equinox, static, has_state)
    return Network(type(module).__name__, init, run)


def _run_of_equinox(static: Any, has_state: bool) -> Callable[..., Any]:
    import equinox as eqx

    call = type(static).__call__

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

    return run


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
    """Return the weights as new float32 arrays; refuse a model that has none."""
    leaves = jax.tree_util.tree_leaves_with_path(weights)
    if not any(is_trained(leaf) for _, leaf in leaves):
        raise TypeError(f"model {network.name} has no weights; allowed are models that have some")
    for path, leaf in leaves:
        if is_trained(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating):
            raise TypeError(
                f"weights{jax.tree_util.keystr(path)} of model {network.name} are complex; allowed "
                "are real numbers"
            )
    as_float32 = lambda leaf: jnp.array(leaf, jnp.float32) if is_trained(leaf) else leaf
    return jax.tree.map(as_float32, weights)
