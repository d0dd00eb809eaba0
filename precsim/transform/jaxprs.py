"""The programs inside a JAX program: branches, loops, functions with gradients of their own.

JAX keeps them in the parameters of an equation, as a `Jaxpr` or as a `ClosedJaxpr` (from JAX 0.11
on these are one class), alone or in lists, tuples and dicts. Nothing here depends on which
parameter of which primitive has them, since names and shapes of parameters change between versions.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import compress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import ClosedJaxpr, Literal

_JAX = str(Path(jax.__file__).parent)
_WIDE = tuple(map(np.dtype, ("float64", "int64", "uint64", "complex128")))

MOVES = (
    "reshape",
    "transpose",
    "broadcast_in_dim",
    "slice",
    "dynamic_slice",
    "dynamic_update_slice",
    "concatenate",
    "pad",
    "gather",
    "squeeze",
    "expand_dims",
    "rev",
    "select_n",
    "copy",
    "copy_p",
    "name",
    "optimization_barrier",
    "split",
    "iota",
    "stop_gradient",
    "max",
    "min",
    "clamp",
    "sort",
    "reduce_max",
    "reduce_min",
)
"""Primitives that move or choose numbers and compute none, on every device alike."""


def opened(jaxpr: Any) -> Any:
    """Return the `Jaxpr` of a `ClosedJaxpr`, and any other object as it is."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def only_users(jaxpr: Any) -> dict[Any, str]:
    """Return, for each variable that one equation uses, and no result, the equation's primitive."""
    found: dict[Any, str] = {}
    for eqn in jaxpr.eqns:
        for v in filter(is_variable, eqn.invars):
            found[v] = "" if v in found else eqn.primitive.name
    return found | dict.fromkeys(filter(is_variable, jaxpr.outvars), "")


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
    """Yield all equations of a program: each one before those of the programs that it holds.

    Primitives of other libraries are spelled out.
    """
    for eqn in map(spelled_out, opened(jaxpr).eqns):
        yield eqn
        for inner in inner_jaxprs(eqn):
            yield from equations(inner)


def is_variable(atom: Any) -> bool:
    """Return whether an input of an equation is a variable; others are constants."""
    return not hasattr(atom, "val")


