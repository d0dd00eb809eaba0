"""Programs inside a program: loops, branches, calls, functions with derivatives of their own.

Each is built again by JAX's public function of its kind, around the interpreted inner program.
"""

import itertools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import jaxpr_as_fun

from precsim._arrays import Array
from precsim.transform import jaxprs
from precsim.transform.interpreter import evaluate, evaluate_function
from precsim.transform.noise import fold_in
from precsim.transform.operation import Context, How, Operation, rule
from precsim.transform.values import Value, common_origin, is_float, is_inexact, is_known


@rule("jit", "pjit", "closed_call", "core_call", "call", "eval_jaxpr", "core_closed_call")
def called(op: Operation) -> list[Value]:
    """Interpret the function that is called; its name becomes a scope.

    Those of `jax.random` make float32 numbers from bits, which no format but float32 can hold on
    the way: they run as they are, and their results are rounded where they are used.
    """
    name = str(op.params.get("name", ""))
    program = op.params.get("jaxpr", op.params.get("call_jaxpr"))
    if name.startswith("precsim.") or "/jax/_src/random" in jaxprs.source_file(program):
        op.record(How.EXEMPT)
        return op.as_it_is()
    with jax.named_scope(name) if name else nullcontext():
        return evaluate(program, op.operands, op.inside(name))


@rule("custom_vmap_call")
def with_own_vmap(op: Operation) -> list[Value]:
    """Interpret the function; its rule for `vmap` computes the same."""
    return evaluate(op.params["call"], op.operands, op.inside())


@rule("precsim_linear_map", "custom_lin")
def left(op: Operation) -> list[Value]:
    """Leave what precsim or JAX computes by itself."""
    op.record(How.EXEMPT)
    return op.as_it_is()


@rule("remat2", "checkpoint", "remat")
def computed_again(op: Operation) -> list[Value]:
    """Interpret under `jax.checkpoint`: random bits depend on places, so they come out alike."""
    params, context = op.params, op.inside()
    results: list[Value] = []

    def run(key: Array, *arrays: Array) -> list[Array]:
        values = _with_arrays(op.operands, arrays)
        results[:] = evaluate(params["jaxpr"], values, op.inside(key=key))
        return [value.array for value in results]

    keep = jax.checkpoint(run, prevent_cse=params["prevent_cse"], policy=params["policy"])
    return _known(keep, [context.key, *op.arrays], results)


def _known(run: Callable[..., Any], arrays: Sequence[Any], results: list[Value]) -> list[Value]:
    """Run a function that writes down, while it is traced, what is known of its results."""
    outputs = run(*arrays)
    return _with_arrays(results, outputs)


def _with_arrays(values: Sequence[Value], arrays: Sequence[Any]) -> list[Value]:
    return [value._replace(array=x) for value, x in zip(values, arrays, strict=True)]


@rule("cond")
def branched(op: Operation) -> list[Value]:
    """Interpret each branch; what is known of a result is what all branches know."""
    index, *operands = op.operands
    known: list[list[Value]] = []

    def branch(program: Any) -> Callable[..., list[Array]]:
        def run(*arrays: Array) -> list[Array]:
            values = evaluate(program, _with_arrays(operands, arrays), op.inside())
            known.append(values)
            return [value.array for value in values]

        return run

    branches = [branch(program) for program in op.params["branches"]]
    outputs = lax.switch(index.array, branches, *[value.array for value in operands])
    return [
        _joined([values[n] for values in known], y, op.context.is_backward)
        for n, y in enumerate(outputs)
    ]


def _joined(values: list[Value], array: Array, is_backward: bool) -> Value:
    formats = {value.format for value in values}
    constants = {value.constant for value in values}
    return Value(
        array,
        formats.pop() if len(formats) == 1 else None,
        constants.pop() if len(constants) == 1 else None,
        common_origin(values, is_backward=is_backward),
    )


