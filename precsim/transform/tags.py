"""Names for the values of a step, so that two runs can be compared operation by operation.

`tag` and `tag_both` change nothing in a compiled program. In the program's text (its jaxpr) they
name a value; `tag_both` also names its gradient in the backward pass. `tagged_values` computes the
named values of a function.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from precsim._arrays import Array

_PREFIX = "precsim/"


def tag(x: Array, name: str) -> Array:
    """Return an array as it is, with a name."""
    tagged: Array = checkpoint_name(x, _PREFIX + name)  # type: ignore[no-untyped-call]
    return tagged


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def tag_both(x: Array, name: str) -> Array:
    """Return an array as it is, with a name for itself and one for its gradient."""
    return tag(x, name)


def _tag_forward(x: Array, name: str) -> tuple[Array, None]:
    return tag(x, name), None


def _tag_backward(name: str, _: None, g: Array) -> tuple[Array]:
    return (tag(g, f"gradient of {name}"),)


tag_both.defvjp(_tag_forward, _tag_backward)


def tagged_values(fun: Callable[..., Any], *args: Any) -> dict[str, Any]:
    """Return the named values of ``fun(*args)``, in the order of computation, from one program."""
    names, run = with_tagged_values(fun, *args)
    values = jax.jit(lambda *args: run(*args)[1])(*args)
    return dict(zip(names, values, strict=True))


def with_tagged_values(
    fun: Callable[..., Any], *args: Any
) -> tuple[tuple[str, ...], Callable[..., tuple[Any, list[Any]]]]:
    """Return the names in a function of such arguments, and the function with the named values.

    It returns a pair: what `fun` returns, and the values in the order of computation.
    """
    closed, shape = jax.make_jaxpr(fun, return_shape=True)(*args)
    jaxpr = closed.jaxpr
    found = {
        eqn.params["name"].removeprefix(_PREFIX): eqn.outvars[0]
        for eqn in jaxpr.eqns
        if eqn.primitive.name == "name" and eqn.params["name"].startswith(_PREFIX)
    }
    paths = [f"result {n}" for n in range(len(jaxpr.outvars))]
    shown = Jaxpr(
        jaxpr.constvars,
        jaxpr.invars,
        [*jaxpr.outvars, *found.values()],
        jaxpr.eqns,
        jaxpr.effects,
        jaxpr.debug_info._replace(result_paths=(*paths, *found)),
    )
    flat = jaxpr_as_fun(ClosedJaxpr(shown, closed.consts))

    def run(*args: Any) -> tuple[Any, list[Any]]:
        results = list(flat(*jax.tree.leaves(args)))
        own = len(jaxpr.outvars)
        return jax.tree.unflatten(jax.tree.structure(shape), results[:own]), results[own:]

    return tuple(found), run
