"""A program in the arithmetic of the reference: every number as wide as the reference's dtype."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precsim._arrays import Array, bitcast
from precsim.transform import jaxprs
from precsim.transform.rules.control import CALLS, called_program, mapped
from precsim.transform.textbook import applied
from precsim.transform.values import is_float

_SCATTERS: dict[str, Callable[..., Array]] = {
    "scatter": lax.scatter,
    "scatter-add": lax.scatter_add,
    "scatter_add": lax.scatter_add,
    "scatter-sub": lax.scatter_sub,
    "scatter_sub": lax.scatter_sub,
    "scatter-mul": lax.scatter_mul,
    "scatter_mul": lax.scatter_mul,
    "scatter-min": lax.scatter_min,
    "scatter_min": lax.scatter_min,
    "scatter-max": lax.scatter_max,
    "scatter_max": lax.scatter_max,
}
"""They hold a program for two numbers of the dtype that the program has."""

_LEAVING = ("reduce_precision", "stop_gradient", "optimization_barrier", "copy", "copy_p", "name")
"""The reference does not round where the program asks for it, and differentiates everything."""

HOST = ("pure_callback", "io_callback")
"""JAX does not differentiate calls of the host."""

_NARROW = ("bitcast_convert_type", "nextafter", *HOST)
"""They depend on the dtype, so they see numbers of the program's own."""

INLINED = (
    *(*CALLS, "custom_vmap_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"),
    *("remat2", "checkpoint", "remat", "custom_linear_solve"),
)
"""They hold one program, which runs once."""

_HOLDING = (*INLINED, "scan", "while", "cond", "shard_map")

Count: TypeAlias = Callable[[str, Any], None]


def widen(x: Any, dtype: Any) -> Any:
    """Return numbers in a wide dtype, exactly; arrays without such numbers as they are.

    A conversion of XLA would take subnormals of float32 for zeros.
    """
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        return x.astype(jnp.result_type(dtype, jnp.complex64))
    if not is_float(x) or x.dtype == dtype:
        return x
    if x.dtype != np.float32:
        x = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    if x.dtype != np.float32 or dtype == np.float32:
        return x.astype(dtype)
    bits = bitcast(x, np.uint32)
    magnitude = bits & np.uint32(0x7FFFFFFF)
    small = magnitude.astype(dtype) * np.asarray(2.0**-149, dtype)
    small = jnp.where(bits > magnitude, -small, small)
    return jnp.where(magnitude < np.uint32(0x800000), small, x.astype(dtype))


def inlined_program(eqn: Any) -> Any:
    """Return the one program that an equation holds, and runs once on all its last operands."""
    if eqn.primitive.name == "custom_linear_solve":
        return eqn.params["jaxprs"].solve
    return called_program(eqn)


def inlined_operands(eqn: Any, operands: list[Any]) -> list[Any]:
    """Return those operands that the one program takes."""
    if eqn.primitive.name != "custom_linear_solve":
        return operands
    counts = list(eqn.params["const_lengths"])
    first, right = sum(counts[:2]), sum(counts)
    return [*operands[first : first + counts[2]], *operands[right:]]


def bind_wide(eqn: Any, arrays: Sequence[Any], dtype: Any) -> list[Any]:
    """Return the results of an operation that holds no loop, of numbers in a wide dtype."""
    name, params = eqn.primitive.name, eqn.params
    if name in _LEAVING:
        return list(arrays)
    if name == "convert_element_type" and jnp.issubdtype(params["new_dtype"], jnp.inexact):
        wanted = _wide_dtype(params["new_dtype"], dtype)
        (x,) = arrays
        return [widen(x, wanted) if is_float(x) else jnp.asarray(x).astype(wanted)]
    if name in _SCATTERS:
        return [_scattered(eqn, arrays, dtype)]
    if name == "clamp":  # whose derivative JAX (0.10.2) has for bounds of the operand's shape only
        arrays = [jnp.broadcast_to(x, arrays[1].shape) for x in arrays]
    holds_program = next(jaxprs.inner_jaxprs(eqn), None) is not None
    is_inexact = any(jnp.issubdtype(x.dtype, jnp.inexact) for x in arrays)
    if holds_program or name in _NARROW or not is_inexact:
        pairs = zip(arrays, eqn.invars, strict=True)
        return [widen(y, dtype) for y in jaxprs.bind(eqn, [_as_declared(x, v) for x, v in pairs])]
    changes = {k: _wide_dtype(v, dtype) for k, v in params.items() if _is_inexact_dtype(v)}
    if "precision" in params:
        changes["precision"] = None
    results = jaxprs.bind(eqn.replace(params={**params, **changes}), arrays)
    return [widen(y, dtype) for y in results]  # an operation may know one dtype only


def _is_inexact_dtype(value: Any) -> bool:
    is_dtype = isinstance(value, (np.dtype, type, type(jnp.float32)))
    return is_dtype and bool(jnp.issubdtype(value, jnp.inexact))