def _supposed(values: Sequence[Value], op: Operation) -> list[Value]:
    """Return what is supposed to be known of what a loop carries.

    It is in the format of the scope, if it starts so, and computed from all that enters the loop.
    """
    fmt = op.spec.format
    origin = common_origin(op.operands, is_backward=op.context.is_backward)
    return [
        Value(v.array, fmt if is_float(v.array) and is_known(v, fmt) else None, None, origin)
        for v in values
    ]


def _still(before: Sequence[Value], after: Sequence[Value]) -> bool:
    """Return whether a turn of a loop leaves what it carries in the formats that it had."""
    pairs = zip(before, after, strict=True)
    return all(old.format is None or is_known(new, old.format) for old, new in pairs)


class _Unknown(Exception):
    """A turn of a loop leaves numbers that are not known to be of the format."""


def _turn(
    op: Operation, program: Any, values: list[Value], carried: list[Value], number: Any
) -> list[Value]:
    """Evaluate one turn of a loop; random bits differ from turn to turn."""
    key = None if number is None else fold_in(op.context.key, number)
    turns = int(op.params.get("length", 1))
    results = evaluate(program, values, op.inside(key=key, turns=turns))
    if not _still(carried, results[: len(carried)]):
        raise _Unknown
    return results


def is_stochastic(op: Operation) -> bool:
    """Return whether any rounding of the policy may need random bits: each turn has its own."""
    policies = [op.context.policy, *[rule.policy for rule in op.context.policy.rules]]
    return any("sr" in str(policy) for policy in policies)


@rule("scan")
def scanned(op: Operation) -> list[Value]:
    """Interpret the body of a `scan`."""
    return _as_known_as_possible(_scan, op, op.operands[slice(*_carry(op))])


def _carry(op: Operation) -> tuple[int, int]:
    """Return where the carried operands begin and end."""
    constants, carried = jaxprs.scan_counts(op.params)
    return constants, constants + carried


def _as_known_as_possible(
    loop: Callable[[Operation, list[Value]], list[Value]], op: Operation, start: Sequence[Value]
) -> list[Value]:
    """Run a loop with what is supposed to be known of what it carries, else with nothing known."""
    supposed = _supposed(start, op)
    try:
        return loop(op, supposed)
    except _Unknown:
        return loop(op, [value._replace(format=None) for value in supposed])


def _scan(op: Operation, carried: list[Value]) -> list[Value]:
    first, last = _carry(op)
    fixed, rows = op.operands[:first], op.operands[last:]
    known: list[Value] = []
    length, params = op.params["length"], op.params
    numbers = jnp.arange(length, dtype=jnp.uint32) if is_stochastic(op) else None

    def body(state: list[Array], row: Any) -> tuple[list[Array], list[Array]]:
        number, arrays = row
        others = _with_arrays(rows, arrays)
        values = [*fixed, *_with_arrays(carried, state), *others]
        known[:] = _turn(op, params["jaxpr"], values, carried, number)
        results = [value.array for value in known]
        return results[: len(state)], results[len(state) :]

    start = [value.array for value in carried]
    inputs = numbers, [value.array for value in rows]
    after, stacked = lax.scan(
        body, start, inputs, length=length, reverse=params["reverse"], unroll=params["unroll"]
    )
    return [*_with_arrays(carried, after), *_with_arrays(known[len(start) :], stacked)]


@rule("while")
def repeated(op: Operation) -> list[Value]:
    """Interpret the condition and the body of a `while_loop`."""
    before = op.params["cond_nconsts"] + op.params["body_nconsts"]
    return _as_known_as_possible(_while, op, op.operands[before:])


