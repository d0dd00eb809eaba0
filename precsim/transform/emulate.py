"""`emulate`: any JAX function under a policy."""

import importlib
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.formats.arguments import integer, shown
from precsim.products.backends import BACKENDS
from precsim.transform.interpreter import evaluate, scopes
from precsim.transform.operation import Context
from precsim.transform.policy import Policy
from precsim.transform.rounded import Place, nearest_value
from precsim.transform.scopes import matches
from precsim.transform.tracing import check_function, flattened
from precsim.transform.values import Origin, Value, is_float, is_known, rounds_nothing, widened

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

for _kind in ("control", "elementwise", "functions", "movement", "products", "sums"):
    importlib.import_module(f"precsim.transform.rules.{_kind}")


def emulate(
    fun: Callable[Parameters, Result],
    policy: str | Policy,
    *,
    strict: bool = True,
    backend: str = "auto",
    params: int | None = 0,
    seed: int | Array = 0,
) -> Callable[Parameters, Result]:
    """Return a function that computes as another one does, every operation under a policy."""
    policy = Policy.parse(policy)
    check_function(fun)
    if backend not in BACKENDS or backend == "reference":
        raise ValueError(f"backend is {shown(backend)}; allowed are 'auto', 'emulated', 'native'")
    if params is not None:
        params = integer(params, "params", 0)

    @wraps(fun)
    def emulated(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        key = jax.random.key(seed) if isinstance(seed, (int, np.integer)) else seed
        context = Context(policy=policy, backend=backend, strict=strict, key=key)
        return cast("Result", run(fun, args, kwargs, params, context))

    return emulated


def run(
    fun: Callable[..., Any], args: Any, kwargs: Any, params: int | None, context: Context
) -> Any:
    """Trace a function for these arguments and evaluate its program under a context."""
    weights = _are_weights(args, kwargs, params)
    flat, arrays, is_array = flattened(fun, args, kwargs)
    program, shape = jax.make_jaxpr(flat, return_shape=True)(*arrays)
    _check_rules(context.policy, program)
    origins = [w for w, yes in zip(weights, is_array, strict=True) if yes]
    values = [
        Value(jnp.asarray(x), None, None, Origin.WEIGHTS if w else Origin.ACTIVATIONS)
        for x, w in zip(arrays, origins, strict=True)
    ]
    results = [_output(v, context, n) for n, v in enumerate(evaluate(program, values, context))]
    return jax.tree.unflatten(jax.tree.structure(shape), results)


def _are_weights(args: Any, kwargs: Any, params: int | None) -> list[bool]:
    """Return, for each leaf of the arguments, whether it belongs to the parameters."""
    flags = [jax.tree.map(lambda _, n=n: n == params, arg) for n, arg in enumerate(args)]
    others = jax.tree.map(lambda _: False, kwargs)
    return cast("list[bool]", jax.tree.leaves((tuple(flags), others)))


def _output(value: Value, context: Context, n: int) -> Array:
    """Return a result of the whole function, rounded to the policy's format for those."""
    spec, y = context.policy.output, value.array
    if spec is None or not is_float(y) or rounds_nothing(spec, y.dtype):
        return jnp.asarray(y)
    if is_known(value, spec.format):
        return jnp.asarray(y)
    return nearest_value(widened(y), spec, Place(context.key, f"output {n}")).astype(y.dtype)


def _check_rules(policy: Policy, program: Any) -> None:
    """Refuse a policy with a rule that matches no scope of a program."""
    if not policy.rules:
        return
    found = sorted(set(scopes(program)))
    for rule in policy.rules:
        if not any(matches(rule.scope, scope) for scope in found):
            named = [scope for scope in found if scope]
            listed = ", ".join(map(repr, named[:20])) + (", ..." if len(named) > 20 else "")
            raise ValueError(
                f"rule {rule.scope!r} of the policy matches no scope; allowed here are "
                f"{listed or 'none: the function has no named scopes'}"
            )
