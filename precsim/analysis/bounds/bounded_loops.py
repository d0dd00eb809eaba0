"""Bounds through calls, branches and loops: what they carry are numbers and their bounds."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import lax

from precsim._arrays import Array
from precsim.analysis.bounds.bounded_values import (
    Bounded,
    Walk,
    as_bounded,
    exact,
    in_float64,
    spoiled,
)
from precsim.analysis.bounds.compensated import Compensated, compensated
from precsim.transform import jaxprs
from precsim.transform.interpreter import declared, interpret
from precsim.transform.noise import fold_in
from precsim.transform.operation import Context, Operation
from precsim.transform.rules.control import CALLS, called_program, is_stochastic
from precsim.transform.values import Value, common_origin

Pairs = list[tuple[Array, Array]]


def _evaluate(program: Any, given: Sequence[Bounded], context: Context) -> list[Bounded]:
    """Return the results of a program, in its dtypes."""
    operands: Any = list(given)  # of this kind because of what the context computes with
    results: Sequence[Any] = interpret(program, operands, context)
    atoms = jaxprs.opened(program).outvars
    found = [as_bounded(result) for result in results]
    return [
        each._replace(value=declared(each.value, atom))
        for each, atom in zip(found, atoms, strict=True)
    ]


def _pairs(given: Sequence[Bounded]) -> Pairs:
    return [(each.array, each.bound) for each in given]


def _bare(given: Sequence[Bounded], op: Operation) -> list[Bounded]:
    """Return values of which is known only what they are computed from."""
    origin = common_origin(op.operands, is_backward=op.context.is_backward)
    return [Bounded(Value(each.array, origin=origin), each.bound) for each in given]


def _with_pairs(given: Sequence[Bounded], pairs: Pairs) -> list[Bounded]:
    return [
        Bounded(Value(x, origin=each.value.origin), bound)
        for each, (x, bound) in zip(given, pairs, strict=True)
    ]


def called(op: Operation, given: list[Bounded], walk: Walk) -> list[Bounded]:
    """Go through a function that is called, or that has derivatives of its own."""
    name = str(op.params.get("name", ""))
    program = called_program(op.eqn)
    is_random = "/jax/_src/random" in jaxprs.source_file(program)
    if is_random and not any(each.is_real for each in given):
        return [exact(value) for value in op.as_it_is()]
    if name.startswith("precsim.") or is_random:
        line = op.line or jaxprs.NOWHERE
        raise NotImplementedError(f"'{name}' at {line} has no running bound; allowed are JAX's own")
    return _evaluate(program, given, op.inside(name))


def branched(op: Operation, given: list[Bounded], walk: Walk) -> list[Bounded]:
    """Go through the branch that is taken; nothing is known where another one might be."""
    index, *operands = given
    after: list[list[Bounded]] = []

    def branch(program: Any, pairs: Pairs) -> Pairs:
        results = _evaluate(program, _with_pairs(operands, pairs), op.inside())
        after.append(results)
        return _pairs(results)

    branches = [partial(branch, program) for program in op.params["branches"]]
    results = lax.switch(index.array, branches, _pairs(operands))
    found = _bare(_with_pairs(after[0], results), op)
    return [spoiled(each, index.bound) for each in found]


def scanned(op: Operation, given: list[Bounded], walk: Walk) -> list[Bounded]:
    """Go through all turns of a `scan`."""
    constants, count = jaxprs.scan_counts(op.params)
    length = int(op.params["length"])
    sums = compensated(op.params["jaxpr"], constants, count) if length else []
    walk.cancelled.update(*(each.cancelled for each in sums))
    fixed, carried, rows = (
        given[:constants],
        _bare(given[constants : constants + count], op),
        given[constants + count :],
    )
    start = _with_differences(carried, sums)
    numbers = jnp.arange(length, dtype=jnp.uint32) if is_stochastic(op) else None

    def body(state: Pairs, inputs: Any) -> tuple[Pairs, Pairs]:
        number, row = inputs
        key = None if number is None else fold_in(op.context.key, number)
        values = [*fixed, *_with_pairs(carried, state), *_with_pairs(rows, row)]
        results = _evaluate(op.params["jaxpr"], values, op.inside(key=key, turns=length))
        pairs = _pairs(results)
        return pairs[: len(state)], pairs[len(state) :]

    after, stacked = lax.scan(
        body,
        _pairs(start),
        (numbers, _pairs(rows)),
        length=length,
        reverse=op.params["reverse"],
    )
    found = [Bounded(Value(x), bound) for x, bound in (*after, *stacked)]
    for n in (each.correction for each in sums):  # which is 0 in exact arithmetic
        found[n] = found[n]._replace(bound=jnp.abs(in_float64(found[n].array)))
    return _bare(found, op)


def _with_differences(carried: list[Bounded], sums: list[Compensated]) -> list[Bounded]:
    """Return what a loop carries, with bounds of sums less corrections for those of the latter."""
    start = list(carried)
    for each in sums:
        both = carried[each.total].bound + carried[each.correction].bound
        start[each.correction] = start[each.correction]._replace(bound=both)
    return start


def repeated(op: Operation, given: list[Bounded], walk: Walk) -> list[Bounded]:
    """Go through a `while_loop`; nothing is known if the exact one may have more or fewer turns."""
    params, first = op.params, op.params["cond_nconsts"]
    last = first + params["body_nconsts"]
    asked, fixed, carried = given[:first], given[first:last], _bare(given[last:], op)

    def answer(pairs: Pairs) -> tuple[Array, Array]:
        values = [*asked, *_with_pairs(carried, pairs)]
        (found,) = _evaluate(params["cond_jaxpr"], values, op.inside())
        return jnp.any(found.array), jnp.any(found.bound)

    def body(state: Any) -> Any:
        number, pairs, is_unsure, _ = state
        key = fold_in(op.context.key, number) if is_stochastic(op) else None
        values = [*fixed, *_with_pairs(carried, pairs)]
        pairs = _pairs(_evaluate(params["body_jaxpr"], values, op.inside(key=key)))
        goes_on, may_differ = answer(pairs)
        return number + 1, pairs, is_unsure | may_differ, goes_on

    start = _pairs(carried)
    goes_on, may_differ = answer(start)
    state: Any = (jnp.uint32(0), start, may_differ, goes_on)
    _, pairs, is_unsure, _ = lax.while_loop(lambda state: state[3], body, state)
    return [spoiled(each, is_unsure) for each in _with_pairs(carried, pairs)]


RULES: dict[str, Callable[[Operation, list[Bounded], Walk], list[Bounded]]] = {
    **dict.fromkeys(
        (
            *CALLS,
            *("custom_jvp_call", "custom_vjp_call", "custom_vmap_call"),
            *("remat2", "checkpoint", "remat"),
        ),
        called,
    ),
    "cond": branched,
    "scan": scanned,
    "while": repeated,
}
"""By the name of the primitive."""
