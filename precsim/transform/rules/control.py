"""Programs inside a program: loops, branches, calls, functions with derivatives of their own.

Each is built again by JAX's public function of its kind, around the interpreted inner program.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precsim._arrays import Array
from precsim.transform import jaxprs
from precsim.transform.interpreter import evaluate, without_rule
from precsim.transform.noise import fold_in
from precsim.transform.operation import Operation, rule
from precsim.transform.treatment import How
from precsim.transform.values import Origin, Value, common_origin, is_float, is_inexact, is_known
from precsim.transform.watch import NOTHING, Counts, Watch, over_turns, together, united, zeros_like

CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "call",
    "eval_jaxpr",
    "core_closed_call",
    "composite",
    "remat_opt",
)
"""They hold one program: `remat_opt` the forward rule of a `custom_vjp`."""
_PROGRAM = ("jaxpr", "call_jaxpr", "fun_jaxpr", "fwd_jaxpr", "call")


@rule(*CALLS)
def called(op: Operation) -> list[Value]:
    """Interpret the function that is called; its name becomes a scope.

    Those of `jax.random` make float32 numbers from bits, which no format but float32 can hold on
    the way: they run as they are, and their results are rounded where they are used.
    """
    if is_exempt(op):
        op.record(How.EXEMPT)
        return op.as_it_is()
    name = str(op.params.get("name", ""))
    with jax.named_scope(name) if name else nullcontext():
        return evaluate(called_program(op.eqn), op.operands, op.inside(name))


def called_program(eqn: Any) -> Any:
    """Return the one program of a call, a checkpoint, or a function with derivatives of its own."""
    return next(eqn.params[key] for key in _PROGRAM if key in eqn.params)


def is_exempt(op: Operation) -> bool:
    """Return whether a call is of precsim's own or of the samplers of `jax.random`."""
    if str(op.params.get("name", "")).startswith("precsim."):
        return True
    return "/jax/_src/random" in jaxprs.source_file(called_program(op.eqn))


@rule("custom_vmap_call", "custom_partitioning")
def with_own_vmap(op: Operation) -> list[Value]:
    """Interpret the function; its rule for `vmap`, or for devices, computes the same."""
    return evaluate(op.params["call"], op.operands, op.inside())


@rule("precsim_linear_map", "custom_lin", "rng_uniform", "random_gamma")
def left(op: Operation) -> list[Value]:
    """Leave what precsim or JAX computes by itself, and samplers."""
    op.record(How.EXEMPT)
    return op.as_it_is()


@rule("pure_callback", "io_callback")
def asked_of_the_host(op: Operation) -> list[Value]:
    """Leave calls of the host that take no floats, as checks of Equinox; refuse others."""
    floats = [value for value in op.operands if is_inexact(value.array)]
    if any(value.origin is not Origin.HOST for value in floats):
        return without_rule(op)
    op.record(How.EXEMPT)
    return [value._replace(origin=Origin.HOST) for value in op.as_it_is()]


@rule("remat2", "checkpoint", "remat")
def computed_again(op: Operation) -> list[Value]:
    """Interpret under `jax.checkpoint`: random bits depend on places, so they come out alike."""
    params, context = op.params, op.inside()
    if op.is_watched:  # of what runs forward only, nothing is computed again
        return evaluate(params["jaxpr"], op.operands, context)
    results: list[Value] = []

    def run(key: Array, *arrays: Array) -> list[Array]:
        values = with_arrays(op.operands, arrays)
        results[:] = evaluate(params["jaxpr"], values, op.inside(key=key))
        return [value.array for value in results]

    keep = jax.checkpoint(run, prevent_cse=params["prevent_cse"], policy=params["policy"])
    return known_results(keep, [context.key, *op.arrays], results)


def known_results(
    run: Callable[..., Any], arrays: Sequence[Any], results: list[Value]
) -> list[Value]:
    """Run a function that writes down, while it is traced, what is known of its results."""
    outputs = run(*arrays)
    return with_arrays(results, outputs)


def with_arrays(values: Sequence[Value], arrays: Sequence[Any]) -> list[Value]:
    """Return values of other arrays of which the same is known."""
    return [value._replace(array=x) for value, x in zip(values, arrays, strict=True)]


@rule("cond")
def branched(op: Operation) -> list[Value]:
    """Interpret each branch; what is known of a result is what all branches know."""
    index, *operands = op.operands
    arrays = [value.array for value in operands]
    known: list[list[Value]] = []

    def branch(program: Any) -> Callable[..., tuple[list[Array], Counts]]:
        def run(*arrays: Array) -> tuple[list[Array], Counts]:
            watch = watch_inside(op)
            context = op.inside(watch=watch)
            values = evaluate(program, with_arrays(operands, arrays), context)
            known.append(values)
            return [value.array for value in values], counted(watch)

        return run

    branches = [branch(program) for program in op.params["branches"]]
    if op.context.watch is not None:
        branches = united(branches, *arrays)
    outputs, counts = lax.switch(index.array, branches, *arrays)
    if op.context.watch is not None:
        op.context.watch.add(counts)
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