def parameters_to_bind(eqn: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the functions and the parameters with which to bind an equation's primitive again."""
    found = eqn.primitive.get_bind_params(eqn.params)
    if isinstance(found, tuple):  # before JAX 0.9
        return list(found[0]), found[1]
    parameters = dict(found)
    return list(parameters.pop("subfuns", ())), parameters


def bind(eqn: Any, operands: Sequence[Any]) -> list[Any]:
    """Return the results of an equation for other operands, as a list."""
    functions, parameters = parameters_to_bind(eqn)
    if functions and "subfuns" in eqn.primitive.get_bind_params(eqn.params):
        parameters["subfuns"] = tuple(functions)
        functions = []
    results = eqn.primitive.bind(*functions, *operands, **parameters)
    return list(results) if eqn.primitive.multiple_results else [results]


def spelled_out(eqn: Any) -> Any:
    """Return an equation, that of another library's primitive by the function it is written as.

    Such a primitive, as lineax's `linear_solve`, has a function of JAX for its values, and a rule
    for its tangents: a `custom_jvp_call` has both. Where no floats come out it stays as it is, and
    so does a primitive whose values JAX cannot trace. Sparse operations of `jax.experimental` are
    calls of the functions that JAX compiles them as, gradients too.
    """
    implementation = eqn.primitive.impl
    function = getattr(implementation, "func", implementation)
    library = str(getattr(function, "__module__", "jax")).partition(".")[0]
    is_ours = library in ("jax", "precsim") and _of_sparse(eqn.primitive) is None
    dtypes = [getattr(atom.aval, "dtype", np.int32) for atom in eqn.outvars]
    if is_ours or not any(jnp.issubdtype(dtype, jnp.inexact) for dtype in dtypes):
        return eqn
    return _as_function(eqn)


@lru_cache(maxsize=1 << 10)  # one equation each time, by which `Context.records` knows it
def _as_function(eqn: Any) -> Any:
    primitive, params, sparse = eqn.primitive, eqn.params, _of_sparse(eqn.primitive)

    def listed(results: Any) -> list[Any]:
        return list(results) if primitive.multiple_results else [results]

    def called(*arrays: Any) -> list[Any]:
        return listed(sparse(*arrays, **params))

    @jax.custom_jvp
    def run(*arrays: Any) -> list[Any]:
        program = jax.make_jaxpr(lambda *xs: listed(primitive.impl(*xs, **params)))(*arrays)
        return _without_guards(program, arrays)

    @partial(run.defjvp, symbolic_zeros=True)
    def derivative(primals: Any, tangents: Any) -> Any:
        moves = [not isinstance(t, SymbolicZero) for t in tangents]

        def bound(*moving: Any) -> list[Any]:
            given = iter(moving)
            arrays = (next(given) if m else x for x, m in zip(primals, moves, strict=True))
            return listed(primitive.bind(*arrays, **params))

        moving, directions = (list(compress(part, moves)) for part in (primals, tangents))
        return jax.jvp(bound, moving, directions)

    # In the 64-bit mode of the program, which `analyze` leaves for its reference.
    is_wide = any(
        getattr(atom.aval, "dtype", np.dtype(np.int32)) in _WIDE
        for atom in (*eqn.invars, *eqn.outvars)
    )
    try:
        with jax.enable_x64(is_wide):
            whole: Any = run if sparse is None else jax.jit(called)
            program = jax.make_jaxpr(whole)(*[atom.aval for atom in eqn.invars])
    except Exception:  # noqa: BLE001 (of others; it is no function of JAX's tracers)
        return eqn
    (made,), jaxpr = program.eqns, program.jaxpr
    pairs = zip(jaxpr.constvars, program.consts, strict=True)
    literal: Callable[..., Any] = Literal
    atoms = {v: literal(constant, v.aval) for v, constant in pairs}
    atoms.update(zip(jaxpr.invars, eqn.invars, strict=True))
    invars = [atoms[v] for v in made.invars]
    return made.replace(invars=invars, outvars=eqn.outvars, source_info=eqn.source_info)


def _of_sparse(primitive: Any) -> Any:
    """Return the function that JAX compiles an operation of `jax.experimental.sparse` as."""
    kind = primitive.name.partition("_")[0]
    module = sys.modules.get(f"jax.experimental.sparse.{kind}")
    return getattr(module, f"_{primitive.name}_impl", None)


def _without_guards(program: Any, arrays: Sequence[Any]) -> list[Any]:
    """Run a program without what Equinox has in it against derivatives of constants it captures."""
    known = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    known.update(zip(program.jaxpr.invars, arrays, strict=True))
    read = lambda atom: known[atom] if is_variable(atom) else atom.val
    for eqn in program.jaxpr.eqns:
        operands = list(map(read, eqn.invars))
        results = operands if eqn.primitive.name == "nontraceable" else bind(eqn, operands)
        known.update(zip(eqn.outvars, results, strict=True))
    return list(map(read, program.jaxpr.outvars))


def applied_by(eqn: Any) -> Any:
    """Return the program that a `scatter` applies to the numbers there; None if it sets numbers."""
    program = eqn.params.get("update_jaxpr") if eqn.primitive.name == "scatter" else None
    if program is None:
        return None
    consts = eqn.params.get("update_consts", getattr(program, "consts", ()))
    return ClosedJaxpr(opened(program), consts)


def scan_counts(params: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many operands of a `scan` are constants, and how many are carried."""
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    constants, carried, _ = params["ft_in"].unpack()  # from JAX 0.11 on
    return len(constants), len(carried)


def cotangents_of(found: Any) -> list[Any]:
    """Return the cotangents that a backward rule has found; JAX 0.11.2 returns logs beside them."""
    is_pair = isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], list)
    return list(found[0] if is_pair else found)


NOWHERE = "a place that JAX does not tell"
_OWN = str(Path(__file__).parent.parent)
_CALLING = str(Path(__file__).parent / "tracing.py"), __file__


def source_line(eqn: Any) -> str:
    """Return the user's file, line and function that an equation stems from, or nothing."""
    from jax._src import source_info_util  # no public way to a source line

    line = str(source_info_util.summarize(eqn.source_info))
    if not line.startswith(_OWN):
        return line
    # What precsim's functions compute stems from the line that calls them. There is none where
    # precsim itself calls the function that is traced, or spells out a primitive of others.
    for each in reversed(source_info_util.summarize(eqn.source_info, 1 << 10).split("\n")):
        if not each.startswith(_OWN):
            return str(each)
        if each.startswith(_CALLING):
            break
    return ""


def source_file(jaxpr: Any) -> str:
    """Return the file and line of the function that a program was traced from, or nothing."""
    source = getattr(getattr(opened(jaxpr), "debug_info", None), "func_src_info", None)
    return str(source or "").partition(" at ")[2].replace("\\", "/")


def jax_calls(eqn: Any) -> tuple[str, ...]:
    """Return the functions of JAX between the user's line and an equation, outermost first.

    There are none if JAX itself made the equation, in a program that it keeps for later calls.
    """
    traceback = eqn.source_info.traceback
    names: list[str] = []
    for frame in traceback.frames if traceback is not None else ():
        if not frame.file_name.startswith(_JAX):
            return tuple(reversed(names))
        names.append(frame.function_name)
    return ()


_WRAPPER = re.compile(r"\b(?:transpose|jvp|vmap|remat|checkpoint|rematted_computation)\(([^()]*)\)")


@lru_cache(maxsize=1 << 14)
def scope_of(name_stack: Any) -> tuple[str, bool]:
    """Return the named scopes of an equation, joined by "/", and whether it is of a backward pass.

    Transformations leave their names around the scopes, as in ``transpose(jvp(layer))/dense``.
    """
    text = str(name_stack)
    is_backward = "transpose(" in text
    while text != (inner := _WRAPPER.sub(r"\1", text)):
        text = inner
    parts = [part for part in text.split("/") if part and part != "rematted_computation"]
    return "/".join(parts), is_backward


_LIBRARIES = re.compile(r"/(jax/_src|flax|haiku|equinox)/")


@lru_cache(maxsize=1 << 12)
def library_functions(traceback: Any) -> tuple[str, ...]:
    """Return the called functions of JAX and of libraries of layers, outermost first.

    Not all of them leave a named scope: `jax.nn.softmax` does not.
    """
    frames = () if traceback is None else traceback.frames
    return tuple(f.function_name for f in reversed(frames) if _LIBRARIES.search(f.file_name))


def scopes(jaxpr: Any, scope: str = "") -> Iterator[str]:
    """Yield the scope of every equation of a program, also inside the programs that it holds."""
    for eqn in map(spelled_out, opened(jaxpr).eqns):
        inner = "/".join(filter(None, (scope, scope_of(eqn.source_info.name_stack)[0])))
        yield inner
        yield from inner_scopes(eqn, inner)


def inner_scopes(eqn: Any, scope: str) -> Iterator[str]:
    """Yield the scopes inside the programs that an equation holds; its own is given."""
    held = list(inner_jaxprs(eqn))
    name = str(eqn.params.get("name", "")) if held else ""
    for program in held:
        yield from scopes(program, "/".join(filter(None, (scope, name))))
