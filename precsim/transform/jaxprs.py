"""The programs inside a JAX program: branches, loops, functions with gradients of their own.

JAX keeps them in the parameters of an equation, as a `Jaxpr` or as a `ClosedJaxpr` (from JAX 0.11
on these are one class), alone or in lists, tuples and dicts. Nothing here depends on which
parameter of which primitive has them, since names and shapes of parameters change between versions.
"""

from collections.abc import Iterator, Mapping
from typing import Any


def opened(jaxpr: Any) -> Any:
    """Return the `Jaxpr` of a `ClosedJaxpr`, and any other object as it is."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def inner_jaxprs(eqn: Any) -> Iterator[Any]:
    """Yield the programs that an equation holds, opened, in the order of its parameters.

    Those of `jit`, `cond`, `while_loop`, `scan`, `checkpoint`, `shard_map`, and of functions with
    gradients of their own; of the latter the function, not the gradient, which only
    differentiation traces.
    """
    yield from _jaxprs_of(eqn.params)


def _jaxprs_of(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _jaxprs_of(part)
    elif hasattr(opened(value), "eqns"):
        yield opened(value)


def equations(jaxpr: Any) -> Iterator[Any]:
    """Yield all equations of a program: each one before those of the programs that it holds."""
    for eqn in opened(jaxpr).eqns:
        yield eqn
        for inner in inner_jaxprs(eqn):
            yield from equations(inner)


def is_variable(atom: Any) -> bool:
    """Return whether an input of an equation is a variable; others are constants."""
    return not hasattr(atom, "val")