def watch_inside(op: Operation) -> Watch | None:
    """Return what counts in one turn, or in one branch, of an operation."""
    return None if op.context.watch is None else Watch(op.context.watch.formats)


def counted(watch: Watch | None) -> Counts:
    """Return what has been counted, as arrays that may leave a loop."""
    return NOTHING if watch is None else watch.closed()


class _Unknown(Exception):
    """A turn of a loop leaves numbers that are not known to be of the format."""


def _turn(
    op: Operation,
    program: Any,
    values: list[Value],
    carried: list[Value],
    number: Any,
    watch: Watch | None = None,
) -> list[Value]:
    """Evaluate one turn of a loop; random bits differ from turn to turn."""
    key = None if number is None else fold_in(op.context.key, number)
    turns = int(op.params.get("length", 1))
    results = evaluate(program, values, op.inside(key=key, turns=turns, watch=watch))
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

    def body(state: list[Array], row: Any) -> tuple[list[Array], tuple[list[Array], Counts]]:
        number, arrays = row
        watch = watch_inside(op)
        others = with_arrays(rows, arrays)
        values = [*fixed, *with_arrays(carried, state), *others]
        known[:] = _turn(op, params["jaxpr"], values, carried, number, watch)
        results = [value.array for value in known]
        return results[: len(state)], (results[len(state) :], counted(watch))

    start = [value.array for value in carried]
    inputs = numbers, [value.array for value in rows]
    after, (stacked, counts) = lax.scan(
        body, start, inputs, length=length, reverse=params["reverse"], unroll=params["unroll"]
    )
    if op.context.watch is not None:
        op.context.watch.add(over_turns(counts))
    return [*with_arrays(carried, after), *with_arrays(known[len(start) :], stacked)]


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
        values = [*asked, *with_arrays(carried, arrays)]
        context = op.inside(watch=watch_inside(op))  # what the condition rounds is not counted
        found: Array = evaluate(params["cond_jaxpr"], values, context)[0].array
        return found  # under vmap an array: those that have ended keep their state

    def kept(goes_on: Array, new: Array, old: Array) -> Array:
        shape = (*goes_on.shape, *[1] * (new.ndim - goes_on.ndim))
        return jnp.where(goes_on.reshape(shape), new, old)

    def body(state: Any) -> Any:
        number, arrays, counts = state
        watch = watch_inside(op)
        values = [*fixed, *with_arrays(carried, arrays)]
        results = _turn(op, params["body_jaxpr"], values, carried, number, watch)
        new = [value.array for value in results]
        if params["cond_jaxpr"].out_avals[0].ndim:
            goes_on = answer(arrays)
            new = [kept(goes_on, x, old) for x, old in zip(new, arrays, strict=True)]
        return number + np.uint32(1), new, together(counts, counted(watch))

    start = jnp.zeros((), jnp.uint32), [value.array for value in carried]
    counts = zeros_like(jax.eval_shape(lambda: body((*start, None))[2]))
    most = op.context.most_turns

    def goes_on(state: Any) -> Array:
        found = jnp.any(answer(state[1]))
        return found if most is None else found & (state[0] < most)

    turns, after, counts = lax.while_loop(goes_on, body, (*start, counts))
    if op.context.watch is not None:
        op.context.watch.add(counts)
    if op.context.count is not None:
        jax.debug.callback(partial(op.context.count, op.context.path), turns)
    return with_arrays(carried, after)


@rule("shard_map")
def on_shards(op: Operation) -> list[Value]:
    """Interpret the function of a shard on every device."""
    results: list[Value] = []

    def run(key: Array, *arrays: Array) -> tuple[Array, ...]:
        values = with_arrays(op.operands, arrays)
        context = op.inside(key=key, watch=watch_inside(op))  # counts of shards are not added up
        results[:] = evaluate(op.params["jaxpr"], values, context)
        return tuple(value.array for value in results)

    return known_results(mapped(run, op.params), [op.context.key, *op.arrays], results)


def mapped(run: Callable[..., Any], params: Any, *more: Any) -> Callable[..., Any]:
    """Return a function that runs on every device of the mesh of a `shard_map`.

    Its first argument is the same everywhere, the others are shared out as those of the
    `shard_map`, whose parameters are given. It returns a tuple: the results of the `shard_map`, and
    one for each further specification of an output.
    """
    everywhere: Any = jax.sharding.PartitionSpec
    return jax.shard_map(
        run,
        mesh=params["mesh"],
        in_specs=(everywhere(), *params["in_specs"]),
        out_specs=(*params["out_specs"], *more),
        check_vma=params["check_vma"],
        axis_names=mapped_axes(params),
    )


def mapped_axes(params: Any) -> frozenset[str]:
    """Return the axes of its mesh over which a `shard_map` shares out."""
    axes: frozenset[str] = params.get("newly_manual_axes", params.get("manual_axes", frozenset()))
    return axes