def _while(op: Operation, carried: list[Value]) -> list[Value]:
    params = op.params
    first = params["cond_nconsts"]
    asked, fixed = op.operands[:first], op.operands[first : first + params["body_nconsts"]]

    def answer(arrays: Any) -> Array:
        values = [*asked, *_with_arrays(carried, arrays)]
        found: Array = evaluate(params["cond_jaxpr"], values, op.inside())[0].array
        return found  # under vmap an array: those that have ended keep their state

    def kept(goes_on: Array, new: Array, old: Array) -> Array:
        shape = (*goes_on.shape, *[1] * (new.ndim - goes_on.ndim))
        return jnp.where(goes_on.reshape(shape), new, old)

    def body(state: Any) -> Any:
        number, arrays = state
        values = [*fixed, *_with_arrays(carried, arrays)]
        results = _turn(op, params["body_jaxpr"], values, carried, number)
        new = [value.array for value in results]
        if params["cond_jaxpr"].out_avals[0].ndim:
            goes_on = answer(arrays)
            new = [kept(goes_on, x, old) for x, old in zip(new, arrays, strict=True)]
        return number + np.uint32(1), new

    start = jnp.zeros((), jnp.uint32), [value.array for value in carried]
    _, after = lax.while_loop(lambda state: jnp.any(answer(state[1])), body, start)
    return _with_arrays(carried, after)


@rule("custom_jvp_call")
def with_own_tangent(op: Operation) -> list[Value]:
    """Interpret the function and keep its own rule for tangents, which runs as it is."""
    (_, tangent_rule), _ = jaxprs.parameters_to_bind(op.eqn)
    results: list[Value] = []

    # The key is an argument: JAX may run the rule when a loop around has been left.
    @jax.custom_jvp
    def function(key: Array, *arrays: Any) -> list[Array]:
        values = _with_arrays(op.operands, arrays)
        results[:] = evaluate(op.params["call_jaxpr"], values, op.inside(key=key))
        return [value.array for value in results]

    @function.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        outputs = tangent_rule.call_wrapped(*primals[1:], *tangents[1:])
        values = function(*primals)
        found = zip(values, outputs[len(values) :], strict=True)
        return values, [_no_tangent(y) if _is_no_array(t) else t for y, t in found]

    return _known(function, [op.context.key, *op.arrays], results)


@rule("custom_vjp_call")
def with_own_gradient(op: Operation) -> list[Value]:
    """Interpret the function, and what it computes forward and backward under differentiation."""
    (_, forward_rule, backward_rule), others = jaxprs.parameters_to_bind(op.eqn)
    count = len(op.eqn.outvars)
    results: list[Value] = []

    @jax.custom_vjp
    def function(key: Array, *arrays: Any) -> list[Array]:
        values = _with_arrays(op.operands, arrays)
        results[:] = evaluate(op.params["call_jaxpr"], values, op.inside(key=key))
        return [value.array for value in results]

    def forward(key: Any, *inputs: Any) -> Any:
        key, arrays = key.value, [x.value for x in inputs]

        def with_needs(*arrays: Any) -> Any:
            pairs = zip(arrays, inputs, strict=True)
            flat = [part for x, given in pairs for part in (x, given.perturbed)]
            return forward_rule.call_wrapped(*flat)

        values = _with_arrays(op.operands, arrays)
        found = evaluate_function(with_needs, values, op.inside(key=key))
        results[:] = found[len(found) - count :]
        kept = iter(found[: len(found) - count])
        forwarded = others["out_trees"]()[2]
        residuals = [next(kept).array if n is None else arrays[n] for n in forwarded]
        return [value.array for value in results], (key, residuals)

    def backward(residuals: Any, cotangents: Any) -> Any:
        key, saved = residuals
        if not op.params["symbolic_zeros"]:
            cotangents = [jnp.zeros(g.shape, g.dtype) if _is_no_array(g) else g for g in cotangents]
        found = _gradients(backward_rule.call_wrapped, [*saved, *cotangents], op.inside(key=key))
        pairs = zip(found, op.operands, strict=True)
        return None, *(g if is_inexact(x.array) else None for g, x in pairs)

    function.defvjp(forward, backward, symbolic_zeros=True)
    return _known(function, [op.context.key, *op.arrays], results)


