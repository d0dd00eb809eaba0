"""What in a JAX function may have other bits on another device."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from precsim.transform.jaxprs import MOVES, inner_jaxprs, is_variable, opened, source_line

_EXACT = frozenset(
    [
        *MOVES,
        "neg",
        "abs",
        "sign",
        "argmax",
        "argmin",
        "floor",
        "ceil",
        "round",
        "bitcast_convert_type",
        "random_bits",
        "random_wrap",
        "random_unwrap",
        "random_seed",
        "random_fold_in",
    ]
)
"""Numbers are moved, chosen or compared, not computed."""
_ROUNDED_ALIKE = {"add", "sub", "mul", "add_any"}
"""Float32 operations that every device rounds to nearest; a compiler may join a mul and an add."""

_PROVED = {
    "precsim.native_tensor_core",
    "precsim.tensor_core_tiles",
    "precsim.float64_function",
}
"""Jitted functions of precsim whose bits were compared with those of integers."""

_UNORDERED = {"scatter-add", "scatter-mul", "reduce", "reduce_window"}
"""They apply an operation to many numbers, in an order that is the platform's."""


def find_unportable(fun: Callable[..., Any], *args: Any) -> tuple[str, ...]:
    """Return the operations of a function whose bits may differ between devices or versions of XLA.

    Parameters
    ----------
    fun : callable
        A function of pytrees of arrays, for example a training step of your own.
    *args : pytree of arrays
        Example arguments; only shapes and dtypes matter.

    Returns
    -------
    tuple of str
        A line for each operation that the result depends on and that is not known to be portable:
        its name and where it stands in the source. Empty if all are.

    Notes
    -----
    These are portable: operations on integers; moving, choosing and comparing numbers; float32
    additions, subtractions and multiplications whose results go through integer operations at once
    (`precsim.arithmetic.portable` does that: no compiler can join two of them), and are not
    subnormal; precsim's own arithmetic, which is integer; products on tensor cores that were found
    to have the bits of their spec (`matmul` with ``backend="native"``).

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> from precsim.arithmetic import portable
    >>> x = jnp.ones(3)
    >>> sum_of = lambda x: portable.add(portable.multiply(x, x), portable.exp(x))
    >>> ps.replay.find_unportable(sum_of, x)
    ()
    >>> [line.split()[0] for line in ps.replay.find_unportable(lambda x: jnp.exp(x) * x + 1, x)]
    ['exp', 'mul', 'add']
    """
    closed = jax.make_jaxpr(fun)(*args)
    return tuple(dict.fromkeys(_faults(closed.jaxpr)))


def _faults(jaxpr: Any) -> Iterator[str]:
    needed = {v for v in jaxpr.outvars if is_variable(v)}
    used: list[Any] = []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or needed.intersection(eqn.outvars):
            needed.update(v for v in eqn.invars if is_variable(v))
            used.insert(0, eqn)
    consumers = _consumers(used, jaxpr.outvars)
    for eqn in used:
        yield from _faults_of(eqn, consumers)


def _consumers(eqns: list[Any], results: list[Any]) -> dict[Any, list[str]]:
    """Return the operations that are applied to each variable; reshapes count as what follows."""
    found: dict[Any, list[str]] = {v: ["the result"] for v in results if is_variable(v)}
    for eqn in reversed(eqns):
        for n, v in enumerate(eqn.invars):
            if is_variable(v):
                found.setdefault(v, []).extend(_uses(eqn, n, found))
    return found


def _uses(eqn: Any, n: int, consumers: dict[Any, list[str]]) -> list[str]:
    """Return the operations that an equation applies to its n-th input.

    The equation itself, or the operations inside a function with a gradient of its own.
    """
    if eqn.primitive.name == "reshape":
        return consumers.get(eqn.outvars[0], [])
    if eqn.primitive.name != "custom_jvp_call":
        return [eqn.primitive.name]
    inner = opened(eqn.params["call_jaxpr"])
    return _consumers(inner.eqns, inner.outvars).get(inner.invars[n], [])


def _faults_of(eqn: Any, consumers: dict[Any, list[str]]) -> Iterator[str]:
    name = eqn.primitive.name
    if name in ("jit", "pjit") and eqn.params.get("name") in _PROVED:
        return
    if name in _UNORDERED and any(_is_float(v) for v in eqn.outvars):
        yield _line(eqn)
        return
    inner = list(inner_jaxprs(eqn))
    if inner:
        for jaxpr in inner:
            yield from _faults(jaxpr)
        return
    if name in _EXACT or not any(_is_float(v) for v in eqn.outvars):
        return
    if name == "convert_element_type" and _is_exact_conversion(eqn):
        return
    if name == "scatter" and eqn.params["unique_indices"]:
        return  # each number goes to a place of its own, so no order matters
    if name in _ROUNDED_ALIKE:
        then = set(consumers.get(eqn.outvars[0], []))
        if then <= {"bitcast_convert_type"}:
            return
    yield _line(eqn)


def _is_exact_conversion(eqn: Any) -> bool:
    """Return whether a conversion to float keeps every number.

    It does from booleans, from the same or a narrower dtype, and from integers.
    """
    old, new = eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype
    return bool(old in (new, jnp.bool_) or old.itemsize < new.itemsize or old.kind in "iu")


def _line(eqn: Any) -> str:
    name, place = eqn.primitive.name, source_line(eqn)
    return f"{name} at {place}" if place else str(name)


def _is_float(v: Any) -> bool:
    return bool(jnp.issubdtype(v.aval.dtype, jnp.floating))
