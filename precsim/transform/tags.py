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
    closed = jax.make_jaxpr(fun)(*args)
    jaxpr = closed.jaxpr
    found = {
        eqn.params["name"].removeprefix(_PREFIX): eqn.outvars[0]
        for eqn in jaxpr.eqns
        if eqn.primitive.name == "name" and eqn.params["name"].startswith(_PREFIX)
    }
    shown = Jaxpr(
        jaxpr.constvars,
        jaxpr.invars,
        list(found.values()),
        jaxpr.eqns,
        jaxpr.effects,
        jaxpr.debug_info._replace(result_paths=tuple(found)),
    )
    run = jax.jit(jaxpr_as_fun(ClosedJaxpr(shown, closed.consts)))
    return dict(zip(found, run(*jax.tree.leaves(args)), strict=True))