def _is_no_array(x: Any) -> bool:
    """Return whether a tangent or a cotangent is a zero that is only a type."""
    return not isinstance(x, (jax.Array, np.ndarray))


def _no_tangent(y: Array) -> Any:
    """Return the zero that JAX takes as the tangent of an array."""
    if is_inexact(y):
        return jnp.zeros_like(y)
    return np.zeros(y.shape, jax.dtypes.float0)


def _gradients(run: Callable[..., Any], operands: list[Any], context: Context) -> list[Any]:
    """Interpret a rule for gradients; operands and results may be zeros that are no arrays."""
    is_zero: list[bool] = []
    values = [Value(x) for x in operands if not _is_no_array(x)]

    def arrays_of(*arrays: Any) -> list[Any]:
        given = iter(arrays)
        found = run(*(x if _is_no_array(x) else next(given) for x in operands))
        is_zero[:] = list(map(_is_no_array, found))
        return [g for g in found if not _is_no_array(g)]

    kept = iter(evaluate_function(arrays_of, values, replace(context, is_backward=True)))
    return [None if zero else next(kept).array for zero in is_zero]


@rule("custom_linear_solve")
def solved(op: Operation) -> list[Value]:
    """Interpret the solver and the product that it inverts; gradients solve by them too."""
    counts, programs = op.params["const_lengths"], op.params["jaxprs"]
    given = iter(op.operands)
    constants = [list(itertools.islice(given, count)) for count in counts]
    right = list(given)
    origin = common_origin(op.operands, is_backward=op.context.is_backward)

    def interpreted(program: Any, fixed: list[Value]) -> Callable[..., list[Array]]:
        def run(arrays: list[Array]) -> list[Array]:
            values = [*fixed, *(Value(x, origin=origin) for x in arrays)]
            return [value.array for value in evaluate(program, values, op.inside())]

        return run

    def solver(program: Any, fixed: list[Value]) -> Callable[..., Any]:
        run = interpreted(program, fixed)

        def solve(_: Any, arrays: list[Array]) -> Any:
            found = run(arrays)
            return (found[: len(right)], found[len(right) :]) if has_more else found

        return solve

    has_more = len(op.eqn.outvars) > len(right)
    is_symmetric, back = programs.vecmat is programs.matvec, programs.transpose_solve
    if is_symmetric:
        products = interpreted(programs.matvec, constants[0])
    else:  # JAX transposes the product, which it can do to the program's own
        own = [value.array for value in constants[0]]
        products = lambda arrays: jaxpr_as_fun(programs.matvec)(*own, *arrays)
    outputs = lax.custom_linear_solve(
        products,
        [value.array for value in right],
        solver(programs.solve, constants[2]),
        transpose_solve=None if back is None else solver(back, constants[3]),
        symmetric=is_symmetric,
        has_aux=has_more,
    )
    return [Value(y, None, None, origin) for y in jax.tree.leaves(outputs)]


@rule("shard_map")
def on_shards(op: Operation) -> list[Value]:
    """Interpret the function of a shard on every device."""
    params = op.params
    results: list[Value] = []

    def run(key: Array, *arrays: Array) -> tuple[Array, ...]:
        values = _with_arrays(op.operands, arrays)
        results[:] = evaluate(params["jaxpr"], values, op.inside(key=key))
        return tuple(value.array for value in results)

    everywhere: Any = jax.sharding.PartitionSpec
    mapped = jax.shard_map(
        run,
        mesh=params["mesh"],
        in_specs=(everywhere(), *params["in_specs"]),
        out_specs=tuple(params["out_specs"]),
        check_vma=params["check_vma"],
        axis_names=params.get("newly_manual_axes", params.get("manual_axes", frozenset())),
    )
    return _known(mapped, [op.context.key, *op.arrays], results)