def _wide_dtype(declared: Any, dtype: Any) -> Any:
    """Return the wide dtype in place of one of real or of complex numbers."""
    is_complex = jnp.issubdtype(declared, jnp.complexfloating)
    return jnp.result_type(dtype, jnp.complex64) if is_complex else dtype


def _as_declared(x: Any, atom: Any) -> Any:
    dtype = getattr(atom.aval, "dtype", None)
    is_other = dtype is not None and jnp.issubdtype(dtype, jnp.inexact) and x.dtype != dtype
    return x.astype(dtype) if is_other else x


def _scattered(eqn: Any, arrays: Sequence[Any], dtype: Any) -> Array:
    params, program = eqn.params, jaxprs.applied_by(eqn)
    if program is not None:
        function = jax.vmap(lambda x: evaluate_wide(program, [x, x], dtype)[0])
        target, indices, updates = arrays
        return applied(function, target, indices, updates, params)
    return _SCATTERS[eqn.primitive.name](
        *arrays,
        params["dimension_numbers"],
        indices_are_sorted=params["indices_are_sorted"],
        unique_indices=params["unique_indices"],
        mode=params["mode"],
    )


def evaluate_wide(
    program: Any, arrays: Sequence[Any], dtype: Any, count: Count | None = None, path: str = ""
) -> list[Any]:
    """Return the results of a program, every number in a wide dtype, on its own branches.

    What is to count is told the path of each `while_loop` that ends, and how many turns it took.
    """
    jaxpr = jaxprs.opened(program)
    known: dict[Any, Any] = {}
    constants = getattr(program, "consts", ())
    known.update(zip(jaxpr.constvars, (widen(c, dtype) for c in constants), strict=True))
    known.update(zip(jaxpr.invars, (widen(x, dtype) for x in arrays), strict=True))

    def read(atom: Any) -> Any:
        if jaxprs.is_variable(atom):
            return known[atom]
        return widen(np.asarray(atom.val, atom.aval.dtype), dtype)

    for n, eqn in enumerate(map(jaxprs.spelled_out, jaxpr.eqns)):
        inside = partial(evaluate_wide, dtype=dtype, count=count, path=f"{path}/{n}")
        if eqn.primitive.name in _HOLDING:
            results = _held(eqn, list(map(read, eqn.invars)), inside)
        else:
            results = bind_wide(eqn, list(map(read, eqn.invars)), dtype)
        known.update(zip(eqn.outvars, results, strict=True))
    return list(map(read, jaxpr.outvars))


def _held(eqn: Any, arrays: list[Any], inside: Any) -> list[Any]:
    """Return the results of an operation that holds programs, which are run by a function."""
    name, params = eqn.primitive.name, eqn.params
    if name == "scan":
        return _scanned(params, arrays, inside)
    if name == "while":
        return _repeated(params, arrays, inside)
    if name == "shard_map":
        run = lambda _, *x: tuple(inside(params["jaxpr"], x))
        return list(mapped(run, params)((), *arrays))
    if name == "cond":
        index, *others = arrays
        runs = [lambda *x, program=program: inside(program, x) for program in params["branches"]]
        return list(lax.switch(index, runs, *others))
    found: list[Any] = inside(inlined_program(eqn), inlined_operands(eqn, arrays))
    return found


def _scanned(params: Any, arrays: list[Any], inside: Any) -> list[Any]:
    constants, carried = jaxprs.scan_counts(params)
    fixed, rows = arrays[:constants], arrays[constants + carried :]

    def body(state: list[Any], row: list[Any]) -> tuple[list[Any], list[Any]]:
        results = inside(params["jaxpr"], [*fixed, *state, *row])
        return results[:carried], results[carried:]

    start = arrays[constants : constants + carried]
    after, stacked = lax.scan(body, start, rows, length=params["length"], reverse=params["reverse"])
    return [*after, *stacked]


def _repeated(params: Any, arrays: list[Any], inside: Any) -> list[Any]:
    first = params["cond_nconsts"]
    before = first + params["body_nconsts"]
    asked, fixed = arrays[:first], arrays[first:before]

    def answer(state: Any) -> Any:
        return inside(params["cond_jaxpr"], [*asked, *state])[0]

    def body(state: Any) -> Any:
        turns, arrays = state
        new = inside(params["body_jaxpr"], [*fixed, *arrays])
        return turns + np.uint32(1), kept(answer(arrays), new, arrays)

    start = jnp.zeros((), jnp.uint32), arrays[before:]
    turns, after = lax.while_loop(lambda state: jnp.any(answer(state[1])), body, start)
    count, path = inside.keywords["count"], inside.keywords["path"]
    if count is not None:
        jax.debug.callback(partial(count, path), turns)
    return list(after)


def kept(goes_on: Any, new: Any, old: Any) -> Any:
    """Return the new state of the loops that go on, of a batch of them, and the old of the rest."""
    if not goes_on.ndim:
        return new

    def one(x: Any, y: Any) -> Array:
        return jnp.where(goes_on.reshape(*goes_on.shape, *[1] * (x.ndim - goes_on.ndim)), x, y)

    return jax.tree.map(one, new, old)
